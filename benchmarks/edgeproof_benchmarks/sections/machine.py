"""The machine before and after the measurements, and whether the figures may be called official."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeproof_benchmarks.formats import MISSING, known
from edgeproof_benchmarks.markup import Html, tag
from edgeproof_benchmarks.report_data import ReportData


def machine(data: ReportData) -> Html | None:
    """Return the section, or None where conditions were not recorded."""
    found = data.conditions
    if not found:
        return None
    official = bool(found.get("official"))
    tone = "good" if official else "unsure"
    words = "official" if official else "not official"
    reasons = [tag("li", reason) for reason in found.get("reasons") or ()]
    return tag(
        "section",
        tag("h2", "Conditions of the measurement"),
        tag("p", tag("span", words, class_=f"stamp {tone}"), lead(official), class_="lead"),
        tag("ul", *reasons, class_="reasons") if reasons else None,
        before_and_after(found),
        class_="machine",
    )


def lead(official: bool) -> str:
    """Return what the stamp means."""
    asked = "MLPerf's SingleStream asks for 600 s a form, steady clocks and an undisturbed machine"
    return f"{asked}." if official else f"{asked}. Ratios of forms that took turns hold better than times."


def before_and_after(found: Mapping[str, Any]) -> Html | None:
    """Return what was read of the machine before and after, a line for each reading that has a value."""
    before, after = found.get("before") or {}, found.get("after") or {}
    lines = [
        tag("tr", tag("th", name, scope="row"), tag("td", one), tag("td", other))
        for name, one, other in readings(before, after)
    ]
    shares = found.get("cpu_time")
    if isinstance(shares, Mapping):
        told = ", ".join(f"{name} {100 * float(share):.0f} %" for name, share in shares.items())
        lines.append(tag("tr", tag("th", "time of all cores", scope="row"), tag("td", told, colspan=2)))
    if found.get("energy"):
        lines.append(tag("tr", tag("th", "energy", scope="row"), tag("td", str(found["energy"]), colspan=2)))
    if not lines:
        return None
    head = tag("tr", *[tag("th", name, scope="col") for name in ("", "before", "after")])
    table = tag("table", tag("thead", head), tag("tbody", *lines), class_="wordy conditions")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of conditions")


def readings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value before and value after of everything that was read, nested names joined by dots."""
    first, second = flat(before), flat(after)
    names = list(dict.fromkeys([*first, *second]))
    return [(name, first.get(name, MISSING), second.get(name, MISSING)) for name in names]


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return plain data as words by dotted name; lists of single values in one, others by place."""
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list) for item in value):
        return {name: ", ".join(said(item) for item in value)} if value else {}
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {} if value is None else {name: said(value)}
    found: dict[str, str] = {}
    for key, item in items:
        found |= flat(item, f"{name}.{key}" if name else key)
    return found


def said(value: Any) -> str:
    """Return a reading in words: numbers with at most four digits after the point."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if known(value) and isinstance(value, float) else str(value)
