from __future__ import annotations

from xml.etree import ElementTree

from tests.benchmarks.page import Page

from edgeproof_benchmarks.study_chart import Axis, Curve, Panel, study_chart
from edgeproof_benchmarks.study_page import study_drawing, study_page

VIEWS = [1.0, 2.0, 4.0, 12.0]


def panels() -> list[Panel]:
    student = Curve("student <b>", VIEWS, [0.5, 0.6, 0.7, 0.72], [0.02, 0.01, 0.0, 0.01])
    teacher = Curve("teacher", VIEWS, [0.6, 0.7, 0.8, 0.8], [0.0] * 4)
    return [Panel(name, [teacher, student]) for name in ("all", "seen", "unseen")]


def test_study_chart__points_lines_and_deviations() -> None:
    page = Page(study_chart(panels(), Axis("views"), "mAP (standard)"))
    kinds = [tag for tag, _ in page.tags]
    assert kinds.count("polyline") == 6
    assert kinds.count("circle") == 24
    assert sum(str(attrs.get("class")).startswith("whisker") for _, attrs in page.tags) == 9
    assert {"all: mAP (standard)", "unseen: mAP (standard)", "12", "views"} <= set(page.words)
    # Counts that span much stand evenly: from one to two is as far as from two to four.
    dots = [float(str(attrs["cx"])) for tag, attrs in page.tags if tag == "circle"][:3]
    assert abs((dots[1] - dots[0]) - (dots[2] - dots[1])) < 0.1


def test_study_chart__names_in_place_of_numbers() -> None:
    curve = Curve("student", [0.0, 1.0], [0.5, 0.7], [0.0, 0.0])
    words = ["student.model=resnet18", "b"]
    page = Page(study_chart([Panel("all", [curve])], Axis("variant", words), "mAP"))
    assert "student.model=r…" in page.words
    assert "b" in page.words


def test_study_chart__one_point() -> None:
    page = Page(study_chart([Panel("all", [Curve("student", [4.0], [0.5], [0.0])])], Axis("views"), "mAP"))
    assert "polyline" not in {tag for tag, _ in page.tags}


def test_study_drawing__is_a_file_of_its_own() -> None:
    text = study_drawing(study_chart(panels(), Axis("views"), "mAP"))
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "student <b>" in [node.text for node in root.iter()] or "student <b>" in "".join(root.itertext())
    assert ".s0" in text


def test_study_page__escapes_and_closes() -> None:
    chart = study_chart(panels(), Axis("views"), "mAP")
    page = Page(study_page("a & b", "lead", chart, ["model", "map"], [["x<y", "0.5"]], ["note"]))
    assert {"a & b", "x<y", "0.5", "note"} <= set(page.words)
