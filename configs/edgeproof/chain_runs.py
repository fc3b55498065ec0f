"""Running the chain of a recipe: once, or once for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeproof.options import (
    DeviceOption,
    RecipeArgument,
    RunOption,
    SeedsOption,
    SetOption,
    StrictOption,
)


def run_chain(recipe: str, seeds: int | None, **options: Any) -> int:
    """Run stages once, or once for each seed."""
    if seeds is None:
        from edgeproof.ship import ship

        return ship(recipe, **options)
    from edgeproof.seeds import ship_seeds

    return ship_seeds(recipe, seeds=seeds, **options)


def stage_command(stage: str, text: str) -> Callable[..., int]:
    """Return the command that runs one stage, and what it still needs."""

    def command(
        recipe: RecipeArgument,
        run: RunOption = None,
        overrides: SetOption = None,
        device: DeviceOption = None,
        strict: StrictOption = False,
        seeds: SeedsOption = None,
    ) -> int:
        return run_chain(
            recipe, seeds, overrides=overrides or [], run=run, until=stage, device=device, strict=strict
        )

    command.__doc__ = text
    return command
