from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.open_clip import OpenClipTeacher

NAME = "edgeproof-tiny"
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights, known to open_clip by name, its weights in a folder."""
    place = tmp_path_factory.mktemp("tiny")
    (place / f"{NAME}.json").write_text(json.dumps(TINY), encoding="utf-8")
    open_clip.add_model_config(place / f"{NAME}.json")
    torch.manual_seed(0)
    save_file(tiny().state_dict(), place / "weights.safetensors")
    return place


def tiny() -> Any:
    return open_clip.create_model(NAME)


def teacher_of(**settings: Any) -> OpenClipTeacher:
    return OpenClipTeacher(OpenClipTeacher.Config.model_validate(settings), TeacherPlaces())


def photo(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width)
    coarse = Image.fromarray(generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def test_open_clip__gives_what_open_clip_gives(folder: Path) -> None:
    teacher = teacher_of(model=NAME, pretrained=str(folder / "weights.safetensors"))
    reference = tiny().eval()
    open_clip.load_checkpoint(reference, str(folder / "weights.safetensors"))
    image = torch.randn(3, 3, 32, 32)
    texts = ["a photo of a cat.", "stop sign"]
    with torch.no_grad():
        torch.testing.assert_close(teacher.encode_image(image), reference.encode_image(image))
        tokens = open_clip.get_tokenizer(NAME)(texts)
        torch.testing.assert_close(teacher.encode_text(texts), reference.encode_text(tokens))
    assert (teacher.embedding_dim, teacher.has_text, teacher.live) == (24, True, True)
    assert teacher.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert not teacher.model.training


@pytest.mark.parametrize("size", [(200, 120), (120, 200), (97, 131), (40, 40)])
def test_open_clip__preprocesses_like_open_clip(folder: Path, size: tuple[int, int]) -> None:
    teacher = teacher_of(model=NAME, pretrained=str(folder / "weights.safetensors"))
    assert teacher.preprocess is not None
    reference: Any = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    difference = np.abs(teacher.preprocess(photo(*size)) - reference(photo(*size)).numpy())
    one_step = 1 / 255 / 0.26
    assert difference.max() < 1.01 * one_step
    assert (difference > 1e-5).mean() < 0.02


def test_open_clip__folder_brings_its_own_preprocessing(folder: Path, tmp_path: Path) -> None:
    told = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    config = {"model_cfg": TINY, "preprocess_cfg": told}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "open_clip_model.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    teacher = teacher_of(model=str(tmp_path))
    assert teacher.preprocess is not None
    reference: Any = image_transform_v2(PreprocessCfg(size=32, **told), is_train=False)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(
        teacher.preprocess(photo(200, 120)), reference(photo(200, 120)).numpy(), atol=1e-6
    )
    assert teacher.encode_text(["cat"]).shape == (1, 24)
    with pytest.raises(UsageError, match="has no effect"):
        teacher_of(model=str(tmp_path), pretrained="openai")


def test_open_clip__identity_changes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    before = teacher_of(model=NAME, pretrained=str(folder / "weights.safetensors")).identity()
    again = teacher_of(model=NAME, pretrained=str(folder / "weights.safetensors")).identity()
    state = tiny().state_dict()
    save_file(state, tmp_path / "other.safetensors")
    other = teacher_of(model=NAME, pretrained=str(tmp_path / "other.safetensors")).identity()
    assert before == again
    assert before["weights_sha256"] != other["weights_sha256"]
    assert json.loads(json.dumps(before)) == before


def test_open_clip__explains_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in tiny().state_dict().items() if name != "visual.proj"}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(EdgeproofError, match=r"the weights are of another model: 1 missing: visual\.proj"):
        teacher_of(model=NAME, pretrained=str(tmp_path / "other.safetensors"))


def test_open_clip__opens_no_pickle_and_no_cut_file(folder: Path, tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "model.pt")
    with pytest.raises(EdgeproofError, match=r"teacher\.pretrained: a '\.pt' file is a pickle"):
        teacher_of(model=NAME, pretrained=str(tmp_path / "model.pt"))
    whole = (folder / "weights.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgeproofError, match="cut or damaged"):
        teacher_of(model=NAME, pretrained=str(tmp_path / "cut.safetensors"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "ViT-B-33", "pretrained": "openai"}, "no model 'ViT-B-33'. Did you mean"),
        ({"model": "ViT-B-32"}, "which weights of ViT-B-32"),
        ({"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79"}, "Did you mean 'laion2b_s34b_b79k'"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, "set teacher.model: ViT-B-32-quickgelu"),
    ],
)
def test_open_clip__explains_names_that_do_not_fit(settings: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        teacher_of(**settings)
    assert words in str(caught.value)


def test_open_clip__asks_for_preprocessing_where_published_weights_differ(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="differ in how images are preprocessed"):
        teacher_of(model="ViT-L-14", pretrained=str(tmp_path / "model.safetensors"))


def test_tokens__the_embedding_then_each_patch_through_the_same_projection(folder: Path) -> None:
    teacher = teacher_of(model=NAME, pretrained=str(folder / "weights.safetensors"))
    visual: Any = teacher.model.visual
    image = torch.randn(3, 3, 32, 32)
    tokens = teacher.encode_tokens(image)
    assert tokens.shape == (3, 5, 24) == (3, *(teacher.token_shape or ()))
    torch.testing.assert_close(tokens[:, 0], teacher.encode_image(image))
    with torch.no_grad():
        behind = visual.forward_intermediates(image, indices=1, normalize_intermediates=True)
        maps = behind["image_intermediates"][-1]
        expected = maps.flatten(2).transpose(1, 2) @ visual.proj
    torch.testing.assert_close(tokens[:, 1:], expected)
    # It does not change what images are encoded to afterwards.
    assert teacher.encode_image(image).shape == (3, 24)


def test_tokens__a_convolutional_tower_gives_none(tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    (tmp_path / "edgeproof-conv.json").write_text(json.dumps(TINY | {"vision_cfg": vision}), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "edgeproof-conv.json")
    save_file(open_clip.create_model("edgeproof-conv").state_dict(), tmp_path / "weights.safetensors")
    teacher = teacher_of(model="edgeproof-conv", pretrained=str(tmp_path / "weights.safetensors"))
    assert teacher.token_shape is None
