"""`evaluate`: every metric that fits the data, of a run's teacher and student, or of weights."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_json
from edgeproof_configs.run import RunDir, require_run

if TYPE_CHECKING:
    from edgeproof.evaluation.figures import Answers, Figures
    from edgeproof.evaluation.subject import Subject

SPLITS = ("train", "val", "test")
FOLDER = "evaluate"


def evaluate(
    place: str,
    *,
    split: str = "test",
    device: str | None = None,
    tta: bool = False,
    fine: Path | None = None,
    coarse: Path | None = None,
    weights: Path | None = None,
    overrides: list[str] | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> int:
    """Score a student on a part of its data, print the figures, write the tables and return 0.

    Args:
        place: the run; with `weights` a recipe.
        split: `train`, `val` or `test`.
        device: where torch works; a GPU if there is one.
        tta: score ten views of each image as well, in a column of its own.
        fine: csv `path,label` to verify by, in place of the data's own labels.
        coarse: csv `path,label` of coarser labels to verify by, too.
        weights: a folder with a student that was trained elsewhere.
        overrides: `key=value` settings of the recipe.
        out: where the tables go; `RUN/evaluate/SPLIT` unless given, and nowhere for weights.
        as_json: print JSON.

    Raises:
        UsageError: this is no run, its student has not been trained, there is no such part, or an option
            does not fit.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown part '{split}', expected one of {', '.join(SPLITS)}")
    if weights is None and overrides:
        raise UsageError(
            "--set has no effect on a run", where=place, fix="leave it away, or name a recipe and --weights"
        )
    run = require_run(Path(place)) if weights is None else None
    folder = run.path / FOLDER / split if out is None and run else out
    subject = subject_of(place, run, weights, overrides or [], device)
    found, student = score(subject, split, tta)
    if folder is not None:
        write_tables(folder, found, student)
    print(json.dumps(found, indent=2) if as_json else table(found))
    if folder is not None and not as_json:
        print(f"tables: {folder}")
    return 0


def subject_of(
    place: str, run: RunDir | None, weights: Path | None, overrides: list[str], device: str | None
) -> Subject:
    """Return the student of a run, or weights under a recipe."""
    from edgeproof.evaluation.subject import of_run, of_weights
    from edgeproof.ship import choose_device

    with redirect_stdout(sys.stderr):
        chosen = choose_device(device)
    if run is not None:
        return of_run(run, chosen)
    assert weights is not None
    return of_weights(place, overrides, weights, chosen)


def score(subject: Subject, split: Any, tta: bool = False) -> tuple[dict[str, Figures], Answers]:
    """Return a column of figures for each model, and what the student said."""
    from edgeproof.evaluation.figures import Answers, accuracy, against_teacher, answers_of, tta_answers_of

    images = subject.images(split)
    student = answers_of(subject, images)
    rows = subject.teacher(split, images) if subject.teacher is not None else None
    found = {"student": accuracy(student, rows)}
    if rows is not None:
        teacher = Answers(subject, images, rows, None if subject.class_scores else rows)
        found = {"teacher": accuracy(teacher, None), "student": found["student"]}
        found["student"] |= against_teacher(student, teacher)
    if tta:
        name, answers = tta_answers_of(subject, images)
        found[f"student {name}"] = accuracy(answers, rows)
    return found, student


def write_tables(folder: Path, found: dict[str, Figures], student: Answers) -> None:
    """Write the figures, the tables of classes and images, and the embeddings."""
    from edgeproof.evaluation.tables import write_classes, write_confusion, write_features, write_images

    write_json(folder / "metrics.json", found)
    if student.features is not None:
        write_features(folder, student.features, student.images)
    at = student.labelled
    if not len(at):
        return
    names, true, predicted = student.subject.words.names, student.true[at], student.predicted[at]
    write_classes(folder / "per_class.csv", names, true, predicted)
    write_confusion(folder / "confusion.csv", names, true, predicted)
    paths = [student.images.paths[i] for i in at]
    write_images(folder, paths, names, true, predicted, student.certainty[at])


def table(found: dict[str, Figures]) -> str:
    """Return a line for each metric with a column for each model; shares with four digits."""
    metrics = list(dict.fromkeys(name for figures in found.values() for name in figures))
    width = max(map(len, metrics), default=0)
    widths = {model: max(8, len(model)) for model in found}
    head = " " * width + "".join(f"  {model:>{widths[model]}}" for model in found)
    lines = [
        f"{metric:<{width}}"
        + "".join(f"  {_figure(figures.get(metric)):>{widths[model]}}" for model, figures in found.items())
        for metric in metrics
    ]
    return "\n".join([head, *lines])


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) and value > 1 else f"{value:.4f}"
