"""What `head fit` prints: a table of figures, and in words how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeproof_train.head_trials import FeatureSets, Trial


def table(found: Sequence[Trial]) -> list[str]:
    """Return a line for each kind and number of shots: top-1 with its interval, per class, time of a fit."""
    generalised = any("harmonic_mean" in one.figures for one in found)
    metrics = ["top1", "mean_per_class", *(["seen", "unseen", "harmonic_mean"] if generalised else [])]
    names = {"top1": "top-1 %", "mean_per_class": "per class %", "seen": "S %", "unseen": "U %"}
    cells = [["head", "shots", *(names.get(metric, "H %") for metric in metrics), "fit s"]]
    for one in found:
        start = [one.kind + (" *" if one.transductive else ""), str(one.shots or "all")]
        if one.reason:
            cells.append([*start, f"n/a: {one.reason}"])
        else:
            seconds = sum(one.seconds) / len(one.seconds)
            cells.append([*start, *(percent(one, metric) for metric in metrics), f"{seconds:.2f}"])
    filled = [row for row in cells if len(row) > 3]
    widths = [max(len(row[place]) for row in filled) for place in range(len(cells[0]))]
    widths[0] = max(len(row[0]) for row in cells)
    return [line(row, widths) for row in cells]


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells as one line: names to the left, figures to the right."""
    start = f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}"
    if len(row) == 3:
        return f"{start}  {row[2]}"
    return "  ".join([start, *(f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True))])


def percent(one: Trial, metric: str) -> str:
    """Return a mean in percent, with half its 95 % interval where there are several draws."""
    if metric not in one.figures:
        return "-"
    mean, half = one.summary(metric)
    return f"{100 * mean:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def protocol_words(sets: FeatureSets, found: Sequence[Trial], seed: int, with_text: bool) -> str:
    """Return in a line how the figures came about.

    Args:
        sets: the features.
        found: the trials.
        seed: of the first draw.
        with_text: whether heads got text embeddings.
    """
    tasks = max((len(one.seconds) for one in found), default=0)
    once = [str(one.shots or "all") for one in found if len(one.seconds) == 1]
    draws = "one draw of shots, no interval"
    if tasks > 1:
        draws = f"{tasks} draws of shots from seed {seed} on, mean ± half of the 95 % interval"
        if once:
            draws += f" ({', '.join(dict.fromkeys(once))} shots: one draw, of all images)"
    text = "with text embeddings" if with_text and sets.text is not None else "no text embeddings"
    of = f"{len(sets.test.labels)} test images of {len(sets.names)} classes, scored once a draw"
    words = f"{draws}; {val_words(found)}; {text}; {of}."
    seen = any(one.transductive and not one.reason for one in found)
    return words + (" * transductive: it saw the test images without their labels." if seen else "")


def val_words(found: Sequence[Trial]) -> str:
    """Return how many validation images settings were chosen on, and by which kinds none."""
    fitted = [one for one in found if not one.reason]
    counts = {one.shots: one.val_images for one in fitted if one.val_images}
    if not counts:
        return "no val images were looked at"
    if len(set(counts.values())) == 1:
        on = f"{next(iter(counts.values()))} val images"
    else:
        each = [f"{images} with {shots or 'all'}" for shots, images in counts.items()]
        on = f"val images, {', '.join(each)} shots a class"
    none = list(dict.fromkeys(one.kind for one in fitted if not one.val_images))
    return f"settings chosen on {on}" + (f" ({', '.join(none)}: on none)" if none else "")


def notes_of(sets: FeatureSets, found: Sequence[Trial]) -> list[str]:
    """Return what was changed in the features, and of which classes there are fewer shots."""
    from edgeproof_data.paths import counted, some_of

    short = {one.shots: one.given["classes_with_fewer"] for one in found if "classes_with_fewer" in one.given}
    lines = list(sets.said)
    for shots, classes in short.items():
        told = some_of([f"{name} {count}" for name, count in classes.items()])
        lines.append(f"{shots} shots: {counted(len(classes), 'class has', 'classes have')} fewer: {told}")
    return lines
