"""How training went: each loss over the epochs, accuracy and cosine on the validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeproof_benchmarks.charts import Series, line_chart
from edgeproof_benchmarks.formats import cosine, known, metric, percent, significant
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData

MOST_POINTS = 240
FEW_EPOCHS = 5
STAGE_NAMES = {"train": "distilled", "baseline": "labels only", "teacher": "teacher"}
TUNED_NAMES = {"sparsify": "2:4", "quantize int8": "INT8", "quantize sparse_int8": "2:4 and INT8"}
"""Trainings that went on with a compressed student."""
Rows = Sequence[Mapping[str, Any]]
VALIDATED = (
    ("map", "validation mAP", lambda value: metric("map", value)),
    ("top1", "validation top-1", percent),
    ("cosine_mean", "validation cosine to the teacher", cosine),
)


def learning(data: ReportData) -> Html | None:
    """Return the curves, or None where nothing was logged."""
    rows = data.metrics
    curves = [*loss_curves(rows), *validation_curves(rows), *tuning_curves(rows), *teacher_curves(rows)]
    if not curves:
        return None
    lead = f"Losses as they are before weighting. A ring marks the best epoch, on validation {data.item}s."
    return tag(
        "section",
        tag("h2", "Learning"),
        tag("p", lead, class_="lead"),
        tag("div", *curves, class_="small-multiples"),
    )


def of_stage(rows: Rows, stage: str, event: str = "epoch") -> Rows:
    """Return a stage's rows of one event: `epoch` (means over it, with validation) or `step`."""
    chosen = [row for row in rows if row.get("stage") == stage and row.get("event", "epoch") == event]
    return without_redone(chosen)


def loss_rows(rows: Rows, stage: str) -> Rows:
    """Return a stage's epochs, or its steps where there are few epochs and more steps."""
    means, steps = of_stage(rows, stage), of_stage(rows, stage, "step")
    return steps if len(means) < FEW_EPOCHS < len(steps) else means


def without_redone(rows: Rows) -> Rows:
    """Return the rows; what was done again after a kill replaces what was logged from there on before."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        while kept and position(kept[-1]) >= position(row):
            kept.pop()
        kept.append(row)
    return kept


def position(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return where in training a row was logged."""
    return float(row.get("epoch", 0)), float(row.get("step", 0))


def epochs(rows: Rows) -> list[float]:
    """Return the place of each row on the axis of epochs; several rows of one epoch are spread over it."""
    counts: dict[float, int] = {}
    for row in rows:
        counts[float(row.get("epoch", 0))] = counts.get(float(row.get("epoch", 0)), 0) + 1
    seen: dict[float, int] = {}
    places = []
    for row in rows:
        epoch = float(row.get("epoch", 0))
        seen[epoch] = seen.get(epoch, 0) + 1
        places.append(epoch - 1 + seen[epoch] / counts[epoch])
    first = min((float(row.get("epoch", 0)) for row in rows), default=1.0)
    return [place + 1 - min(first, 1.0) for place in places]


def thinned(name: str, x: Sequence[float], y: Sequence[float], marked: int | None = None) -> Series:
    """Return a line of at most `MOST_POINTS` points, each the mean of several; a marked line stays whole."""
    if len(x) <= MOST_POINTS or marked is not None:
        return Series(name, list(x), list(y), marked)
    parts = np.array_split(np.arange(len(x)), MOST_POINTS)
    xs, ys = np.asarray(x), np.asarray(y)
    return Series(
        name, [float(xs[part].mean()) for part in parts], [float(ys[part].mean()) for part in parts]
    )


def curve(
    rows: Rows, name: str, value: Callable[[Mapping[str, Any]], Any], best: bool = False
) -> Series | None:
    """Return the line of one value over the epochs, or None where it was never logged."""
    pairs = [(x, float(value(row))) for x, row in zip(epochs(rows), rows, strict=True) if known(value(row))]
    if not pairs:
        return None
    x, y = zip(*pairs, strict=True)
    return thinned(name, x, y, int(np.argmax(y)) if best else None)


