"""One HTML page about a cleaned data set: how many images of each class, how they look, what went and why."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from edgeproof_benchmarks.markup import Html, join, tag
from edgeproof_configs.files import write_text
from edgeproof_data.cleaning.cleaning import Cleaning, Removed
from edgeproof_data.paths import counted
from edgeproof_data.sets import SPLITS
from edgeproof_data.split_table import Entry
from edgeproof_data.splitting import hash_order
from edgeproof_deploy.runtime.preprocess import ImageError, open_image

SIDE = 96
"""Pixels of a thumbnail's longer side."""
MOST_THUMBNAILS = 600
MOST_OF_A_CLASS, LEAST_OF_A_CLASS = 12, 3
MOST_CLASSES = 200
SHOWN_OF_A_REASON = 12

STYLE = """
:root { color-scheme: light dark; --page: #fbfbf9; --panel: #fff; --ink: #1c2127; --muted: #59636e;
  --line: #dfe2e0; --train: #2a66a8; --val: #c06414; --test: #3d8a5f; }
@media (prefers-color-scheme: dark) { :root { --page: #15181b; --panel: #1b1f23; --ink: #e7eaec;
  --muted: #a0aab3; --line: #32383e; --train: #74aee8; --val: #eba064; --test: #7cc79b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 64px; max-width: 1128px; background: var(--page); color: var(--ink);
  font: 15px/1.5 -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 32px 0 8px; }
h3 { font-size: 14px; margin: 18px 0 4px; font-weight: 600; }
p { margin: 4px 0; } .muted { color: var(--muted); }
.key span { display: inline-block; width: 10px; height: 10px; margin: 0 5px 0 14px; }
.bars { display: grid; grid-template-columns: minmax(80px, 220px) 1fr 56px; gap: 3px 10px;
  align-items: center; }
.bars .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
.bar { display: flex; height: 13px; } .train { background: var(--train); } .val { background: var(--val); }
.test { background: var(--test); }
.sheet { display: flex; flex-wrap: wrap; gap: 6px; }
figure { margin: 0; background: var(--panel); border: 1px solid var(--line); padding: 4px; width: 106px; }
figure.pair { width: 208px; } figure img { max-width: 96px; max-height: 96px; display: inline-block; }
figure .both { display: flex; gap: 4px; align-items: center; height: 96px; }
figcaption { font-size: 11px; line-height: 1.3; color: var(--muted); overflow-wrap: anywhere;
  max-height: 58px; overflow: hidden; }
"""


def write_page(page: Path, root: Path, result: Cleaning) -> None:
    """Write the page; it is one file and needs no other."""
    body = join(
        [
            tag("h1", "What is in this data set"),
            tag("p", _summary(result), class_="muted"),
            _balance(result.kept),
            _classes(root, result.kept),
            _gone(root, result.removed),
        ]
    )
    head = join([tag("meta", charset="utf-8"), tag("title", "Data set"), tag("style", Html(STYLE))])
    write_text(page, "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en"))


def _summary(result: Cleaning) -> str:
    parts = Counter(one.part for one in result.kept)
    kept = ", ".join(f"{part} {parts[part]}" for part in SPLITS if parts[part])
    return f"{counted(len(result.kept), 'image')} stay ({kept}), {len(result.removed)} do not."


def _balance(kept: Sequence[Entry]) -> Html:
    """Return a bar for each class, by part, the most frequent first."""
    counts = _by_label(kept)
    if not counts:
        return tag("p", "These images have no labels.")
    most = sum(counts[0][1].values())
    cells: list[Html] = []
    for label, parts in counts[:MOST_CLASSES]:
        bars = [
            tag(
                "div",
                class_=part,
                style=f"width:{100 * parts[part] / most:.2f}%",
                title=f"{part} {parts[part]}",
            )
            for part in SPLITS
            if parts[part]
        ]
        cells += [
            tag("div", label, class_="name", title=label),
            tag("div", *bars, class_="bar"),
            tag("div", sum(parts.values())),
        ]
    key = join([join([tag("span", class_=part), part]) for part in SPLITS])
    hidden = len(counts) - MOST_CLASSES
    more = tag("p", f"and {hidden} further classes", class_="muted") if hidden > 0 else None
    title = tag("h2", f"Images of each class ({len(counts)})")
    return join([title, tag("p", key, class_="key muted"), tag("div", *cells, class_="bars"), more])


def _classes(root: Path, kept: Sequence[Entry]) -> Html:
    """Return a contact sheet of each class: images drawn by a hash of their paths."""
    by_label: dict[str, list[Entry]] = defaultdict(list)
    for one in kept:
        by_label[one.label].append(one)
    order = [label for label, _ in _by_label(kept)] or [""]
    each = min(max(MOST_THUMBNAILS // len(order), LEAST_OF_A_CLASS), MOST_OF_A_CLASS)
    shown = order[: max(1, MOST_THUMBNAILS // each)]
    sheets: list[Html] = [tag("h2", "What they look like")]
    for label in shown:
        entries = by_label[label]
        drawn = [entries[place] for place in hash_order([one.path for one in entries], 0)[:each].tolist()]
        figures = [tag("figure", _image(root, one.path), tag("figcaption", one.path)) for one in drawn]
        sheets += [
            tag("h3", f"{label or 'without a label'} ({len(entries)})"),
            tag("div", *figures, class_="sheet"),
        ]
    if len(order) > len(shown):
        sheets.append(tag("p", f"and {len(order) - len(shown)} rarer classes", class_="muted"))
    return join(sheets)


def _gone(root: Path, removed: Sequence[Removed]) -> Html:
    """Return examples of what does not stay, by reason; twins beside the image that stays."""
    by_reason: dict[str, list[Removed]] = defaultdict(list)
    for one in removed:
        by_reason[one.reason].append(one)
    sections: list[Html] = [tag("h2", "What does not stay")]
    if not removed:
        sections.append(tag("p", "Everything stays.", class_="muted"))
    for reason, found in by_reason.items():
        drawn = hash_order([one.entry.path for one in found], 0)[:SHOWN_OF_A_REASON].tolist()
        figures = [_gone_figure(root, found[place]) for place in drawn]
        sections += [tag("h3", f"{reason} ({len(found)})"), tag("div", *figures, class_="sheet")]
    return join(sections)


def _gone_figure(root: Path, one: Removed) -> Html:
    caption = tag("figcaption", f"{one.entry.path}: {one.detail}")
    if one.part:
        pair = tag("div", _image(root, one.entry.path), _image(root, one.detail), class_="both")
        return tag("figure", pair, caption, class_="pair")
    return tag("figure", _image(root, one.entry.path), caption)


def _image(root: Path, path: str) -> Html:
    """Return a thumbnail; words where the file is no image."""
    try:
        image = open_image((root / path).read_bytes())
    except (ImageError, OSError):
        return tag("small", "no image")
    image.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    image.convert("RGB").save(encoded, "JPEG", quality=80)
    source = f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return tag("img", src=source, alt=path, title=path)


def _by_label(kept: Sequence[Entry]) -> list[tuple[str, Counter[str]]]:
    """Return the counts by part of each label, the most frequent label first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in kept:
        if one.label:
            counts[one.label][one.part] += 1
    return sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
