from __future__ import annotations

from typing import Any

from tests.benchmarks.page import Page

from edgeproof_benchmarks.report_data import ReportData, report_data
from edgeproof_benchmarks.sections.head_draw import head_draw
from edgeproof_benchmarks.sections.provenance import provenance


def data_with(evidence: dict[str, Any] | None) -> ReportData:
    result: dict[str, Any] = {"name": "heads", "sentence": "Ship it.", "verdict": "ship", "rows": []}
    return report_data(result | ({} if evidence is None else {"head": {"evidence": evidence}}))


def test_head_draw__is_left_out_where_nothing_was_drawn() -> None:
    assert head_draw(data_with(None)) is None
    assert head_draw(data_with({"on": "student", "shots": {"split": "train", "images": 0}})) is None


def test_head_draw__names_few_images_and_the_table_of_many() -> None:
    shots = {"split": "train", "images": 3, "file": "shots.csv", "by_class": {"<cat>": ["a.png", "b.png"]}}
    val = {"split": "val", "images": 900, "file": "val.csv"}
    data = data_with({"on": "student", "of": "image", "shots": shots, "val": val})
    html = head_draw(data)
    assert html is not None
    assert html in provenance(data)
    page = Page(html)
    text = " ".join(page.text.split())
    assert "3 images of train, listed in head/shots.csv" in text
    assert "900 images of val, listed in head/val.csv" in text
    assert "<cat>: a.png, b.png" in text
    assert [name for name, _ in page.tags].count("details") == 1
