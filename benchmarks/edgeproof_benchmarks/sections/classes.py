"""Which classes are recognised: the confusion matrix, the pairs confused most, the figures of each class."""

from __future__ import annotations

import numpy as np

from edgeproof_benchmarks.charts import Bar, bar_rows
from edgeproof_benchmarks.confusion_chart import (
    MOST_CLASSES,
    ClassAccuracy,
    class_accuracies,
    confused_pairs,
    confusion_matrix,
)
from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.report_data import Confusion, ReportData, named
from edgeproof_benchmarks.sections.class_table import class_table

MOST_BARS = 60
PAIRS = 12


def classes(data: ReportData) -> Html | None:
    """Return the sections, or None where nothing that was tested has a label.

    A run of very many classes has no confusion counts; a run from before there was a table of classes gets a
    bar for the accuracy of each.
    """
    confusion = data.confusion
    if confusion is None or not confusion.matrix.sum():
        return class_table(data.classes, data.item) if data.classes else None
    each = class_table(data.classes, data.item) if data.classes else accuracies(confusion)
    return join([confusions(confusion, data.item), each])


def confusions(confusion: Confusion, item: str) -> Html:
    """Return the matrix, up to a hundred classes, and the list of what is mistaken for what."""
    count = len(confusion.labels)
    form = f" of {named(confusion.form)}" if confusion.form else ""
    said = f"Answers{form} on {plural(int(confusion.matrix.sum()), f'test {item}')}, {named_classes(count)}."
    matrix = None
    if count <= MOST_CLASSES:
        held = " Held-out classes are in italics." if confusion.unseen else ""
        said += f" A row is a true class, a column an answer; blue is right, orange is not.{held}"
        matrix = tag(
            "div",
            confusion_matrix(confusion),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Matrix",
        )
    else:
        said += f" More than {MOST_CLASSES} classes: only the pairs that are confused most are shown."
    return tag(
        "section",
        tag("h2", "What is taken for what"),
        tag("p", said, class_="lead"),
        matrix,
        pairs_table(confusion, item),
    )


def pairs_table(confusion: Confusion, item: str) -> Html:
    """Return the most frequent mistakes."""
    pairs = confused_pairs(confusion, PAIRS if len(confusion.labels) <= MOST_CLASSES else 3 * PAIRS)
    if not pairs:
        return tag("p", f"No test {item} is mistaken.")
    lines = [
        tag(
            "li",
            tag("b", true),
            " taken for ",
            tag("b", taken),
            tag("span", f"{count} ({percent(share, 0)})"),
        )
        for true, taken, count, share in pairs
    ]
    return tag("div", tag("h3", "confused most often"), tag("ol", *lines, class_="mistakes"))


def accuracies(confusion: Confusion) -> Html:
    """Return a bar for each class that has mistakes, weakest first, and the names of those that have none."""
    found = class_accuracies(confusion)
    flawed = [one for one in found if one.right < one.count]
    shown = flawed[:MOST_BARS]
    bars = [
        Bar(
            one.name,
            one.accuracy,
            f"{percent(one.accuracy, 0)} of {one.count}",
            None,
            "seen" if one.seen else "held",
        )
        for one in shown
    ]
    kinds = [mean_line("seen in training", "seen", [one for one in found if one.seen])]
    if any(not one.seen for one in found):
        kinds.append(mean_line("held out of training", "held", [one for one in found if not one.seen]))
    left_out = f" The weakest {MOST_BARS} of {len(flawed):,} are shown." if len(shown) < len(flawed) else ""
    perfect = [one.name for one in found if one.right == one.count]
    counted = f"{len(perfect):,} of {named_classes(len(found))} without a mistake"
    lead = f"{counted}; the others, weakest first.{left_out}"
    return tag(
        "section",
        tag("h2", "Accuracy of each class"),
        tag("p", lead, class_="lead"),
        tag("div", *kinds, class_="legend"),
        bar_rows(bars, longest=1.0, class_="bars columns") if bars else None,
        flawless(perfect),
    )


def flawless(names: list[str]) -> Html | None:
    """Return the names of the classes without a mistake, folded away."""
    if not names:
        return None
    title = tag("summary", f"{named_classes(len(names))} without a mistake")
    return tag("details", title, tag("p", ", ".join(names), class_="flawless"))


def named_classes(count: int) -> str:
    """Return `1 class`, `64 classes`."""
    return f"{count:,} class{'' if count == 1 else 'es'}"


def mean_line(words: str, style: str, found: list[ClassAccuracy]) -> Html | None:
    """Return the legend of one kind of class with its mean accuracy."""
    if not found:
        return None
    mean = float(np.mean([one.accuracy for one in found]))
    return tag("span", tag("i", class_=f"key {style}"), f"{words}: mean {percent(mean)} over {len(found):,}")
