"""`evaluate`: every metric that fits the data, of a run's teacher and student, or of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeproof.processes import Processes
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import write_json
from edgeproof_configs.run import RunDir, require_run

if TYPE_CHECKING:
    from edgeproof.evaluation.answers import Answers
    from edgeproof.evaluation.figures import Figures, LabelSets
    from edgeproof.evaluation.retrieval import Retrieval
    from edgeproof.evaluation.searches import Searches
    from edgeproof.evaluation.subject import Subject
    from edgeproof_train.verification import Verification

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
    gallery: Path | None = None,
    query_views: int | None = None,
    as_json: bool = False,
) -> int:
    """Score a student on a part of its data, print the figures, write the tables and return 0.

    Under `torchrun` the processes share the images; the first one counts, prints and writes.

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
        gallery: a folder of other objects to search in, too.
        query_views: search with so few views of each query, too.
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
    from edgeproof.evaluation.searches import asked_of

    processes = Processes.here()
    with processes.joined():
        subject = subject_of(place, run, weights, overrides or [], device, processes)
        asked = ask(subject, split, tta, {"fine": fine, "coarse": coarse})
        searches = asked_of(
            *(subject, split, asked.student, asked.teacher),
            other=gallery,
            query_views=query_views,
            scratch=folder,
        )
    if not processes.first:
        return 0
    scored = score(asked, searches)
    if folder is not None:
        write_tables(folder, scored)
    print(json.dumps(scored.everything(), indent=2) if as_json else said(scored))
    if folder is not None and not as_json:
        print(f"tables: {folder}")
    return 0


def subject_of(
    place: str,
    run: RunDir | None,
    weights: Path | None,
    overrides: list[str],
    device: str | None,
    processes: Processes,
) -> Subject:
    """Return the student of a run, or weights under a recipe."""
    from edgeproof.evaluation.subject import of_run, of_weights
    from edgeproof.ship import choose_device

    with redirect_stdout(sys.stderr):
        chosen = processes.device(choose_device(device))
    if run is not None:
        return of_run(run, chosen, processes)
    assert weights is not None
    return of_weights(place, overrides, weights, chosen, processes)


@dataclass(frozen=True)
class Asked:
    """What was said of the images; under `torchrun` on the first process only.

    Attributes:
        student: of one view of each image.
        teacher: where there is one.
        crops: of ten views, by the name of the column.
        val: of the images that a temperature is fitted on, by model.
        labels: to verify by.
    """

    student: Answers
    teacher: Answers | None
    crops: dict[str, Answers]
    val: dict[str, Answers | None]
    labels: LabelSets


def ask(subject: Subject, split: Any, tta: bool, label_files: Mapping[str, Path | None]) -> Asked:
    """Have all images of a split looked at, by all processes together."""
    from edgeproof.evaluation.answers import before_calibration, of_student, of_teacher, of_ten_crops
    from edgeproof.evaluation.figures import label_sets

    images = subject.images(split)
    labels = label_sets(images, label_files)
    student, teacher = of_student(subject, images), of_teacher(subject, split, images)
    crops: dict[str, Answers] = {}
    if tta:
        name, answers = of_ten_crops(subject, images)
        crops[f"student {name}"] = answers
    val = before_calibration(subject, split)
    return Asked(student, teacher, crops, {"student": val[0], "teacher": val[1]} if val else {}, labels)


@dataclass(frozen=True)
class Scored:
    """What an evaluation found.

    Attributes:
        figures: a column for each model.
        student: what the student said, of one view of each image.
        verification: rates, thresholds and counts of pairs, by model and set of labels.
        retrieval: how well objects find others of their class, where there are objects.
    """

    figures: dict[str, Figures]
    student: Answers
    verification: dict[str, dict[str, Verification]]
    retrieval: Retrieval | None = None

    def everything(self) -> dict[str, Figures]:
        """Return all figures, those of retrieval under names such as `standard.map` and `osmn40.map`."""
        told = {} if self.retrieval is None else self.retrieval.flat()
        return {model: figures | told.get(model, {}) for model, figures in self.figures.items()}


def score(asked: Asked, searches: Searches | None = None) -> Scored:
    """Return the figures of teacher, student and, if asked for, of the student with ten crops."""
    from edgeproof.evaluation import figures as count
    from edgeproof.evaluation.retrieval import retrieval_of

    student, teacher = asked.student, asked.teacher
    columns = {"teacher": teacher} if teacher else {}
    columns |= {"student": student} | asked.crops
    found: dict[str, Figures] = {}
    pairs: dict[str, dict[str, Verification]] = {}
    for name, answers in columns.items():
        target = teacher.rows if teacher and answers is not teacher else None
        pairs[name] = count.verification(answers, asked.labels)
        found[name] = (
            count.accuracy(answers, target)
            | (count.against_teacher(answers, teacher) if teacher and answers is student else {})
            | count.calibration(answers, asked.val.get(name))
            | count.neighbours(answers)
            | count.verified(pairs[name])
            | (count.routed(answers) if answers is student else {})
        )
    return Scored(found, student, pairs, None if searches is None else retrieval_of(searches))


def write_tables(folder: Path, scored: Scored) -> None:
    """Write the figures, the tables of classes and images, and the embeddings."""
    from edgeproof.evaluation.tables import write_classes, write_confusion, write_features, write_images

    student = scored.student
    write_json(folder / "metrics.json", scored.everything())
    if scored.retrieval is not None:
        scored.retrieval.write(folder)
    pairs = {
        model: {name: found.to_dict() for name, found in sets.items()}
        for model, sets in scored.verification.items()
    }
    write_json(folder / "verification.json", pairs)
    if student.routing is not None:
        write_json(folder / "routing.json", student.routing)
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


def said(scored: Scored) -> str:
    """Return the figures as lines of text, those of steps and of retrieval in tables of their own."""
    from edgeproof_train.cascade_run import routing_table

    parts = [table(scored.figures, scored.student.subject.source.item)]
    if scored.student.routing is not None:
        parts.append(routing_table(scored.student.routing))
    if scored.retrieval is not None:
        parts.append(scored.retrieval.table())
    return "\n\n".join(parts)


def table(found: Mapping[str, Mapping[str, float | None]], item: str = "image") -> str:
    """Return a line for each metric with a column for each model; shares with four digits.

    Args:
        found: figures by model.
        item: what `images` are: `image`, or `object`.
    """
    metrics = list(dict.fromkeys(name for figures in found.values() for name in figures))
    width = max(map(len, metrics), default=0)
    widths = {model: max(8, len(model)) for model in found}
    head = " " * width + "".join(f"  {model:>{widths[model]}}" for model in found)
    lines = [
        f"{f'{item}s' if metric == 'images' else metric:<{width}}"
        + "".join(f"  {_figure(figures.get(metric)):>{widths[model]}}" for model, figures in found.items())
        for metric in metrics
    ]
    return "\n".join([head, *lines])


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == int(value) and value > 1 else f"{value:.4f}"
