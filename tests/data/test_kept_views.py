from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.kept_views import choose_views, keep_listed, write_kept
from edgeproof_data.object_trees import FoundObject


def ring(name: str, count: int) -> FoundObject:
    return FoundObject(name, "cup", None, tuple(f"{name}/{number}.png" for number in range(count)))


def test_choose_views__evenly_in_a_circle() -> None:
    (kept,) = choose_views([ring("a", 12)], 4, "even", seed=0)
    assert kept.views == ("a/0.png", "a/3.png", "a/6.png", "a/9.png")


def test_choose_views__at_random_by_seed_and_path() -> None:
    objects = [ring("a", 180), ring("b", 180)]
    kept = choose_views(objects, 30, "random", seed=0)
    assert [len(set(found.views)) for found in kept] == [30, 30]
    assert kept == choose_views(objects, 30, "random", seed=0) != choose_views(objects, 30, "random", seed=1)
    places = [[objects[i].views.index(view) for view in kept[i].views] for i in range(2)]
    assert places[0] != places[1]
    assert all(row == sorted(row) for row in places)
    fewer = choose_views(objects, 10, "random", seed=0)
    assert all(set(few.views) < set(more.views) for few, more in zip(fewer, kept, strict=True))


def test_choose_views__never_more_than_there_are() -> None:
    with pytest.raises(ValueError, match="cannot choose 5 of 4 views"):
        choose_views([ring("a", 4)], 5, "even", seed=0)


def test_keep_listed__what_was_written(tmp_path: Path) -> None:
    objects = [ring("a", 6), ring("b", 6), ring("c", 6)]
    kept = choose_views(objects[:2], 3, "random", seed=4)
    write_kept(tmp_path / "views.csv", kept)
    assert keep_listed(objects, tmp_path / "views.csv") == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,part\na,train\n", "no columns path and view"),
        ("path,view\na,a/9.png\n", "1 view of this table not found: a/9.png"),
        ("path,view\nz,a/0.png\n", "1 view of this table not found: a/0.png"),
    ],
)
def test_keep_listed__refused_in_words(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        keep_listed([ring("a", 3)], tmp_path / "views.csv")
