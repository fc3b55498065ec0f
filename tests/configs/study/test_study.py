"""`study` on a run, from nothing to table and plot."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeproof_train.students.multi_view import MultiViewStudent

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.integration


@pytest.fixture
def run(object_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run: a study writes into it."""
    return shutil.copytree(object_run, tmp_path / "run")


def rows_of(told: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in told["rows"] if all(row[key] == value for key, value in wanted.items())]


def studied(edgeproof: Run, *arguments: object) -> dict[str, Any]:
    code, out, err = edgeproof("study", *arguments, "--json", "--device", "cpu")
    assert code == 0, err
    return json.loads(out)


def test_study__views_are_encoded_once(
    run: Path, edgeproof: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    encode = MultiViewStudent.encode_views

    def counted(self: MultiViewStudent, image: Any) -> Any:
        seen.append(len(image))
        return encode(self, image)

    monkeypatch.setattr(MultiViewStudent, "encode_views", counted)
    told = studied(edgeproof, run, "--views", "1,2,4")
    assert sum(seen) == 16 * 4
    assert {(row["model"], row["views"]) for row in told["rows"]} == {
        (model, views) for model in ("teacher", "student") for views in (1, 2, 4)
    }
    again = studied(edgeproof, run, "--views", "1,2,3,4")
    assert sum(seen) == 16 * 4
    for views in (1, 2, 4):
        assert rows_of(again, views=views) == rows_of(told, views=views)
    code, out, _ = edgeproof("evaluate", run, "--json", "--device", "cpu", "--out", tmp_path / "e")
    assert code == 0
    figures = json.loads(out)
    for model in ("teacher", "student"):
        (row,) = rows_of(told, model=model, views=4, protocol="unseen", definition="osmn40")
        assert row["map"] == pytest.approx(figures[model]["osmn40.map_unseen"], abs=1e-6)


def test_study__variants_seeds_and_tables(run: Path, edgeproof: Run) -> None:
    told = studied(edgeproof, run, "--vary", "student.pooling=mean,max", "--seeds", "2", "--views", "2,4")
    folders = ["student.pooling=mean,seed=0", "student.pooling=mean,seed=1"]
    assert list(told["variants"])[:2] == folders
    for folder in folders:
        assert (run / "study" / folder / "train" / "stage.json").exists()
    students = rows_of(told, model="student", protocol="all", definition="standard", views=4)
    assert [(row["variant"], row["seed"]) for row in students] == [
        (f"student.pooling={kind}", seed) for kind in ("mean", "max") for seed in "01"
    ]
    mean = next(
        row
        for row in told["means"]
        if (row["variant"], row["model"], row["protocol"], row["views"], row["definition"])
        == ("student.pooling=mean", "student", "all", 4, "standard")
    )
    assert mean["map"] == pytest.approx((students[0]["map"] + students[1]["map"]) / 2)
    with (run / "study" / "study.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == len(told["rows"])
    assert json.loads((run / "study" / "study.json").read_text()) == told
    assert ElementTree.parse(run / "study" / "study.svg").getroot().tag.endswith("svg")
    page = (run / "study" / "study.html").read_text()
    assert "student, student.pooling=max" in page
    assert "all of them" in (run / "study" / "study.md").read_text()


def test_study__trains_nothing_again(run: Path, edgeproof: Run) -> None:
    arguments = run, "--seen", "2,3", "--device", "cpu"
    code, out, err = edgeproof("study", *arguments)
    assert code == 0, err
    assert out.count("best epoch") == 2
    assert "embed test: " not in err
    code, out, err = edgeproof("study", *arguments, "--views", "1,4")
    assert code == 0, err
    assert "best epoch" not in out
    assert "nothing to do: every stage is up to date" in out
    assert (run / "study" / "seen=3" / "train" / "stage.json").exists()


def test_study__few_views_search_many_and_other_collections(
    run: Path, object_file: Path, edgeproof: Run
) -> None:
    other = object_file.parent / "data"
    told = studied(edgeproof, run, "--views", "1,4", "--gallery-views", "4", "--gallery", other)
    few, all_views = (
        rows_of(told, model="student", protocol="all", definition="standard", views=views)[0]
        for views in (1, 4)
    )
    assert (few["gallery_views"], all_views["gallery_views"]) == (4, 4)
    assert few["map"] != all_views["map"]
    assert {row["protocol"] for row in told["rows"]} == {"all", "seen", "unseen", "data", "to data"}
    assert rows_of(told, model="teacher", protocol="data", views=4, definition="standard")[0]["queries"] == 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--views", "1,5"], "5 views are asked for, and an object has 4"),
        (["--views", "none"], "expected whole numbers such as 1,2,4"),
        (["--seen", "4"], "the data have 4 classes, and some must stay unseen"),
        (["--vary", "student.pooling=mean,most"], "student.pooling"),
        (["--set", "train.epochs=2"], "--run and --set have no effect on a run"),
        (["--split", "all"], "unknown part 'all'"),
    ],
)
def test_study__what_does_not_fit(options: list[str], words: str, run: Path, edgeproof: Run) -> None:
    code, _, err = edgeproof("study", run, *options, "--device", "cpu")
    assert code == 2
    assert words in err
    assert len(err.splitlines()) <= 4


def test_study__of_photos(shipped: Path, edgeproof: Run, tmp_path: Path) -> None:
    photos = shutil.copytree(shipped, tmp_path / "photos")
    code, _, err = edgeproof("study", photos, "--device", "cpu")
    assert code == 2
    assert "a study needs labelled objects with several views" in err
