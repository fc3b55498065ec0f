from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarks.page import Page
from tests.benchmarks.test_retrieval_section import jpeg

from edgeproof_benchmarks.report_data import ReportData, report_data
from edgeproof_benchmarks.sections.curation import curation
from edgeproof_configs.errors import EdgeproofError

FIGURES: dict[str, Any] = {
    "searched": {"train": 1200, "val": 80, "test": 50},
    "kept": {"train": 34, "val": 5, "test": 50},
    "settled": ["test"],
    "cosine": {"p5": 0.15, "p25": 0.19, "p50": 0.2123, "p75": 0.25, "p95": 0.31},
    "unreadable": 2,
    "far": 900,
    "other_words": 0,
    "removed": {"same bytes": 7},
    "leaks": {"train in test": 3},
    "over_cap": 0,
    "over_balance": 0,
    "per_word": {"cat <3": 30, "dog": 4, "unicorn": 0},
    "empty_words": ["unicorn"],
}


def data_with(figures: dict[str, Any] | None, pictures: list[dict[str, Any]]) -> ReportData:
    result: dict[str, Any] = {"name": "words", "sentence": "Ship it.", "verdict": "ship", "rows": []}
    return report_data(result | ({} if figures is None else {"curation": figures}), curation=pictures)


def test_curation__is_left_out_where_the_images_were_given() -> None:
    assert curation(data_with(None, [])) is None


def test_curation__counts_words_reasons_and_pictures() -> None:
    shown = [{"word": "cat <3", "images": [{"path": "a.png", "thumbnail": jpeg(9)}]}]
    html = curation(data_with(FIGURES, shown))
    assert html is not None
    page = Page(html)
    text = " ".join(page.text.split())
    assert "By 3 words: 34 of 1,200 train, 5 of 80 val images." in text
    assert "50 of 50" not in text
    assert "1 word without a training image" in text
    assert "3 of train, also in test" in text
    assert "0.150 to 0.310 (5 to 95 %), half below 0.212" in text
    for words in ("far from every word", "same bytes", "unreadable", "cat <3", "unicorn"):
        assert words in text
    for words in ("nearer to other words", "more than per_word"):
        assert words not in text
    assert html.count("<img") == 1


def test_curation__many_words_are_folded_away() -> None:
    many = {f"word {number:03d}": 100 - number for number in range(60)}
    html = curation(data_with(FIGURES | {"per_word": many, "empty_words": []}, []))
    assert html is not None
    assert "and 36 words with fewer" in html
    assert "without a training image" not in html


def test_curation__a_picture_that_is_none() -> None:
    with pytest.raises(EdgeproofError, match=r"the picture of a\.png is not base64"):
        data_with(FIGURES, [{"word": "cat", "images": [{"path": "a.png", "thumbnail": "?"}]}])
