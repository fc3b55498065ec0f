"""What the command line does with a recipe: run it, show it resolved, plan it."""

from __future__ import annotations

from pathlib import Path

from edgeproof.failures import is_out_of_memory, smaller_batch
from edgeproof_configs.yaml_text import to_yaml


def resolved(recipe: str, overrides: list[str]) -> str:
    """Return the resolved recipe as YAML, with the origin of each value behind it."""
    from edgeproof_configs.loader import load_recipe

    loaded = load_recipe(recipe, overrides)
    return to_yaml(loaded.plain, loaded.provenance)


def plan(recipe: str, overrides: list[str], run: Path | None) -> str:
    """Return what a recipe would do and need, having checked its shapes; nothing runs."""
    from edgeproof.plan import describe
    from edgeproof_configs.loader import load_recipe

    return describe(load_recipe(recipe, overrides), run)


def ship(
    recipe: str,
    overrides: list[str],
    run: Path | None,
    start: str | None,
    until: str | None,
    device: str | None,
    strict: bool,
) -> int:
    """Run the stages of a recipe and return the exit code.

    Raises:
        EdgeproofError: with the batch size to try, if memory ran out; and whatever a stage raises.
    """
    from edgeproof.ship import ship as run_stages

    try:
        return run_stages(
            recipe, overrides=overrides, run=run, start=start, until=until, device=device, strict=strict
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        from edgeproof_configs.loader import load_recipe

        raise smaller_batch(error, load_recipe(recipe, overrides).recipe.train.batch_size) from error
