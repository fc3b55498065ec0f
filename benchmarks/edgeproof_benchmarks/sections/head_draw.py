"""Which images the head was fitted and chosen on, and where they are listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeproof_benchmarks.formats import plural
from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_benchmarks.report_data import ReportData

DRAWS = (("shots", "fitted on"), ("val", "chosen on"))


def head_draw(data: ReportData) -> Html | None:
    """Return how many images of which part a fitted head was made of; few are named, class by class."""
    evidence = (data.head or {}).get("evidence") or {}
    found = [(words, evidence[key]) for key, words in DRAWS if "file" in evidence.get(key, {})]
    if not found:
        return None
    item = evidence.get("of", data.item)
    rows = [join([tag("dt", words), tag("dd", counted(told, item))]) for words, told in found]
    lists = [named(words, told, item) for words, told in found]
    caption = tag("figcaption", tag("b", f"{item}s of the head"))
    return tag("figure", caption, tag("dl", *rows), *[one for one in lists if one is not None])


def counted(told: Mapping[str, Any], item: str) -> Html:
    """Return the number of images, the part that they are of, and the table that lists them."""
    words = f"{plural(told['images'], item)} of {told['split']}, listed in "
    return join([words, tag("code", f"head/{told['file']}")])


def named(words: str, told: Mapping[str, Any], item: str) -> Html | None:
    """Return the paths of each class, folded up; nothing where only the table has them."""
    if "by_class" not in told:
        return None
    lines = [tag("li", f"{label}: {', '.join(paths)}") for label, paths in told["by_class"].items()]
    return tag("details", tag("summary", f"{plural(told['images'], item)} {words}"), tag("ul", *lines))
