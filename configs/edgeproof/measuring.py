"""What `bench` was asked for: two to compare, a bundle, or a stage of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeproof.bundles import is_bundle, refuse_options
from edgeproof_configs.errors import UsageError


@dataclass(frozen=True)
class Measuring:
    """Options of `bench` that hold for bundles and comparisons; None or nothing leaves the choice to them."""

    seconds: float | None = None
    batches: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    engines: tuple[str, ...] = ()
    threads: int | None = None
    traces: Path | None = None
    rebuild: bool = False
    as_json: bool = False

    def given(self) -> dict[str, Any]:
        """Return those that were given, as keyword arguments."""
        return {name: value for name, value in asdict(self).items() if value not in (None, (), False)}


def measure(
    place: str | None, compare: tuple[str, str] | None, asked: Measuring, chain: Mapping[str, object]
) -> int | None:
    """Measure two models or a bundle and return the exit code; None where a recipe's stage is meant.

    Args:
        place: the recipe or the bundle.
        compare: two to compare instead.
        asked: options of bundles and comparisons.
        chain: options of a recipe's stages, by name.

    Raises:
        UsageError: nothing to measure was named, or an option has no effect on what was.
    """
    if compare is not None:
        if place is not None:
            raise UsageError(f"--compare takes two, and '{place}' is a third", fix="leave one away")
        refuse_options(chain, "a comparison")
        return compare_two(compare, asked)
    if place is None:
        raise UsageError("nothing to measure", fix="edgeproof bench RECIPE, BUNDLE or --compare A B")
    if is_bundle(Path(place)):
        from edgeproof.bundle_bench import BenchOptions, bench

        refuse_options(chain)
        return bench(Path(place), BenchOptions(**asked.given()))
    refuse_options(
        {f"--{OPTIONS.get(name, name)}": value for name, value in asked.given().items()},
        "a recipe, which has its part bench and deploy.batch",
    )
    return None


OPTIONS = {"batches": "batch", "engines": "engine", "as_json": "json"}


def compare_two(places: tuple[str, str], asked: Measuring) -> int:
    """Compare two models and return the exit code.

    Raises:
        UsageError: an option has no effect on a comparison.
    """
    from edgeproof.comparison import CompareOptions, compare

    alone = {"--traces": asked.traces, "--rebuild": asked.rebuild, "--streams": asked.streams}
    refuse_options(alone | {"--engine": asked.engines}, "a comparison: write A@ENGINE, if that is meant")
    if len(asked.batches) > 1:
        raise UsageError("--compare measures one batch size", fix="leave one --batch away")
    given = asked.given()
    sizes = given.pop("batches", None)
    return compare(*places, CompareOptions(**given, **({"batch": sizes[0]} if sizes else {})))
