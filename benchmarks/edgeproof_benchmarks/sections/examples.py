"""Test images with what the shipped form says about them, right and wrong."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from edgeproof_benchmarks.example_data import Example
from edgeproof_benchmarks.formats import percent, plural
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData

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
    lead = f"{plural(len(data.examples), f'test {data.item}')} with the three likeliest labels.{counted}"
    # The wide cards, with a heat map, stand together, so that no gap is left between the others.
    cards = [card(example, data.item) for example in sorted(data.examples, key=lambda one: not heated(one))]
    return tag(
        "section",
        tag("h2", "Examples"),
        tag("p", lead, class_="lead"),
        explanation(data.examples, data.item),
        tag("div", *cards, class_="cards"),
    )


def heated(example: Example) -> bool:
    """Whether there is a heat map of it."""
    return example.heat is not None and bool(example.heat.jpeg)


def explanation(shown: Sequence[Example], item: str) -> Html | None:
    """Return what the heat maps show, or why there are none; nothing where none was asked for."""
    maps = [example.heat for example in shown if example.heat is not None]
    if not maps:
        return None
    found = next((heat for heat in maps if heat.jpeg), None)
    if found is None:
        return tag("p", f"No Grad-CAM: {maps[0].reason}.", class_="lead")
    height, width = found.cells
    count = sum(bool(heat.jpeg) for heat in maps)
    over = "the image" if item == "image" else "its first view"
    said = (
        f"Grad-CAM beside {plural(count, item)}: over {over} in grey, bright colours are where the "
        "student in PyTorch finds what speaks for its first answer, right or wrong; without colour, nowhere. "
        f"The map, of {found.node}, has {height} by {width} cells: its outlines are not those of things."
    )
    return tag("p", said, class_="lead")


def card(example: Example, item: str) -> Html:
    """Return an image, or an object's first view, in a frame that says right or wrong, with likely labels."""
    source = f"data:image/jpeg;base64,{base64.b64encode(example.thumbnail).decode()}"
    named = example.true or example.path
    style, sign = {True: ("good", "✓"), False: ("bad", "✗"), None: ("unsure", "")}[example.right]
    held = tag("small", "held out of training") if not example.seen else None
    answers = [answer(label, share, label == example.true) for label, share in example.top[:TOP]]
    image = tag("img", src=source, alt=f"test {item}: {named}", title=example.path, loading="lazy")
    return tag(
        "figure",
        beside_its_map(image, example, named) if heated(example) else image,
        tag("figcaption", tag("b", f"{sign} {named}".strip()), held),
        *answers,
        class_=f"card {style} wide" if heated(example) else f"card {style}",
    )


def beside_its_map(image: Html, example: Example, named: str) -> Html:
    """Return an image with its heat map on the right."""
    assert example.heat is not None
    source = f"data:image/jpeg;base64,{base64.b64encode(example.heat.jpeg).decode()}"
    answer = example.top[0][0] if example.top else "its answer"
    said = f"Grad-CAM: what speaks for {answer} in the picture of {named}"
    heat = tag("img", src=source, alt=said, title=said, loading="lazy")
    return tag("div", image, heat, class_="two")


def answer(label: str, share: float, true: bool) -> Html:
    """Return one label with its probability as a line of text over a bar."""
    bar = tag("i", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%")
    words = tag("span", label, title=label)
    return tag("p", bar, words, tag("span", percent(share, 0)), class_="answer true" if true else "answer")
