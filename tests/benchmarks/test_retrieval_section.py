from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image
from tests.benchmarks.page import Page

from edgeproof_benchmarks.report_data import ReportData, report_data
from edgeproof_benchmarks.retrieval_data import read_retrieval
from edgeproof_benchmarks.sections.retrieval import retrieval
from edgeproof_configs.errors import EdgeproofError

FIGURES = {
    "map": 0.81234,
    "ndcg": 0.9,
    "anmrr": 0.1,
    "nn": 1.0,
    "first_tier": 0.7,
    "second_tier": 0.8,
    "recall@5": 1.0,
    "recall@10": 1.0,
    "queries": 12.0,
    "excluded": 0.0,
}


def jpeg(shade: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(buffer, "JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def plain() -> dict[str, Any]:
    few = {name: value for name, value in FIGURES.items() if name != "ndcg"}
    both = {"standard": FIGURES, "osmn40": few | {"map": 0.4}}
    near = {"path": "cup/b", "class": "cup", "thumbnail": jpeg(9), "cosine": 0.93, "right": True}
    far = {"path": "car/c", "class": "car", "thumbnail": jpeg(99), "cosine": 0.91, "right": False}
    return {
        "form": "onnxruntime fp32",
        "views": 4,
        "figures": {"teacher": {"all": both}, "onnxruntime fp32": {"all": both, "unseen": both}},
        "differences": {"all": {"delta": -0.0123, "low": -0.03, "high": 0.01}},
        "curves": {"teacher": {"standard": [1.0, *[0.5] * 10]}},
        "rankings": [
            {
                "query": {"path": "cup/a", "class": "cup", "thumbnail": jpeg(1), "seen": False},
                "nearest": [near, far],
            }
        ],
    }


def data_with(found: dict[str, Any] | None) -> ReportData:
    result = {"name": "objects", "sentence": "Ship it.", "verdict": "ship", "rows": []}
    return report_data(result, retrieval=found)


def test_retrieval__every_figure_says_its_definition() -> None:
    section = retrieval(data_with(plain()))
    assert section is not None
    page = Page(section)
    words = [word.strip() for word in page.words]
    assert words.count("standard") == words.count("OS-MN40") == 3
    assert words.count("held out") == 2
    # OS-MN40 has no NDCG here, and only the shipped form differs from the teacher.
    assert words.count("0.812") == 3
    assert words.count("0.400") == 3
    assert "\N{MINUS SIGN}0.012 (\N{MINUS SIGN}0.030 to +0.010)" in words
    assert "searches for the others of its class. The student sees 4 views of each" in page.text
    of_gallery = retrieval(data_with(plain() | {"gallery": 7}))
    assert of_gallery is not None
    assert "searches for those of its class among the 7 objects of the gallery." in Page(of_gallery).text


def test_retrieval__right_and_wrong_differ_by_mark_and_words_too() -> None:
    page = Page(str(retrieval(data_with(plain()))))
    frames = [attrs["class"] for tag, attrs in page.tags if tag == "figure" and attrs.get("class")]
    assert frames == ["found query", "found good", "found bad"]
    assert {"✓ cup", "✗ car", "query, held out of training"} <= set(page.words)
    shown = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert shown == ["query: cup", "right: cup", "wrong: car"]
    assert "One query" in page.text
    assert "1 of 2 shown are right" in page.text


def test_retrieval__nothing_searched() -> None:
    assert retrieval(data_with(None)) is None


def test_retrieval__without_rankings_or_curves() -> None:
    found = plain() | {"rankings": [], "curves": {}}
    page = Page(str(retrieval(data_with(found))))
    assert "Nearest objects" not in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_read_retrieval__a_broken_picture() -> None:
    found = plain()
    found["rankings"][0]["query"]["thumbnail"] = "?"
    with pytest.raises(EdgeproofError, match="the picture of cup/a is not base64"):
        read_retrieval(found)
