"""Accuracy against latency, latency and rate by batch, and where the time of one image goes."""

from __future__ import annotations

from edgeproof_benchmarks.charts import Bar, Point, bar_rows, scatter
from edgeproof_benchmarks.formats import MISSING, integer, known, milliseconds, plural, significant
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import FormRow, ReportData
from edgeproof_benchmarks.verdict import same_images, shipped_form

PHASES = ("decode", "preprocess", "compute", "head", "copy_in", "copy_out")
"""Their places name their colours; they are drawn in the order that they happen in."""
IN_ORDER = ("decode", "preprocess", "copy_in", "compute", "copy_out", "head")


def speed(data: ReportData) -> Html | None:
    """Return the section, or None where nothing was timed."""
    timed = [row for row in data.rows if row.ran and row.latency_ms]
    if not timed:
        return None
    shipped = shipped_form(data.rows, data.verdict)
    left = [
        figure
        for figure in (accuracy_against_latency(data, timed, shipped), phases(timed, data.item))
        if figure
    ]
    figures = [tag("div", *left, class_="stack") if left else None, latency_by_batch(timed, data.item)]
    threads = sorted({row.threads for row in timed if row.threads})
    counted = f" on {plural(threads[0], 'thread')}" if len(threads) == 1 else ""
    alone = f"Each form was run alone{counted}, the next {data.item} when the last one was done"
    return tag(
        "section",
        tag("h2", "Speed"),
        tag("p", f"{alone}; every sample counts.", class_="lead"),
        tag("div", *[figure for figure in figures if figure], class_="pair"),
        class_="speed",
    )


def accuracy_against_latency(data: ReportData, timed: list[FormRow], shipped: FormRow | None) -> Html | None:
    """Return the scatter of the forms that have both figures."""
    points = []
    for row in timed:
        latency, top1 = row.latency("p50"), row.metrics.get("top1")
        if latency is not None and top1 is not None:
            style = "teacher" if row.form == "teacher" else "shipped" if row is shipped else "other"
            points.append(Point(row.name, latency, top1, style, row.size_bytes))
    if not points:
        return None
    levels = []
    teacher = data.teacher
    if teacher and known(teacher.metrics.get("top1")) and all(point.style != "teacher" for point in points):
        levels.append(("teacher", teacher.metrics["top1"]))
    lowest = min(point.accuracy for point in points)
    near = [
        (one.form, one.metrics["top1"])
        for one in data.controls
        if one.metrics.get("top1", 0.0) > lowest - 0.15 and same_images(one.metrics, timed[-1].metrics)
    ]
    chart = scatter(points, [*levels, *near], title="Accuracy against latency")
    return tag(
        "figure",
        tag(
            "figcaption",
            tag("b", "accuracy against latency"),
            tag("span", "up and left is better; area: bytes"),
        ),
        chart,
    )


def latency_by_batch(timed: list[FormRow], item: str) -> Html:
    """Return bars of p50 (p90 fainter behind) for each batch size, with the rate."""
    groups = []
    for batch in sorted({batch for row in timed for batch in row.latency_ms}):
        bars = [latency_bar(row, batch) for row in timed if row.latency("p50", batch) is not None]
        groups.append(tag("h3", f"batch {batch}"))
        groups.append(bar_rows(bars))
    note = f"p50; p90 fainter; {item}s per second"
    return tag("figure", tag("figcaption", tag("b", "latency by batch"), tag("span", note)), *groups)


def latency_bar(row: FormRow, batch: int) -> Bar:
    """Return a form's bar at one batch size."""
    p50 = row.latency("p50", batch) or 0.0
    rate = row.images_per_second.get(batch) or (1000 * batch / p50 if p50 else None)
    shown = MISSING if rate is None else integer(rate) if rate >= 100 else significant(rate)
    return Bar(row.name, p50, f"{milliseconds(p50)} · {shown}/s", row.latency("p90", batch), row.form)


def phases(timed: list[FormRow], item: str) -> Html | None:
    """Return, for each form, the p50 of each phase of one image or object as one stacked bar."""
    measured = [row for row in timed if any(known(row.phases_ms.get(name)) for name in PHASES)]
    if not measured:
        return None
    longest = max(sum(row.phases_ms.get(name, 0.0) for name in PHASES) for row in measured)
    blocks = []
    for row in measured:
        parts = [(name, row.phases_ms[name]) for name in IN_ORDER if known(row.phases_ms.get(name))]
        total = sum(value for _, value in parts)
        pieces = [
            tag(
                "i",
                class_=f"phase p{PHASES.index(name)}",
                style=f"width:{100 * value / longest:.2f}%",
                title=name,
            )
            for name, value in parts
        ]
        keys = [
            tag(
                "span",
                tag("i", class_=f"key p{PHASES.index(name)}"),
                f"{name.replace('_', ' ')} {milliseconds(value)}",
            )
            for name, value in parts
        ]
        blocks.append(tag("h3", f"{row.name}: {milliseconds(total)}"))
        blocks.append(tag("span", *pieces, class_="track stacked"))
        blocks.append(tag("div", *keys, class_="legend"))
    whole = f"one {item}, from {'file' if item == 'image' else 'files'} to answer"
    caption = tag("figcaption", tag("b", whole), tag("span", "p50 of each phase"))
    return tag("figure", caption, *blocks)
