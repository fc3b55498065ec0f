from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from edgeproof_configs.errors import DataError
from edgeproof_data.sets import ImageSet, unlabelled
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.stored import StoredTeacher

DIM = 6
NAMES = ("train/cat/1.jpg", "train/dog/1.jpg", "train/dog/a.b.jpg", "train/dog/a.c.jpg")


def rows_for(count: int, dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, DIM)).astype(dtype)


def write_pair(root: Path, name: str, paths: tuple[str, ...], rows: np.ndarray) -> dict[str, str]:
    np.save(root / f"{name}.npy", rows)
    with (root / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerows([("row", "path", "class"), *((i, path, "x") for i, path in enumerate(paths))])
    return {"embeddings": f"{name}.npy", "index": f"{name}.csv"}


def teacher_of(root: Path, *files: dict[str, str]) -> StoredTeacher:
    return StoredTeacher(StoredTeacher.Config.model_validate({"files": files}), TeacherPlaces(root))


def images_in(root: Path, *paths: str) -> ImageSet:
    return unlabelled(root, paths)


def test_stored__matches_by_the_path_under_the_data_root(tmp_path: Path) -> None:
    rows = rows_for(4)
    teacher = teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES, rows))
    images = images_in(tmp_path / "train", "dog/a.c.jpg", "cat/1.jpg", "dog/1.jpg")
    np.testing.assert_array_equal(teacher.stored(images), rows[[3, 0, 1]].astype(np.float32))
    assert teacher.embedding_dim == DIM
    assert not teacher.live
    assert not teacher.has_text


def test_stored__joins_several_files(tmp_path: Path) -> None:
    first, second = rows_for(2, "float32"), rows_for(2, "float64") + 1
    teacher = teacher_of(
        tmp_path, write_pair(tmp_path, "a", NAMES[:2], first), write_pair(tmp_path, "b", NAMES[2:], second)
    )
    got = teacher.stored(images_in(tmp_path, *reversed(NAMES)))
    np.testing.assert_array_equal(got, np.concatenate([first, second.astype(np.float32)])[::-1])


def test_stored__takes_absolute_paths_and_a_linked_root(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "train").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    rows = rows_for(2)
    pair = write_pair(real, "all", tuple(str(real / name) for name in NAMES[:2]), rows)
    teacher = teacher_of(link, pair)
    got = teacher.stored(images_in(real / "train", "dog/1.jpg"))
    np.testing.assert_array_equal(got, rows[[1]].astype(np.float32))


def test_stored__never_matches_by_file_name_alone(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES[:1], rows_for(1)))
    with pytest.raises(DataError, match=r"1 of 1 images have no stored embedding: test/cat/1\.jpg"):
        teacher.stored(images_in(tmp_path, "test/cat/1.jpg"))


def test_stored__counts_and_names_the_missing_ones(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES[:1], rows_for(1)))
    lost = [f"train/cat/{number}.jpg" for number in range(2, 7)]
    with pytest.raises(
        DataError, match=r"5 of 6 images have no stored embedding: train/cat/2\.jpg, .*2 more"
    ):
        teacher.stored_reader(images_in(tmp_path, NAMES[0], *lost))


def test_stored__refuses_images_outside_the_data_root(tmp_path: Path) -> None:
    teacher = teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES[:1], rows_for(1)))
    with pytest.raises(DataError, match="images lie outside"):
        teacher.stored(images_in(tmp_path.parent, "cat/1.jpg"))


def test_stored__refuses_two_embeddings_for_one_image(tmp_path: Path) -> None:
    pairs = (
        write_pair(tmp_path, "a", NAMES[:2], rows_for(2)),
        write_pair(tmp_path, "b", NAMES[1:3], rows_for(2)),
    )
    with pytest.raises(DataError, match=r"1 images have more than one stored embedding: train/dog/1\.jpg"):
        teacher_of(tmp_path, *pairs)


def test_stored__refuses_a_row_count_that_differs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 embeddings in all\.npy, 2 images in its index"):
        teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES[:2], rows_for(3)))


def test_stored__refuses_files_of_different_widths(tmp_path: Path) -> None:
    narrow = write_pair(tmp_path, "b", NAMES[2:], np.ones((2, DIM - 1), np.float16))
    with pytest.raises(DataError, match=r"have 5 values, those of a\.npy have 6"):
        teacher_of(tmp_path, write_pair(tmp_path, "a", NAMES[:2], rows_for(2)), narrow)


@pytest.mark.parametrize(("value", "word"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_stored__names_the_image_whose_embedding_has_no_direction(
    tmp_path: Path, value: float, word: str
) -> None:
    rows = rows_for(4)
    rows[2] = value
    teacher = teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES, rows))
    with pytest.raises(DataError, match=f"1 of 4 embeddings are {word}: train/dog/a.b.jpg"):
        teacher.stored(images_in(tmp_path, *NAMES))
    assert len(teacher.stored(images_in(tmp_path, *NAMES[:2]))) == 2


def test_stored__does_not_unpickle(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "all", NAMES, rows_for(4))
    np.save(tmp_path / "all.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a readable \.npy array"):
        teacher_of(tmp_path, pair)


