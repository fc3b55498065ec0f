"""What `ship` says about a recipe without running it: its settings and where they came from, or the plan."""

from __future__ import annotations

from pathlib import Path

from edgeproof_configs.yaml_text import to_yaml


def resolved(recipe: str, overrides: list[str]) -> str:
    """Return the resolved recipe as YAML, with the origin of each value behind it."""
    from edgeproof_configs.loader import load_recipe

    loaded = load_recipe(recipe, overrides)
    return to_yaml(loaded.plain, loaded.provenance)


def plan(recipe: str, overrides: list[str], run: Path | None, start: str | None = None) -> str:
    """Return what a recipe would do and need, having checked its shapes; nothing runs."""
    from edgeproof.plan import describe
    from edgeproof_configs.loader import load_recipe

    return describe(load_recipe(recipe, overrides), run, start)
