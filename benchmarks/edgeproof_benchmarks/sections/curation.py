"""Images that were chosen by words: how many of each word, what they look like, what was left out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from edgeproof_benchmarks.charts import Bar, bar_rows
from edgeproof_benchmarks.curation_data import Curation
from edgeproof_benchmarks.formats import integer, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData
from edgeproof_data.cleaning.curation import reasons_of

MOST_BARS = 24
MEANT = (
    "The teacher found them among images without labels. A word says why an image was taken; it is not its"
    " label, and no accuracy counts it as one."
)


def curation(data: ReportData) -> Html | None:
    """Return the section, or None where the images were given."""
    found = data.curation
    if found is None:
        return None
    figures = found.figures
    return tag(
        "section",
        tag("h2", "Chosen images"),
        tag("p", f"{counts(figures)} {MEANT}", class_="lead"),
        tag("div", words(figures), left_out(figures), class_="pair"),
        *pictures(found),
    )


def counts(figures: Mapping[str, Any]) -> str:
    """Return how many images were chosen, in a sentence."""
    parts = [
        f"{integer(figures['kept'].get(part, 0))} of {integer(count)} {part}"
        for part, count in figures["searched"].items()
        if part not in figures["settled"]
    ]
    return f"By {plural(len(figures['per_word']), 'word')}: {', '.join(parts)} images."


def words(figures: Mapping[str, Any]) -> Html:
    """Return a bar for each word, and the names of those without an image."""
    ordered = sorted(figures["per_word"].items(), key=lambda one: (-one[1], one[0]))
    some = [(word, count) for word, count in ordered if count]
    bars = [Bar(word, count, integer(count)) for word, count in some]
    more = empty = None
    if len(bars) > MOST_BARS:
        title = f"and {plural(len(bars) - MOST_BARS, 'word')} with fewer"
        longest = bars[0].length
        more = tag("details", tag("summary", title), bar_rows(bars[MOST_BARS:], longest))
    if figures["empty_words"]:
        names = ", ".join(figures["empty_words"])
        title = f"{plural(len(figures['empty_words']), 'word')} without a training image"
        empty = tag("details", tag("summary", title), tag("p", names))
    caption = tag("figcaption", tag("b", "training images of each word"))
    return tag("figure", caption, bar_rows(bars[:MOST_BARS]), more, empty)


def left_out(figures: Mapping[str, Any]) -> Html:
    """Return how many images were left out, by reason."""
    reasons = reasons_of(figures)
    caption = tag("figcaption", tag("b", "not taken"))
    cosine = figures["cosine"]
    fit = tag(
        "p",
        f"Cosine of an image with the word that fits it best: {cosine['p5']:.3f} to {cosine['p95']:.3f}"
        f" (5 to 95 %), half below {cosine['p50']:.3f}.",
    )
    if not reasons:
        return tag("figure", caption, tag("p", "Every image fits a word."), fit)
    bars = [Bar(reason, count, integer(count)) for reason, count in reasons.items()]
    leaks = [f"{count} of {which.replace(' in ', ', also in ')}" for which, count in figures["leaks"].items()]
    said = tag("p", f"Twins in two parts: {'; '.join(leaks)}.") if leaks else None
    return tag("figure", caption, bar_rows(bars), said, fit)


def pictures(found: Curation) -> list[Html]:
    """Return a line of images for each of the words that have most."""
    if not found.pictures:
        return []
    lead = "Some training images of the words that have most, not picked by hand."
    rows = [
        tag(
            "figure",
            tag("figcaption", tag("b", word)),
            tag("div", *[image(path, jpeg) for path, jpeg in images], class_="strip"),
            class_="stripped",
        )
        for word, images in found.pictures
    ]
    return [tag("p", lead, class_="lead after"), tag("div", *rows, class_="strips")]


def image(path: str, jpeg: bytes) -> Html:
    """Return a small image."""
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return tag("img", src=source, alt=path, title=path, loading="lazy")
