"""`evaluate`: every metric that fits the data, of a run's teacher and student."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import FileTable
from edgeproof_configs.loader import load_recipe
from edgeproof_configs.run import RunDir, require_run
from edgeproof_configs.stage import StageContext

SPLITS = ("train", "val", "test")


def evaluate(place: Path, split: str, device: str | None, as_json: bool) -> int:
    """Score a run's teacher and student on a part of its data, print the figures and return 0.

    Args:
        place: the run.
        split: `train`, `val` or `test`.
        device: where torch works; a GPU if there is one.
        as_json: print JSON.

    Raises:
        UsageError: this is no run, its student has not been trained, or there is no such part.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown part '{split}', expected one of {', '.join(SPLITS)}")
    run = require_run(place)
    if run.record("train") is None:
        raise UsageError(
            "the student of this run has not been trained", where=place, fix="edgeproof ship RECIPE"
        )
    found = score(run, split, device)
    print(json.dumps(found, indent=2) if as_json else table(found))
    return 0


def score(run: RunDir, split: Any, device: str | None) -> dict[str, dict[str, float]]:
    """Return the metrics of the teacher and of the student on a part of a run's data."""
    from edgeproof.ship import choose_device
    from edgeproof_train.distil import evaluation, teacher_metrics
    from edgeproof_train.run_data import RunData
    from edgeproof_train.student import Student

    recipe = load_recipe(str(run.path / "recipe.resolved.yaml")).recipe
    files = FileTable(run.path / "files.tsv")
    with redirect_stdout(sys.stderr):
        chosen = choose_device(device)
    data = RunData(StageContext(recipe, run, chosen, strict=False, files=files))
    student = Student.load(run.stage("train"))
    return {"teacher": teacher_metrics(data, split), "student": evaluation(data, split)(student)}


def table(found: dict[str, dict[str, float]]) -> str:
    """Return a line for each metric with a column for each model; shares with four digits."""
    metrics = list(dict.fromkeys(name for figures in found.values() for name in figures))
    width = max(map(len, metrics), default=0)
    head = " " * width + "".join(f"  {model:>8}" for model in found)
    rows = [[_figure(figures.get(metric)) for figures in found.values()] for metric in metrics]
    lines = [
        f"{metric:<{width}}" + "".join(f"  {cell:>8}" for cell in row) for metric, row in zip(metrics, rows)
    ]
    return "\n".join([head, *lines])


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) and value > 1 else f"{value:.4f}"
