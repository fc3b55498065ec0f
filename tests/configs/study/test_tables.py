from __future__ import annotations

from typing import Any

import pytest

from edgeproof.study.tables import cells_of, markdown, means_of, panels_of


def row(variant: str, model: str, views: int, value: float, seed: str = "", **other: Any) -> dict[str, Any]:
    return {
        "variant": variant,
        "seed": seed,
        "model": model,
        "protocol": "all",
        "definition": "standard",
        "views": views,
        "gallery_views": views,
        "map": value,
        "queries": 8.0,
        "excluded": 0.0,
    } | other


def test_means_of__over_seeds() -> None:
    rows = [row("a", "student", 1, value, str(seed)) for seed, value in enumerate((0.5, 0.7))]
    (found,) = means_of([*rows])
    assert (found["map"], found["seeds"]) == (pytest.approx(0.6), 2)
    assert found["map_std"] == pytest.approx(0.02**0.5)
    assert "ndcg" not in found


def test_cells_of__a_teacher_that_all_share_stands_once() -> None:
    rows = [
        *(row(name, "teacher", views, 0.9) for name in ("a", "b") for views in (1, 2)),
        *(row(name, "student", views, 0.5) for name in ("a", "b") for views in (2, 1)),
    ]
    head, lines = cells_of(means_of(rows))
    assert head == ["variant", "model", "definition", "views", "queries", "map"]
    assert [line[:4] for line in lines] == [
        ["all of them", "teacher", "standard", "1"],
        ["all of them", "teacher", "standard", "2"],
        ["a", "student", "standard", "1"],
        ["a", "student", "standard", "2"],
        ["b", "student", "standard", "1"],
        ["b", "student", "standard", "2"],
    ]
    rows[0]["map"] = 0.8
    assert len(cells_of(means_of(rows))[1]) == 8


def test_cells_of__says_what_was_not_counted() -> None:
    rows = [row("a", "student", 1, 0.25, ndcg=0.5), row("a", "student", 1, 0.25, definition="osmn40")]
    head, lines = cells_of(means_of(rows))
    assert lines[0][head.index("ndcg@100")] == "0.5000"
    assert lines[1][head.index("ndcg@100")] == "-"
    two = means_of([row("a", "student", 1, 0.25, "0"), row("a", "student", 1, 0.75, "1")])
    assert cells_of(two)[1][0][-1] == "0.5000 ± 0.3536"
    text = markdown(["x|y", "z"], [["1", "2"]])
    assert text == "| x/y | z |\n| --- | --- |\n| 1 | 2 |\n"


def test_panels_of__by_views() -> None:
    rows = [row(name, model, v, v / 10) for name in "ab" for model in ("teacher", "student") for v in (4, 1)]
    rows.append(row("a", "student", 1, 0.3, protocol="unseen"))
    panels, axis = panels_of(means_of(rows), {"a": {"student.model": "x"}, "b": {"student.model": "y"}})
    assert (axis.name, [panel.title for panel in panels]) == ("views", ["all", "unseen"])
    assert [curve.name for curve in panels[0].curves] == [
        "teacher",
        "student, student.model=x",
        "student, student.model=y",
    ]
    assert list(panels[0].curves[1].x) == [1, 4]
    assert list(panels[0].curves[1].y) == [0.1, 0.4]


def test_panels_of__by_seen_classes_or_by_variant() -> None:
    rows = [row(f"seen={n}", "student", 4, n / 10) for n in (4, 2)]
    panels, axis = panels_of(means_of(rows), {f"seen={n}": {"seen": str(n)} for n in (2, 4)})
    assert (axis.name, list(panels[0].curves[0].x)) == ("seen classes", [2, 4])
    rows = [row(name, "student", 4, 0.5) for name in ("a", "b")]
    panels, axis = panels_of(means_of(rows), {name: {"student.model": name} for name in "ab"})
    assert (axis.name, list(axis.words), list(panels[0].curves[0].x)) == ("variant", ["a", "b"], [0, 1])
