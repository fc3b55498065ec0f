from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from edgeproof_configs.errors import DataError, EdgeproofError, UsageError
from edgeproof_configs.schema import TeacherConfig
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_train.teacher import Teacher, TeacherPlaces
from edgeproof_train.text import TextBank, TextSpec, make_text_bank, unit_rows

DIM = 8


class WordTeacher(Teacher):
    """Every text has a vector of its own, of a length of its own."""

    class Config(TeacherConfig):
        kind: Literal["words"] = "words"  # pyright: ignore[reportIncompatibleVariableOverride]

    embedding_dim = DIM

    def __init__(self, has_text: bool = True):
        super().__init__(self.Config(), TeacherPlaces())
        self.has_text = has_text

    def _identity(self) -> dict[str, Any]:
        return {"weights_sha256": "ab"}

    def _encode_text(self, texts: list[str]) -> Tensor:
        return torch.stack([torch.from_numpy(vector_of(text)) for text in texts])


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    generator = np.random.default_rng(seed)
    return generator.normal(size=DIM).astype(np.float32) * generator.uniform(1, 20)


def matrix_of(bank: TextBank) -> np.ndarray:
    assert bank.matrix is not None
    return bank.matrix


@pytest.fixture
def source(tmp_path: Path) -> ImageFolder:
    return ImageFolder(ImageFolder.Config(root=str(tmp_path), labels="none", val=0.5))


def with_labels(tmp_path: Path, *names: str) -> TextSpec:
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    return TextSpec(labels="labels.txt")


def test_make_text_bank__one_template_equals_the_plain_prompt(tmp_path: Path, source: ImageFolder) -> None:
    bank = make_text_bank(with_labels(tmp_path, "stop_sign", "cat"), WordTeacher(), source)
    assert bank.names == ("stop sign", "cat")
    assert bank.prompts == (("a photo of a stop sign.",), ("a photo of a cat.",))
    plain = vector_of("a photo of a stop sign.")
    np.testing.assert_allclose(matrix_of(bank)[0], plain / np.linalg.norm(plain), atol=1e-7)


def test_make_text_bank__normalises_each_prompt_before_the_mean(tmp_path: Path, source: ImageFolder) -> None:
    spec = with_labels(tmp_path, "cat").model_copy(update={"templates": "imagenet7"})
    bank = make_text_bank(spec, WordTeacher(), source)
    prompts = [vector_of(prompt).astype(np.float64) for prompt in bank.prompts[0]]
    assert len(prompts) == 7
    mean = sum(vector / np.linalg.norm(vector) for vector in prompts) / 7
    np.testing.assert_allclose(matrix_of(bank)[0], mean / np.linalg.norm(mean), atol=1e-6)
    raw = np.mean(prompts, axis=0)
    assert matrix_of(bank)[0] @ (raw / np.linalg.norm(raw)) < 0.999


