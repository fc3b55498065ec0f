"""Running the chain of a recipe: once, or once for each seed."""

from __future__ import annotations

from typing import Any


def run_chain(recipe: str, seeds: int | None, **options: Any) -> int:
    """Run stages once, or once for each seed."""
    if seeds is None:
        from edgeproof.ship import ship

        return ship(recipe, **options)
    from edgeproof.seeds import ship_seeds

    return ship_seeds(recipe, seeds=seeds, **options)
