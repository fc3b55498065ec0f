"""The top of the page: the verdict in one sentence, four figures, what was not measured."""

from __future__ import annotations

import math

from edgeproof_benchmarks.formats import (
    agreement,
    cosine,
    integer,
    known,
    milliseconds,
    percent,
    plural,
    points,
    significant,
    size,
    unbroken,
)
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.report_data import FormRow, ReportData, named
from edgeproof_benchmarks.verdict import DO_NOT_SHIP, SHIP, judge

BADGES = {SHIP: ("good", "✓ ship"), DO_NOT_SHIP: ("bad", "✗ do not ship")}


def summary(data: ReportData) -> Html:
    """Return the verdict, its caveats and the tiles."""
    style, words = BADGES.get(data.verdict, ("unsure", "? " + data.verdict))
    caveats = [tag("li", unbroken(sentence)) for sentence in data.caveats]
    verdict = tag(
        "section",
        tag("p", words, class_="badge"),
        tag("p", unbroken(data.sentence), class_="sentence"),
        tag("ul", *caveats, class_="caveats") if caveats else None,
        class_=f"verdict {style}",
    )
    row = judge(data.rows, data.controls).row
    return join([verdict, tiles(row, data)]) if row else verdict


def tiles(row: FormRow, data: ReportData) -> Html:
    """Return the four figures of the form that is shipped."""
    return tag(
        "section",
        tag("h2", f"Key figures of {row.name}", class_="for-readers"),
        accuracy_tile(row, data),
        latency_tile(row, data.teacher),
        size_tile(row, data.teacher),
        parity_tile(row, data.item),
        class_="tiles",
    )


def tile(label: str, value: str, *lines: Html | str | None) -> Html:
    """Return one figure with its name above and what it means below."""
    below = [
        line if isinstance(line, Html) else tag("p", unbroken(line), class_="sub") for line in lines if line
    ]
    return tag("div", tag("p", label, class_="name"), tag("p", value, class_="value"), *below, class_="tile")


def accuracy_tile(row: FormRow, data: ReportData) -> Html:
    """Return accuracy, its distance from the teacher, its sampling error, and a scale with the controls."""
    top1 = row.metrics.get("top1")
    if top1 is None:
        return tile(
            "Cosine to the teacher", cosine(row.metrics.get("cosine")), "no labels: accuracy was not measured"
        )
    teacher = data.teacher.metrics.get("top1") if data.teacher else None
    beside = f"teacher {percent(teacher)} ({points(top1 - teacher)})" if teacher is not None else None
    count = int(row.metrics.get("images") or (data.confusion.matrix.sum() if data.confusion else 0))
    tested = plural(count, f"test {data.item}")
    spread = f"± {100 * interval(top1, count):.1f} at 95 %, {tested}" if count else None
    return tile("Accuracy, top-1", percent(top1), level_scale(top1, teacher), beside, spread)


def interval(share: float, count: int) -> float:
    """Return half the width of the 95 % Wilson interval of a share of `count` (Wilson 1927)."""
    z = 1.96
    return z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))


def level_scale(value: float, teacher: float | None) -> Html:
    """Return a bar from 0 to 100 % with a tick where the teacher stands."""
    filled = tag("i", class_="reached", style=f"width:{100 * value:.1f}%")
    tick = tag("i", class_="at", style=f"left:{100 * teacher:.1f}%") if teacher is not None else None
    said = f"{percent(value)} on a scale from 0 to 100 %" + (f", teacher {percent(teacher)}" if tick else "")
    return tag("span", filled, tick, class_="track levels", role="img", aria_label=said)


def latency_tile(row: FormRow, teacher: FormRow | None) -> Html:
    """Return p50 at batch 1, the tail, and the rate."""
    p50, p90 = row.latency("p50"), row.latency("p90")
    if p50 is None:
        return tile("Latency", "not measured")
    tail = f"p90 {milliseconds(p90)}" if p90 is not None else "p90: too few runs"
    threads = f", {plural(row.threads, 'thread')}" if row.threads else ""
    before = teacher.latency("p50") if teacher else None
    compared = f"teacher {milliseconds(before)}: {significant(before / p50, 2)} times" if before else None
    count = row.latency("n")
    return tile(
        "Latency, p50, batch 1",
        milliseconds(p50),
        tail + threads,
        compared,
        f"n = {integer(count)}" if count else None,
    )


def size_tile(row: FormRow, teacher: FormRow | None) -> Html:
    """Return the model file's size and what it needs in memory."""
    before = teacher.size_bytes if teacher else None
    compared = None
    if before and row.size_bytes:
        ratio = before / row.size_bytes
        direction = "smaller" if ratio >= 1 else "larger"
        compared = f"teacher {size(before)}: {significant(max(ratio, 1 / ratio), 2)} times {direction}"
    memory = f"{size(row.memory_bytes)} of memory at its peak" if row.memory_bytes else None
    return tile("Model file", size(row.size_bytes), compared, memory)


def parity_tile(row: FormRow, item: str) -> Html:
    """Return how often the shipped form decides as the form before it."""
    if not row.parity:
        return tile("Parity", "not measured")
    pair = row.parity[-1]
    flips = pair.get("flips")
    changed = pair.get("flip_count", len(flips)) if isinstance(flips, list) else flips
    said = (
        f"{plural(changed, 'flip')} in {plural(pair['n'], item)}"
        if changed is not None and "n" in pair
        else None
    )
    against = f"same answer as {named(pair.get('reference', 'the fp32 student'))}"
    return tile(
        "Parity, top-1 agreement",
        agreement(pair.get("top1_agreement")),
        against,
        f"cosine at least {cosine(pair.get('cosine_min'))}" if known(pair.get("cosine_min")) else None,
        said,
    )
