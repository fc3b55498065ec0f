from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.registry import build
from edgeproof_data.kinds.image_folder import ImageFolder
from edgeproof_data.kinds.multi_view import MultiView
from edgeproof_data.objects import single_images
from edgeproof_train.frozen_feature import principal_axes
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.timm import TimmTeacher
from edgeproof_train.whitening import whitened

SMALL = ("test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet")


def teacher_of(**settings: Any) -> TimmTeacher:
    return TimmTeacher(TimmTeacher.Config.model_validate(settings), TeacherPlaces())


def saved(folder: Path, name: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(name, **arguments).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


@pytest.mark.parametrize("name", SMALL)
def test_timm__embedding_is_what_stands_before_the_classifier(name: str, tmp_path: Path) -> None:
    reference = saved(tmp_path, name)
    teacher = teacher_of(model=name, weights=str(tmp_path / "model.safetensors"))
    image = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        logits = reference(image)
        reference.reset_classifier(0)
        features = reference(image)
    torch.testing.assert_close(teacher.encode_image(image), features)
    torch.testing.assert_close(teacher.encode_logits(image), logits)
    assert (teacher.embedding_dim, teacher.num_classes) == (features.shape[1], logits.shape[1])
    assert not teacher.has_text
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


@pytest.mark.parametrize("classes", [0, 7])
def test_timm__takes_the_classifier_of_the_weights(classes: int, tmp_path: Path) -> None:
    saved(tmp_path, "test_resnet", num_classes=classes)
    teacher = teacher_of(model="test_resnet", weights=str(tmp_path))
    assert teacher.num_classes == classes
    if classes:
        assert teacher.encode_logits(torch.zeros(1, 3, 64, 64)).shape == (1, classes)
    else:
        with pytest.raises(UsageError, match="has no classifier"):
            teacher.encode_logits(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("size", [(300, 200), (180, 333)])
def test_timm__preprocesses_like_timm(size: tuple[int, int], tmp_path: Path) -> None:
    saved(tmp_path, "test_resnet")
    teacher = teacher_of(model="test_resnet", weights=str(tmp_path))
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    data = resolve_model_data_config(teacher.model)
    reference: Any = create_transform(**data)
    assert teacher.preprocess is not None
    difference = np.abs(teacher.preprocess(photo) - reference(photo).numpy())
    assert difference.max() < 1.01 / 255 / min(data["std"])
    assert (difference > 1e-5).mean() < 0.02


def test_timm__config_json_says_how_the_model_was_made(tmp_path: Path) -> None:
    reference = saved(tmp_path, "test_byobnet", act_layer="silu")
    card = {
        "architecture": "test_byobnet",
        "create_model_kwargs": {"model_name": "test_byobnet", "pretrained": False, "act_layer": "silu"},
        "input_size": [3, 96, 96],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop_pct": 0.75,
        "interpolation": "bilinear",
    }
    (tmp_path / "config.json").write_text(json.dumps(card), encoding="utf-8")
    teacher = teacher_of(model="test_byobnet", weights=str(tmp_path), preprocess={"std": [1, 1, 1]})
    assert teacher.preprocess is not None
    assert teacher.preprocess.to_dict() == {
        "image_size": 96,
        "resize_size": 128,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [1, 1, 1],
    }
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(teacher.encode_logits(image), reference(image))
    other = json.dumps({**card, "architecture": "resnet18"})
    (tmp_path / "config.json").write_text(other, encoding="utf-8")
    with pytest.raises(UsageError, match="the weights are of 'resnet18'"):
        teacher_of(model="test_byobnet", weights=str(tmp_path))


def test_timm__identity_changes_with_weights_and_arguments(tmp_path: Path) -> None:
    saved(tmp_path, "test_byobnet")
    plain = teacher_of(model="test_byobnet", weights=str(tmp_path)).identity()
    silu = teacher_of(model="test_byobnet", weights=str(tmp_path), kwargs={"act_layer": "silu"}).identity()
    assert plain["weights_sha256"] == silu["weights_sha256"]
    assert plain != silu
    assert json.loads(json.dumps(plain)) == plain


def test_timm__explains_weights_of_another_model(tmp_path: Path) -> None:
    saved(tmp_path, "test_vit")
    with pytest.raises(EdgeproofError, match=r"teacher\.weights: the weights are of another model"):
        teacher_of(model="test_resnet", weights=str(tmp_path))


def test_config__explains_names_and_arguments() -> None:
    with pytest.raises(ValidationError, match="timm has no model 'resnet1'"):
        TimmTeacher.Config(model="resnet1")
    with pytest.raises(ValidationError, match="num_classes cannot be set here"):
        TimmTeacher.Config(model="resnet18", kwargs={"num_classes": 3})


def test_timm__real_weights_know_their_classes(real_data: Path) -> None:
    """ImageNet weights on photos of Caltech: the classes that both have a word for."""
    teacher = teacher_of(model="mobilenetv2_100", weights=str(real_data / "mobilenetv2_100_imagenet"))
    assert (teacher.embedding_dim, teacher.num_classes) == (1280, 1000)
    names = (real_data / "mobilenetv2_100_imagenet" / "imagenet_classes_1000.txt").read_text(encoding="utf-8")
    wanted = {"dalmatian": "dalmatian", "stop_sign": "street sign", "airplane": "airliner"}
    assert teacher.preprocess is not None
    folder = real_data / "caltech_clip_b32" / "images" / "test"
    hits = []
    for folder_name, word in wanted.items():
        photos = sorted((folder / folder_name).glob("*.jpg"))[:8]
        batch = torch.stack(
            [torch.from_numpy(teacher.preprocess(Image.open(f).convert("RGB"))) for f in photos]
        )
        lines = [names.splitlines()[index] for index in teacher.encode_logits(batch).argmax(dim=1).tolist()]
        hits += [word in line for line in lines]
    assert len(hits) > 10
    assert np.mean(hits) > 0.5


@pytest.mark.parametrize("feature", ["cls", "pre_norm", "tokens_mean"])
def test_feature__the_recipe_names_the_part_and_the_cache_knows(feature: str, tmp_path: Path) -> None:
    saved(tmp_path, "test_vit")
    plain = teacher_of(model="test_vit", weights=str(tmp_path))
    teacher = teacher_of(model="test_vit", weights=str(tmp_path), feature=feature)
    image = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(teacher.encode_image(image), teacher.feature(image))
    assert teacher.embedding_dim == plain.embedding_dim
    assert teacher.identity() != plain.identity()
    assert "feature" not in plain.identity()
    assert teacher.classifier() is None
    torch.testing.assert_close(teacher.encode_logits(image), plain.encode_logits(image))


def test_projection__the_same_for_everybody(tmp_path: Path) -> None:
    saved(tmp_path, "test_vit")
    settings = {"model": "test_vit", "weights": str(tmp_path), "feature": "flattened", "projection": 24}
    one, other = teacher_of(**settings), teacher_of(**settings)
    image = torch.randn(2, 3, 160, 160)
    assert one.encode_image(image).shape == (2, one.embedding_dim) == (2, 24)
    assert torch.equal(one.encode_image(image), other.encode_image(image))
    assert one.identity() == other.identity()
    assert one.identity() != teacher_of(**settings | {"projection": 25}).identity()
    assert one.token_shape is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature": "flattened"}, "set pca or projection"),
        ({"pca": 4, "projection": 4}, "set one of them"),
        ({"whiten": 0.5}, "no effect without pca"),
        ({"pca": 4, "whiten": 1}, "less than 1"),
        ({"feature": "head"}, "'pooled', 'cls', 'pre_norm', 'tokens_mean' or 'flattened'"),
    ],
)
def test_config__refuses_a_feature_without_a_width(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        teacher_of(model="test_vit", **settings)


def test_tokens__the_embedding_then_each_patch(tmp_path: Path) -> None:
    reference = saved(tmp_path, "test_vit")
    teacher = teacher_of(model="test_vit", weights=str(tmp_path))
    image = torch.randn(2, 3, 160, 160)
    tokens = teacher.encode_tokens(image)
    with torch.no_grad():
        torch.testing.assert_close(tokens, reference.forward_features(image))
    assert tokens.shape == (2, 101, 64) == (2, *(teacher.token_shape or ()))
    torch.testing.assert_close(tokens[:, 0], teacher.encode_image(image))


def test_tokens__a_convolutional_network_gives_none(tmp_path: Path) -> None:
    saved(tmp_path, "test_resnet")
    teacher = teacher_of(model="test_resnet", weights=str(tmp_path))
    assert teacher.token_shape is None
    with pytest.raises(UsageError, match="gives no tokens"):
        teacher.encode_tokens(torch.zeros(1, 3, 64, 64))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos of two classes for training, two for testing."""
    root = tmp_path / "photos"
    generator = np.random.default_rng(1)
    for part, count in (("train", 6), ("test", 1)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


def test_pca__is_fitted_on_training_images_and_read_again(photos: Path, tmp_path: Path) -> None:
    saved(tmp_path, "test_vit")
    source = build("data", ImageFolder.Config(root=str(photos), train="train", test="test", val=0.25))
    settings = {"model": "test_vit", "weights": str(tmp_path), "feature": "flattened", "pca": 3}
    given = TimmTeacher.Config.model_validate(settings)
    places = TeacherPlaces(photos, tmp_path / "teacher")
    with pytest.raises(EdgeproofError, match="has not been trained yet"):
        TimmTeacher(given, places)
    (tmp_path / "teacher").mkdir()
    figures = TimmTeacher.train_in_place(given, source, tmp_path / "teacher", "cpu")
    assert figures["images"] == len(source.split("train")) < 12
    assert 0 < figures["kept_variance"] < 1
    teacher = TimmTeacher(given, places)
    rows = teacher.encode_image(torch.randn(4, 3, 160, 160))
    assert rows.shape == (4, teacher.embedding_dim) == (4, 3)
    known = teacher.identity()["reduction_sha256"]
    weights = load_file(tmp_path / "teacher" / "model.safetensors")
    save_file({**weights, "mean": weights["mean"] + 1}, tmp_path / "teacher" / "model.safetensors")
    assert TimmTeacher(given, places).identity()["reduction_sha256"] != known


def test_pca__more_axes_than_training_images(photos: Path, tmp_path: Path) -> None:
    saved(tmp_path, "test_vit")
    source = build("data", ImageFolder.Config(root=str(photos), train="train", test="test", val=0.25))
    given = TimmTeacher.Config.model_validate({"model": "test_vit", "weights": str(tmp_path), "pca": 64})
    with pytest.raises(UsageError, match="64 principal axes need more than 64 training images"):
        TimmTeacher.train_in_place(given, source, tmp_path, "cpu")


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Six objects of each of two classes with three views, and a folder of five photos."""
    root = tmp_path / "objects"
    generator = np.random.default_rng(2)
    views = [f"{c}/{c}{n}/{v}.png" for c in ("cup", "owl") for n in range(6) for v in range(3)]
    for place in [*views, *(f"photos/{number}.png" for number in range(5))]:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(root / place)
    return root


def test_whiten__is_fitted_on_views_of_objects_and_on_photos(objects: Path, tmp_path: Path) -> None:
    saved(tmp_path, "test_resnet")
    data = MultiView.Config(root=str(objects), photos="photos", val=0.34, test=0.34)
    source = build("data", data)
    plain = teacher_of(model="test_resnet", weights=str(tmp_path))
    train, photos = single_images(source.split("train")), source.photos()
    assert plain.preprocess is not None
    files = [part.file(row) for part in (train, photos) for row in range(len(part))]
    pixels = np.stack([plain.preprocess.pixels(Image.open(file)) for file in files])
    features = plain.encode_image(torch.from_numpy(plain.preprocess.normalise(pixels)))
    axes = principal_axes(features, 3)[0]
    label = [0] * 6 + [1] * 6 + [-1] * 5
    owner = [number // 3 for number in range(12)] + [-1] * 5
    for share in (0.0, 0.5):
        settings = {"model": "test_resnet", "weights": str(tmp_path), "pca": 3, "whiten": share}
        given = TimmTeacher.Config.model_validate(settings)
        folder = tmp_path / f"teacher-{share}"
        folder.mkdir()
        figures = TimmTeacher.train_in_place(given, source, folder, "cpu")
        assert (figures["images"], figures["photos"], figures["whiten"]) == (17, 5, share)
        expected = whitened(axes, features, torch.tensor(label), torch.tensor(owner), share)
        found = load_file(folder / "model.safetensors")
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)
        assert TimmTeacher(given, TeacherPlaces(objects, folder)).embedding_dim == 3