def test_stored__explains_a_cut_array(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "all", NAMES, rows_for(4))
    file = tmp_path / "all.npy"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"not a readable \.npy array"):
        teacher_of(tmp_path, pair)


@pytest.mark.parametrize("rows", [np.ones((4, DIM), np.int64), np.ones(4, np.float32)])
def test_stored__refuses_what_is_not_rows_of_floats(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected floating-point embeddings"):
        teacher_of(tmp_path, write_pair(tmp_path, "all", NAMES, rows))


def test_stored__refuses_an_index_without_paths(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "all", NAMES, rows_for(4))
    (tmp_path / "all.csv").write_text("row,file\n0,a.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'path'; it has row, file"):
        teacher_of(tmp_path, pair)


def test_stored__refuses_an_index_with_an_empty_path(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "all", (*NAMES[:3], ""), rows_for(4))
    with pytest.raises(DataError, match="1 rows have no path, in line 5"):
        teacher_of(tmp_path, pair)


def test_config__wants_exactly_one_layout() -> None:
    with pytest.raises(ValidationError, match="give either files"):
        StoredTeacher.Config()
    with pytest.raises(ValidationError, match="give either files"):
        StoredTeacher.Config.model_validate(
            {"folder": "x", "files": [{"embeddings": "a.npy", "index": "a.csv"}]}
        )


def folder_teacher(root: Path) -> StoredTeacher:
    return StoredTeacher(StoredTeacher.Config(folder="npy"), TeacherPlaces(root))


def mirror(root: Path, files: dict[str, np.ndarray]) -> None:
    for name, vector in files.items():
        (root / "npy" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / "npy" / name, vector)


def test_folder__mirrors_the_path_of_each_image(tmp_path: Path) -> None:
    rows = rows_for(3)
    mirror(
        tmp_path,
        {
            "train/dog/a.b.npy": rows[0],
            "train/dog/a.c.npy": rows[1][None],
            "train/cat/1.jpg.npy": rows[2],
        },
    )
    teacher = folder_teacher(tmp_path)
    got = teacher.stored(images_in(tmp_path / "train", "cat/1.jpg", "dog/a.c.jpg", "dog/a.b.jpg"))
    np.testing.assert_array_equal(got, rows[[2, 1, 0]].astype(np.float32))


def test_folder__counts_and_names_the_missing_ones(tmp_path: Path) -> None:
    mirror(tmp_path, {"train/dog/1.npy": rows_for(1)[0]})
    with pytest.raises(DataError, match=r"1 of 2 images have no stored embedding: train/cat/1\.jpg"):
        folder_teacher(tmp_path).stored(images_in(tmp_path, *NAMES[:2]))


def test_folder__refuses_one_file_for_two_images(tmp_path: Path) -> None:
    mirror(tmp_path, {"train/dog/1.npy": rows_for(1)[0]})
    with pytest.raises(DataError, match=r"1 embedding files belong to more than one image: train/dog/1\.npy"):
        folder_teacher(tmp_path).stored(images_in(tmp_path, "train/dog/1.jpg", "train/dog/1.png"))


def test_folder__refuses_another_width(tmp_path: Path) -> None:
    mirror(tmp_path, {"train/cat/1.npy": rows_for(1)[0], "train/dog/1.npy": np.ones(DIM + 1, np.float32)})
    with pytest.raises(DataError, match=r"an embedding of 7 values, train/cat/1\.npy has 6"):
        folder_teacher(tmp_path).stored(images_in(tmp_path, *NAMES[:2]))


def test_folder__refuses_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    with pytest.raises(DataError, match=r"has no \.npy file"):
        folder_teacher(tmp_path)


def test_identity__changes_with_the_content_of_the_files(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "all", NAMES, rows_for(4))
    before = teacher_of(tmp_path, pair).identity()
    assert before == teacher_of(tmp_path, pair).identity()
    write_pair(tmp_path, "all", NAMES, rows_for(4) + 1)
    after = teacher_of(tmp_path, pair).identity()
    assert before["weights_sha256"] != after["weights_sha256"]
    assert before["kind"] == "stored"


def test_stored__real_embeddings_give_the_known_zero_shot_accuracy(real_data: Path) -> None:
    """41 classes of the test part, by the text embeddings of the same model: 96.98 % of 1,058 photos."""
    root = real_data / "caltech_clip_b32"
    files = [
        {"embeddings": f"image_embeddings_{part}.npy", "index": f"index_{part}.csv"}
        for part in ("train", "test")
    ]
    teacher = teacher_of(root, *files)
    names = (root / "text_classes_41.txt").read_text(encoding="utf-8").split("\n")
    names = [name.strip().replace("_", " ") for name in names if name.strip()]
    kept = [
        (path.relative_to(root / "images").as_posix(), path.parent.name.replace("_", " "))
        for path in sorted((root / "images" / "test").rglob("*.jpg"))
    ]
    kept = [(path, name) for path, name in kept if name in names]
    images = images_in(root / "images", *(path for path, _ in kept))
    rows = teacher.stored(images)
    text = np.load(root / "text_embeddings_41.npy", allow_pickle=False).astype(np.float32)
    right = (rows @ text.T).argmax(axis=1) == [names.index(name) for _, name in kept]
    assert len(right) == 1058
    assert round(100 * right.mean(), 2) == 96.98
