"""`--seeds N`: the same recipe several times, and what its figures come to as mean and deviation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeproof.ship import say, ship
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import read_json, write_json
from edgeproof_configs.loader import peek_name
from edgeproof_configs.run import RunDir

SUMMARY_FILE = "seeds.json"
TRAINING = ("best", "last")

Figures = dict[str, list[float]]


def ship_seeds(
    recipe: str, *, seeds: int, overrides: list[str], run: Path | None = None, **options: Any
) -> int:
    """Run a recipe with `train.seed` 0, 1, … and write `seeds.json` beside the runs.

    Args:
        recipe: a file or the name of a shipped recipe.
        seeds: how many.
        overrides: `key=value` settings that win over the file.
        run: the folder that receives `seed-0`, `seed-1`, …; `runs/<recipe name>` if None.
        options: of `ship`.

    Returns:
        0; failures are raised as errors that carry their exit code. What was done before one stays, and the
        same command goes on after it.

    Raises:
        UsageError: the seed is set by hand as well.
    """
    if any(override.split("=")[0].strip() == "train.seed" for override in overrides):
        raise UsageError(
            "--seeds sets train.seed itself", where="--set train.seed", fix="leave one of them away"
        )
    base = run or Path("runs") / peek_name(recipe, overrides)
    for seed in range(seeds):
        say(f"seed {seed} ({seed + 1} of {seeds})")
        ship(recipe, overrides=[*overrides, f"train.seed={seed}"], run=base / f"seed-{seed}", **options)
    found = summarise([RunDir(base / f"seed-{seed}") for seed in range(seeds)])
    write_json(base / SUMMARY_FILE, {"seeds": seeds, "figures": found})
    say("")
    say(table(found, seeds))
    say(f"{base / SUMMARY_FILE}")
    return 0


def summarise(runs: list[RunDir]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return mean, sample deviation and values of every figure that all runs have.

    Returns:
        `{"train best val": {"top1": {"mean", "std", "values"}}, "test student": …}`: the epoch that `val`
        chose, the last one, and each form of the student on the test images where they were verified.
    """
    each = [figures_of(run) for run in runs]
    common = [row for row in each[0] if all(row in figures for figures in each)]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in common:
        names = [name for name in each[0][row] if all(name in figures[row] for figures in each)]
        found[row] = {name: spread([figures[row][name] for figures in each]) for name in names}
    return found


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Return the mean, the sample standard deviation (0 for one value) and the values."""
    listed = [float(value) for value in values]
    deviation = statistics.stdev(listed) if len(listed) > 1 else 0.0
    return {"mean": statistics.fmean(listed), "std": deviation, "values": listed}


def figures_of(run: RunDir) -> dict[str, dict[str, float]]:
    """Return the figures of one run, by row."""
    found: dict[str, dict[str, float]] = {}
    trained = run.record("train")
    if trained is not None:
        found |= {f"train, {which} epoch, val": trained.metrics[which] for which in TRAINING}
    if (run.path / "result.json").exists():
        for row in read_json(run.path / "result.json")["rows"]:
            if row.get("metrics"):
                name = " ".join(part for part in (row["form"], row.get("engine") or "") if part)
                found[f"test, {name}"] = row["metrics"]
    return found


def table(found: dict[str, dict[str, dict[str, Any]]], seeds: int) -> str:
    """Return a line for each row: shares in percent, mean ± deviation."""
    shown = ("top1", "top5", "mean_per_class", "map", "map_unseen", "cosine_mean")
    lines = []
    for row, figures in found.items():
        cells = [
            f"{name} {100 * figures[name]['mean']:.2f} ± {100 * figures[name]['std']:.2f}"
            for name in shown
            if name in figures
        ]
        lines.append(f"{row:<32} {', '.join(cells)} (n = {seeds})")
    return "\n".join(lines)
