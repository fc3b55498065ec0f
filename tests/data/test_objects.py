from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_data.loader import eval_batches
from edgeproof_data.objects import ObjectSet, evenly
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

PREPROCESS = Preprocess(8, 8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture
def objects(tmp_path: Path) -> ObjectSet:
    random = np.random.default_rng(0)
    views = []
    for number, count in enumerate((3, 5)):
        files = tuple(f"cup/cup{number}/{view}.png" for view in range(count))
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).save(tmp_path / file)
        views.append(files)
    return ObjectSet(tmp_path, ("cup/cup0", "cup/cup1"), np.array([0, 0]), ("cup",), tuple(views), shown=2)


def test_evenly__goes_round_from_the_first() -> None:
    assert evenly(41, 4).tolist() == [0, 10, 20, 30]
    assert evenly(3, 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="cannot choose 4 of 3"):
        evenly(3, 4)


def test_eval_batches__gives_the_shown_views_of_each_object(objects: ObjectSet) -> None:
    (batch,) = eval_batches(objects, PREPROCESS, batch_size=4)
    assert batch["image"].shape == (2, 2, 3, 8, 8)
    assert batch["index"].tolist() == [0, 1]
    expected = PREPROCESS(open_image(objects.root / "cup/cup1/2.png"))
    np.testing.assert_array_equal(batch["image"][1, 1].numpy(), expected)


def test_view_images__knows_label_and_place_of_every_view(objects: ObjectSet) -> None:
    images = objects.view_images()
    assert len(images) == 8
    rows = objects.view_rows()
    assert [images.paths[row] for row in rows[1]] == list(objects.views[1])
    assert [[images.paths[row] for row in of_object] for of_object in objects.shown_rows()] == [
        list(objects.shown_views(index)) for index in range(2)
    ]


def test_subset__keeps_views_and_order(objects: ObjectSet) -> None:
    one = objects.subset([1])
    assert one.paths == ("cup/cup1",)
    assert one.views == (objects.views[1],)
    assert one.file(0) == objects.root / "cup/cup1/0.png"
    assert one.showing(5).view_count == 5


def test_object_set__refuses_what_cannot_be_shown(objects: ObjectSet) -> None:
    with pytest.raises(ValueError, match="cannot show 4 views of objects that have 3"):
        objects.showing(4)
    with pytest.raises(ValueError, match="3 to 5 views"):
        objects.showing(None)
    with pytest.raises(ValueError, match="views of each of 1"):
        ObjectSet(Path(), ("a",), np.zeros(1, np.int64), ("a",), ())
