"""Test images with what the shipped form says about them, right and wrong."""

from __future__ import annotations

import base64

from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import Example, ReportData

TOP = 3


def examples(data: ReportData) -> Html | None:
    """Return the grid of images, or None where there are none."""
    if not data.examples:
        return None
    wrong = sum(example.right is False for example in data.examples)
    right = sum(example.right is True for example in data.examples)
    counted = (
        f" {right} right, {wrong} wrong; a selection, not a sample: accuracy stands above."
        if right or wrong
        else ""
    )
    lead = f"{plural(len(data.examples), 'test image')} with the three likeliest labels.{counted}"
    cards = [card(example) for example in data.examples]
    return tag(
        "section", tag("h2", "Examples"), tag("p", lead, class_="lead"), tag("div", *cards, class_="cards")
    )


def card(example: Example) -> Html:
    """Return an image in a frame that says right or wrong, with its likeliest labels."""
    source = f"data:image/jpeg;base64,{base64.b64encode(example.thumbnail).decode()}"
    named = example.true or example.path
    style, sign = {True: ("good", "✓"), False: ("bad", "✗"), None: ("unsure", "")}[example.right]
    held = tag("small", "held out of training") if not example.seen else None
    answers = [answer(label, share, label == example.true) for label, share in example.top[:TOP]]
    return tag(
        "figure",
        tag("img", src=source, alt=f"test image of {named}", title=example.path, loading="lazy"),
        tag("figcaption", tag("b", f"{sign} {named}".strip()), held),
        *answers,
        class_=f"card {style}",
    )


def answer(label: str, share: float, true: bool) -> Html:
    """Return one label with its probability as a line of text over a bar."""
    bar = tag("i", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%")
    words = tag("span", label, title=label)
    return tag("p", bar, words, tag("span", percent(share, 0)), class_="answer true" if true else "answer")
