from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edgeproof_data.kinds.multi_view import MultiView
from edgeproof_data.object_trees import find_objects

Run = Callable[..., tuple[int, str, str]]
NAMES = ("cup", "jug", "owl", "toy_car")


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Return ten objects of each of four classes, six views each."""
    root = tmp_path / "toys"
    for place, name in enumerate(NAMES):
        for number in range(10):
            folder = root / name / f"{name}{number}"
            folder.mkdir(parents=True)
            for view in range(6):
                Image.new("RGB", (16, 16), (60 * place, 20 * number, 40 * view)).save(folder / f"{view}.png")
    return root


def parts(table: Path) -> Counter[tuple[str, str]]:
    with table.open(newline="") as handle:
        return Counter((row["label"], row["part"]) for row in csv.DictReader(handle))


def test_split__seen_and_unseen_as_a_recipe_takes_it(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    table = tmp_path / "du.csv"
    code, said, _ = edgeproof("data", "split", toys, table, "--seen", 2, "--unseen", 1, "--retrieval", 0.3)
    assert code == 0
    assert "2 seen classes, objects: 6 test, 14 train" in said
    assert "1 unseen class, objects: 7 gallery, 3 test" in said
    settings = {}
    for word in said.split("--set ")[1:]:
        key, value = word.split("=", 1)
        settings[key.strip().removeprefix("data.")] = value.strip()
    data = MultiView(MultiView.Config.model_validate(settings))
    data.prepare()
    assert data.unseen == tuple(
        name.strip() for name in (tmp_path / "du.unseen.txt").read_text().splitlines()
    )
    assert [len(data.split("train")) + len(data.split("val")), len(data.split("test"))] == [14, 9]
    assert data.remarks() == []


def test_split__another_seed_and_each_other(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 3)):
        words = ("--seen", 2, "--unseen", 2, "--each-other", "--seed", seed, "--json")
        code, said, _ = edgeproof("data", "split", toys, tmp_path / f"{name}.csv", *words)
        told = json.loads(said)
        assert (code, told["unseen"], told["seen"]) == (0, {"test": 20}, {"train": 16, "test": 4})
        drawn.append((tmp_path / f"{name}.csv").read_text())
    assert drawn[0] == drawn[1] != drawn[2]


def test_split__a_number_of_queries_of_each_class(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    words = ("--seen", 2, "--unseen", 2, "--queries", 5, "--json")
    _, said, _ = edgeproof("data", "split", toys, tmp_path / "open.csv", *words)
    assert json.loads(said)["unseen"] == {"gallery": 10, "test": 10}


def test_split__links(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    words = ("--seen", 2, "--unseen", 2, "--links", tmp_path / "tree")
    assert edgeproof("data", "split", toys, tmp_path / "du.csv", *words)[0] == 0
    by_table = Counter(part for (_, part), count in parts(tmp_path / "du.csv").items() for _ in range(count))
    assert Counter(found.part for found in find_objects(tmp_path / "tree").objects) == by_table
    code, _, err = edgeproof("data", "split", toys, tmp_path / "more.csv", *words)
    assert (code, "this exists and is not overwritten" in err) == (2, True)


def test_split__classes_without_partner_or_query_are_told(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    for number in range(1, 10):
        for file in (toys / "owl" / f"owl{number}").iterdir():
            file.unlink()
    words = ("--seen", 2, "--unseen", 2, "--each-other")
    outs = [edgeproof("data", "split", toys, tmp_path / f"{s}.csv", *words, "--seed", s)[1] for s in range(6)]
    assert any("1 class with queries and nothing to find: owl" in said for said in outs)
    assert any("1 class without a query: owl" in said for said in outs)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "how is it to be split?"),
        (("--seen", 2), 2, "--seen and --unseen go together"),
        (("--seen", 3, "--unseen", 2), 2, "3 seen and 2 unseen of 4 classes"),
        (("--seen", 1, "--unseen", 1, "--shots", 4), 2, "--shots has no effect beside --seen"),
        (("--seen", 1, "--unseen", 1, "--retrieval", 1.5), 2, "--retrieval must be above 0 and below 1"),
        (
            ("--seen", 1, "--unseen", 1, "--retrieval", 0.3, "--queries", 3),
            2,
            "both say how many objects ask",
        ),
        (("--shots", 1, "--queries", 3), 2, "--queries has no effect beside --shots"),
        (("--shots", 1, "--each-other"), 2, "--each-other has no effect beside --shots"),
    ],
)
def test_split__refused_in_words(
    words: tuple[object, ...], code: int, message: str, toys: Path, tmp_path: Path, edgeproof: Run
) -> None:
    got, _, err = edgeproof("data", "split", toys, tmp_path / "x.csv", *words)
    assert (got, message in err) == (code, True), err
    assert not (tmp_path / "x.csv").exists()


def test_views__a_table_that_a_recipe_takes(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    table = tmp_path / "views.csv"
    code, said, _ = edgeproof("data", "views", toys, table, "--keep", 3, "--how", "even")
    assert code == 0
    assert "3 views of each of 40 objects" in said
    data = MultiView(MultiView.Config(root=str(toys), kept_views=str(table)))
    assert data.split("test").view_count == 3
    assert [view.split("/")[-1] for view in data.split("test").views[0]] == ["0.png", "2.png", "4.png"]


def test_views__links_and_seeds(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert edgeproof("data", "views", toys, tmp_path / name, "--keep", 2, "--seed", seed)[0] == 0
    trees = [[found.views for found in find_objects(tmp_path / name).objects] for name in "abc"]
    assert trees[0] == trees[1] != trees[2]
    assert {len(views) for views in trees[0]} == {2}
    assert all(file.is_symlink() for file in (tmp_path / "a").rglob("*.png"))


def test_views__objects_with_too_few(toys: Path, tmp_path: Path, edgeproof: Run) -> None:
    (toys / "cup" / "cup0" / "5.png").unlink()
    code, _, err = edgeproof("data", "views", toys, tmp_path / "v.csv", "--keep", 6)
    assert (code, "1 object with fewer than 6 views: cup/cup0 (5)" in err) == (1, True)
    words = ("--keep", 6, "--too-few", "leave_out", "--json")
    code, said, _ = edgeproof("data", "views", toys, tmp_path / "v.csv", *words)
    assert (code, json.loads(said)["left_out"], json.loads(said)["objects"]) == (0, ["cup/cup0 (5)"], 39)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--how", "best"), "--how best: expected random or even"),
        (("--too-few", "skip"), "--too-few skip: expected refuse or leave_out"),
        (("--how", "even", "--seed", 2), "--seed has no effect with --how even"),
    ],
)
def test_views__refused_in_words(
    words: tuple[object, ...], message: str, toys: Path, tmp_path: Path, edgeproof: Run
) -> None:
    code, _, err = edgeproof("data", "views", toys, tmp_path / "v.csv", "--keep", 2, *words)
    assert (code, message in err) == (2, True)
    (tmp_path / "v.csv").write_text("mine")
    assert edgeproof("data", "views", toys, tmp_path / "v.csv", "--keep", 2)[0] == 2