def test_make_text_bank__takes_rows_from_a_file_and_normalises_them(
    tmp_path: Path, source: ImageFolder
) -> None:
    rows = np.random.default_rng(0).normal(size=(2, DIM)).astype(np.float16) * 9
    np.save(tmp_path / "text.npy", rows)
    spec = TextSpec(labels=with_labels(tmp_path, "cat", "dog").labels, text_embeddings="text.npy")
    bank = make_text_bank(spec, WordTeacher(has_text=False), source)
    np.testing.assert_allclose(np.linalg.norm(matrix_of(bank), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(matrix_of(bank), unit_rows(rows), atol=0)
    assert matrix_of(bank).dtype == np.float32
    assert len(bank.source["sha256"]) == 64


def test_make_text_bank__refuses_another_width(tmp_path: Path, source: ImageFolder) -> None:
    np.save(tmp_path / "text.npy", np.ones((1, 5), np.float32))
    spec = TextSpec(labels=with_labels(tmp_path, "cat").labels, text_embeddings="text.npy")
    with pytest.raises(
        DataError, match="text embeddings have 5 values, the teacher's image embeddings have 8"
    ):
        make_text_bank(spec, WordTeacher(), source)


def test_make_text_bank__refuses_more_rows_than_labels(tmp_path: Path, source: ImageFolder) -> None:
    np.save(tmp_path / "text.npy", np.ones((3, DIM), np.float32))
    spec = TextSpec(labels=with_labels(tmp_path, "cat", "dog").labels, text_embeddings="text.npy")
    with pytest.raises(DataError, match="3 text embeddings for 2 labels"):
        make_text_bank(spec, WordTeacher(), source)


@pytest.mark.parametrize(("value", "word"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_make_text_bank__refuses_rows_without_direction(
    tmp_path: Path, source: ImageFolder, value: float, word: str
) -> None:
    rows = np.ones((2, DIM), np.float32)
    rows[1] = value
    np.save(tmp_path / "text.npy", rows)
    spec = TextSpec(labels=with_labels(tmp_path, "cat", "dog").labels, text_embeddings="text.npy")
    with pytest.raises(DataError, match=f"1 of 2 embeddings are {word}: row 1"):
        make_text_bank(spec, WordTeacher(), source)


@pytest.mark.parametrize(("digest", "fits"), [("ab", True), ("cd", False)])
def test_make_text_bank__knows_rows_of_another_teacher_by_the_json_beside_them(
    tmp_path: Path, source: ImageFolder, digest: str, fits: bool
) -> None:
    np.save(tmp_path / "text.npy", np.ones((1, DIM), np.float32))
    (tmp_path / "text.json").write_text(json.dumps({"teacher": {"weights_sha256": digest}}), encoding="utf-8")
    spec = TextSpec(labels=with_labels(tmp_path, "cat").labels, text_embeddings="text.npy")
    if fits:
        assert make_text_bank(spec, WordTeacher(), source).names == ("cat",)
    else:
        with pytest.raises(DataError, match="made by another teacher"):
            make_text_bank(spec, WordTeacher(), source)


def test_make_text_bank__without_tower_and_file_names_the_keys(tmp_path: Path, source: ImageFolder) -> None:
    with pytest.raises(UsageError) as caught:
        make_text_bank(with_labels(tmp_path, "cat"), WordTeacher(has_text=False), source)
    assert "head.text_embeddings" in str(caught.value)
    assert "head.labels" in str(caught.value)


def test_make_text_bank__refuses_a_label_that_is_there_twice(tmp_path: Path, source: ImageFolder) -> None:
    with pytest.raises(DataError, match="twice"):
        make_text_bank(with_labels(tmp_path, "crane", "cat", "crane"), WordTeacher(), source)


def test_make_text_bank__takes_the_class_names_of_the_data(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("stop_sign", "cat"):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(4):
                pixels = np.full((8, 8, 3), 40 * index, np.uint8)
                save_png(tmp_path / part / name / f"{index}.png", pixels)
    source = ImageFolder(ImageFolder.Config(root=str(tmp_path), val=0.5))
    source.prepare()
    bank = make_text_bank(TextSpec(), WordTeacher(), source)
    assert bank.names == ("cat", "stop sign")
    assert bank.rows_of(["stop_sign", "dog"]).tolist() == [1, -1]


def save_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def test_make_text_bank__without_any_label_names_the_key(source: ImageFolder, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for index in range(4):
            save_png(tmp_path / part / f"{index}.png", np.full((8, 8, 3), 40 * index, np.uint8))
    source.prepare()
    with pytest.raises(DataError, match=r"head\.labels"):
        make_text_bank(TextSpec(), WordTeacher(), source)


def test_text_spec__refuses_templates_beside_stored_embeddings() -> None:
    with pytest.raises(ValidationError, match="templates has no effect"):
        TextSpec(text_embeddings="text.npy", templates="imagenet7")


def test_text_bank__is_the_same_after_save_and_load(tmp_path: Path, source: ImageFolder) -> None:
    bank = make_text_bank(with_labels(tmp_path, "cat", "dog"), WordTeacher(), source)
    bank.save(tmp_path / "text_head")
    again = TextBank.load(tmp_path / "text_head")
    np.testing.assert_array_equal(again.matrix, bank.matrix)
    assert (again.names, again.prompts, again.source) == (bank.names, bank.prompts, bank.source)
    assert again.source["teacher"] == {"kind": "words", "weights_sha256": "ab"}


def test_text_bank_load__explains_a_cut_file(tmp_path: Path, source: ImageFolder) -> None:
    make_text_bank(with_labels(tmp_path, "cat"), WordTeacher(), source).save(tmp_path / "text_head")
    file = tmp_path / "text_head.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        TextBank.load(tmp_path / "text_head")