def panel(title: str, note: str, chart: Html) -> Html:
    """Return a small chart with its name above."""
    return tag("figure", tag("figcaption", tag("b", title), tag("span", note)), chart)


def loss_curves(rows: Rows) -> list[Html]:
    """Return a chart for the total loss and one for each of its terms."""
    trained = loss_rows(rows, "train")
    names = list(dict.fromkeys(name for row in trained for name in row.get("losses") or {}))
    panels = []
    total = curve(trained, "total loss", lambda row: row.get("loss"))
    if total is not None:
        note = f"ends at {significant(total.y[-1])}"
        panels.append(panel("total loss", note, line_chart([total], title="Total training loss", zero=True)))
    for name in names:
        line = curve(
            trained, name, lambda row, name=name: ((row.get("losses") or {}).get(name) or {}).get("raw")
        )
        if line is None:
            continue
        weighted = [((row.get("losses") or {}).get(name) or {}).get("weighted") for row in trained]
        last = next((value for value in reversed(weighted) if known(value)), None)
        note = f"ends at {significant(line.y[-1])}" + (
            f", weighted {significant(last)}" if last is not None else ""
        )
        panels.append(panel(name, note, line_chart([line], title=f"Loss {name}", zero=True)))
    return panels


def validation_curves(rows: Rows) -> list[Html]:
    """Return accuracy beside that of the student trained on labels, and cosine to the teacher."""
    panels = []
    for key, title, show in VALIDATED:
        lines = []
        for stage in ("train", "baseline") if key in ("top1", "map") else ("train",):
            value = lambda row, key=key: (row.get("val") or {}).get(key)  # noqa: E731
            line = curve(of_stage(rows, stage), STAGE_NAMES[stage], value, best=True)
            if line is not None:
                lines.append(line)
        if lines:
            best = f"best {show(max(lines[0].y))}"
            chart = line_chart(lines, title=title.capitalize(), y_format=axis_format(key))
            panels.append(panel(title, best, chart))
    return panels


def tuning_curves(rows: Rows) -> list[Html]:
    """Return the loss while compressed students were tuned, and the figure that chose the epoch."""
    panels = []
    losses = curves_of(TUNED_NAMES, lambda stage: loss_rows(rows, stage), lambda row: row.get("loss"))
    if losses:
        note = ", ".join(f"{line.name} ends at {significant(line.y[-1])}" for line in losses)
        panels.append(
            panel("fine-tuning: loss", note, line_chart(losses, title="Loss of fine-tuning", zero=True))
        )
    for key, title, show in VALIDATED:
        lines = curves_of(
            TUNED_NAMES,
            lambda stage: of_stage(rows, stage),
            lambda row, key=key: (row.get("val") or {}).get(key),
        )
        if any(len(line.x) > 1 for line in lines):
            note = ", ".join(f"{line.name} {show(max(line.y))}" for line in lines)
            chart = line_chart(lines, title=f"Fine-tuning: {title}", y_format=axis_format(key))
            panels.append(panel(f"fine-tuning: {title}", note, chart))
    return panels


def curves_of(
    names: Mapping[str, str], rows_of: Callable[[str], Rows], value: Callable[[Mapping[str, Any]], Any]
) -> list[Series]:
    """Return the line of a value for each stage that logged it, by the name that it is shown under."""
    found = [curve(rows_of(stage), name, value) for stage, name in names.items()]
    return [line for line in found if line is not None]


def axis_format(key: str) -> Callable[[float], str] | None:
    """Return how the axis of a figure is written: accuracies in whole percent."""
    return (lambda value: percent(value, 0)) if key == "top1" else None


def teacher_curves(rows: Rows) -> list[Html]:
    """Return the loss of a teacher that was trained in place."""
    line = curve(loss_rows(rows, "teacher"), "teacher", lambda row: row.get("loss"))
    if line is None:
        return []
    chart = line_chart([line], title="Loss of the teacher", zero=True)
    return [panel("teacher, trained in place: loss", f"ends at {significant(line.y[-1])}", chart)]
