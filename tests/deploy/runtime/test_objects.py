from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_deploy.runtime.objects import named_objects, prepared_objects, views_in
from edgeproof_deploy.runtime.preprocess import ImageError, Preprocess
from edgeproof_deploy.runtime.sources import named_sources

PREPROCESS = Preprocess(8, 9, views=3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two objects with 3 and 2 views, and a damaged view in the second."""
    for name, count in (("cup", 3), ("dog", 2)):
        (tmp_path / name).mkdir()
        for view in range(count):
            Image.new("RGB", (12, 10), (40 * view, 90, 200)).save(tmp_path / name / f"{view}.png")
    (tmp_path / "dog" / "9.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no view")
    return tmp_path


def test_named_objects__folders_files_lists_and_arrays(root: Path) -> None:
    array = np.zeros((4, 12, 12, 3), np.uint8)
    asked = [root / "cup", str(root / "cup" / "1.png"), [root / "dog" / "0.png", array[0]], array, array[0]]
    found = named_objects(asked)
    assert [len(views) for _, views in found] == [3, 1, 2, 4, 1]
    assert [name for name, _ in found] == [
        *(str(root / "cup"), str(root / "cup" / "1.png")),
        *("object 2", "object 3", "object 4"),
    ]
    assert [name for name, _ in found[0][1]] == [str(root / "cup" / f"{view}.png") for view in range(3)]


def test_named_objects__one_alone(root: Path) -> None:
    assert len(named_objects(root / "cup")) == 1
    assert len(named_objects(np.zeros((4, 12, 12, 3), np.uint8))[0][1]) == 4
    assert named_objects([[root / "cup" / "0.png", root / "cup" / "1.png"]])[0][0].endswith(
        "0.png and 1 more"
    )


def test_named_objects__what_holds_no_view_is_told(root: Path) -> None:
    (root / "empty").mkdir()
    broken: list[ImageError] = []
    assert [name for name, _ in named_objects([root / "empty", root, [], root / "cup"], broken)] == [
        str(root / "cup")
    ]
    assert "holds no image file" in broken[0].reason
    assert "2 folders below it do" in broken[1].reason
    assert broken[2].reason == "has no view"
    with pytest.raises(ImageError, match="a folder is one object"):
        named_objects(root)


def test_views_in__images_of_the_folder_alone(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "top.png")
    assert views_in(root) == [root / "top.png"]


@pytest.mark.parametrize("workers", [0, 2])
def test_prepared_objects__batches_have_as_many_views_each(root: Path, workers: int) -> None:
    named = named_objects([root / "cup", root / "cup", root / "cup", root / "dog", root / "none.png"])
    broken: list[ImageError] = []
    batches = list(prepared_objects(named, PREPROCESS, batch_size=2, workers=workers, broken=broken))
    assert [inputs.shape for _, inputs in batches] == [(2, 3, 3, 8, 8), (1, 3, 3, 8, 8), (1, 2, 3, 8, 8)]
    assert [name for names, _ in batches for name in names] == [name for name, _ in named[:4]]
    assert [error.name for error in broken] == [str(root / "dog" / "9.png"), str(root / "none.png")]
    single = PREPROCESS(Image.open(root / "cup" / "1.png").convert("RGB"))
    np.testing.assert_array_equal(batches[0][1][0, 1], single)
    with pytest.raises(ImageError, match="is not an image"):
        list(prepared_objects(named, PREPROCESS, batch_size=2, workers=workers, broken=None))


def test_prepared_objects__an_object_of_broken_views_alone_is_told(root: Path) -> None:
    for view in (0, 1):
        (root / "dog" / f"{view}.png").write_bytes(b"")
    broken: list[ImageError] = []
    named = named_objects([root / "dog"])
    assert not list(prepared_objects(named, PREPROCESS, batch_size=1, workers=0, broken=broken))
    assert broken[-1].reason == "none of its views can be read"
    assert len(broken) == 4


def test_named_sources__a_model_of_single_images_is_asked_about_an_object(root: Path) -> None:
    with pytest.raises(ImageError, match="this model looks at one image"):
        named_sources([[root / "cup" / "0.png"]])
