"""HTML and SVG as strings that cannot forget to escape: plain text is escaped where it is put into a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"br", "img", "meta", "rect", "line", "circle", "path", "polyline", "col"})


class Html(str):
    """Text that is markup already. Every other `str` is escaped when it becomes the child of a tag."""

    __slots__ = ()


Child = str | int | None


def text(child: Child) -> str:
    """Return a child as markup: `Html` as it is, anything else escaped, None as nothing."""
    if child is None:
        return ""
    return child if isinstance(child, Html) else escape(str(child))


def join(children: Iterable[Child], between: str = "") -> Html:
    """Return the children, one after the other."""
    return Html(between.join(text(child) for child in children))


def number(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def tag(element: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """Return `<element attributes>children</element>`.

    Attribute names lose a trailing underscore (`class_`) and have hyphens for the others (`aria_label`); None
    and False leave the attribute out, True leaves out its value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        shown = number(value) if isinstance(value, int | float) and value is not True else str(value)
        written.append(f" {key}" if value is True else f' {key}="{escape(shown, quote=True)}"')
    opening = f"<{element}{''.join(written)}"
    if element in VOID and not children:
        return Html(f"{opening}/>")
    return Html(f"{opening}>{''.join(text(child) for child in children)}</{element}>")
