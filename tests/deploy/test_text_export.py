from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tests.deploy import text_teachers

from edgeproof_configs.errors import EdgeproofError, GateError, UsageError
from edgeproof_configs.files import read_json
from edgeproof_deploy.bundle import BundleParts, write_bundle
from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.text_encoder import read_text_encoder
from edgeproof_deploy.text_export import compare_text, export_text
from edgeproof_train.teacher import Teacher
from edgeproof_train.text import TextSpec, make_text_bank
from edgeproof_train.text_tower import TextTower

TEMPLATES = ["a photo of a {}", "a {}"]
MAKERS: dict[str, Callable[[Path], Teacher]] = {
    "contrastive": text_teachers.contrastive,
    "open_clip": text_teachers.open_clip_teacher,
    "transformers": text_teachers.transformers_teacher,
}
WORDS = {"contrastive": ["ring", "blue_ball", "red cone"]}
OTHER_WORDS = ["stop_sign", "naïve Käse", "Tom & Jerry\u2019s №5", "long " * 40]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Teacher, Path, Any]]:
    """Return a teacher, the folder of its text tower and what was said of it, made once a kind."""
    made: dict[str, tuple[Teacher, Path, Any]] = {}

    def export(kind: str) -> tuple[Teacher, Path, Any]:
        if kind not in made:
            teacher, folder = MAKERS[kind](tmp_path_factory.mktemp(kind)), tmp_path_factory.mktemp("text")
            words = WORDS.get(kind, OTHER_WORDS)
            made[kind] = (
                teacher,
                folder,
                export_text(teacher, folder, TEMPLATES, [w.replace("_", " ") for w in words]),
            )
        return made[kind]

    return export


@pytest.mark.parametrize(
    "kind", ["contrastive", "open_clip", pytest.param("transformers", marks=pytest.mark.slow)]
)
def test_export_text__on_the_device_words_are_what_training_makes_of_them(
    exported: Callable[[str], tuple[Teacher, Path, Any]], parts: BundleParts, tmp_path: Path, kind: str
) -> None:
    teacher, _, found = exported(kind)
    words = WORDS.get(kind, OTHER_WORDS)
    (tmp_path / "labels.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "templates.txt").write_text("\n".join(TEMPLATES), encoding="utf-8")
    spec = TextSpec(labels=str(tmp_path / "labels.txt"), templates=str(tmp_path / "templates.txt"))
    source: Any = type("Source", (), {"root": tmp_path, "class_names": ()})
    expected = make_text_bank(spec, teacher, source).matrix
    assert expected is not None
    write_bundle(tmp_path / "b", replace(parts, text=found.files))
    encoder = read_text_encoder(Bundle(tmp_path / "b"), text_teachers.WIDTH, (), 1)
    np.testing.assert_allclose(encoder.embed(words), expected, atol=2e-6)
    assert found.cosine_min > 0.99999
    assert found.texts == len(words) + (0 if kind == "contrastive" else 5)
    settings = read_json(tmp_path / "b/text/encoder.json")
    assert settings["templates"] == TEMPLATES
    assert settings["cosine_min"] == found.cosine_min


def test_export_text__the_file_holds_the_text_tower_alone(
    exported: Callable[[str], tuple[Teacher, Path, Any]],
) -> None:
    teacher, folder, _ = exported("open_clip")
    model = onnx.load(folder / "text/encoder.onnx")
    values = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    tower: Any = teacher.text_tower().module
    images = sum(parameter.numel() for parameter in tower.model.visual.parameters())
    whole = sum(parameter.numel() for parameter in tower.parameters())
    assert values <= whole - images + 1000
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_compare_text__a_tokenizer_that_differs_fails_the_gate(
    exported: Callable[[str], tuple[Teacher, Path, Any]],
) -> None:
    teacher, folder, _ = exported("open_clip")
    data, tower = (folder / "text/encoder.onnx").read_bytes(), teacher.text_tower()
    assert compare_text(teacher, tower, data, ["a dog", "“dog”"], folder) > 0.99999
    other = replace(tower, cleaning="transformers")
    assert compare_text(teacher, other, data, ["a dog"], folder) > 0.99999
    with pytest.raises(GateError, match=r"differs on the device: cosine 0\.\d+ .* for '“dog”'"):
        compare_text(teacher, other, data, ["a dog", "“dog”"], folder)


def test_export_text__too_large_for_one_file(
    exported: Callable[[str], tuple[Teacher, Path, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeproof_deploy.text_export.LARGEST_WEIGHTS_BYTES", 1_000_000)
    with pytest.raises(
        EdgeproofError, match=r"text tower has 0\.0 GB of weights, one ONNX file holds at most"
    ):
        export_text(exported("open_clip")[0], tmp_path, ["{}"], ["cat"])


def test_text_tower__a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    cleaned = text_teachers.open_clip_teacher(tmp_path, tokenizer_kwargs={"clean": "canonicalize"})
    with pytest.raises(UsageError, match="is not CLIP's byte-pair encoding") as caught:
        cleaned.text_tower()
    assert caught.value.where == "deploy.text_encoder"


def test_text_tower__counts_tokens() -> None:
    tower = TextTower(torch.nn.Identity(), [("a", "b"), ("ab", "c</w>")], "open_clip", 8, 0)
    assert tower.tokens == 516
