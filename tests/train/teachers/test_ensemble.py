from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError
from edgeproof_data.cache import EmbeddingCache, StaleCacheError
from edgeproof_data.sets import ImageSet
from edgeproof_train.embed import cache_key, embed_split, verify_cache
from edgeproof_train.supervision import renormalise
from edgeproof_train.teacher import TeacherPlaces
from edgeproof_train.teachers.ensemble import EnsembleTeacher
from edgeproof_train.teachers.stored import StoredTeacher
from edgeproof_train.teachers.timm import TimmTeacher

NAMES = ("a", "b", "c")
WIDTH = 96


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, two small networks over three classes, stored embeddings of 5 values."""
    root = tmp_path_factory.mktemp("ensemble")
    rng = np.random.default_rng(0)
    for number in range(12):
        small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        small.resize((60, 50)).save(root / f"{number:02d}.png")
    for seed, (name, side) in enumerate((("one", 32), ("two", 32), ("large", 48))):
        torch.manual_seed(seed)
        model = timm.create_model("test_resnet", num_classes=3)
        (root / name).mkdir()
        save_file(model.state_dict(), root / name / "model.safetensors")
        seen = {"input_size": [3, side, side], "crop_pct": 1.0, "mean": [side / 96, 0.5, 0.5]}
        (root / name / "config.json").write_text(json.dumps({"architecture": "test_resnet", **seen}))
    np.save(root / "rows.npy", rng.normal(size=(12, 5)).astype(np.float32))
    (root / "rows.csv").write_text("path\n" + "".join(f"{n:02d}.png\n" for n in range(12)))
    return root


@pytest.fixture
def images(root: Path) -> ImageSet:
    return ImageSet(root, tuple(f"{n:02d}.png" for n in range(12)), np.arange(12) % 3, NAMES)


def network(name: str) -> TimmTeacher.Config:
    return TimmTeacher.Config(model="test_resnet", weights=name)


def stored() -> StoredTeacher.Config:
    return StoredTeacher.Config.model_validate({"files": [{"embeddings": "rows.npy", "index": "rows.csv"}]})


@pytest.fixture
def make(root: Path) -> Callable[..., EnsembleTeacher]:
    def build(*members: Any, **settings: Any) -> EnsembleTeacher:
        return EnsembleTeacher(EnsembleTeacher.Config(members=members, **settings), TeacherPlaces(root))

    return build


def batch(side: int) -> Tensor:
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_encode_image__cosines_are_the_weighted_mean(
    make: Callable[..., EnsembleTeacher], root: Path
) -> None:
    both = make(network("one"), network("large"), weights=(0.3, 0.7))
    assert both.live
    assert both.preprocess == both.members[1].preprocess
    assert (both.parts, both.part_weights) == ((WIDTH, WIDTH), (0.3, 0.7))
    image = batch(48)
    joined = both.encode_image(image)
    assert joined.shape == (4, 2 * WIDTH)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(4))
    first, second = both.members
    assert first.preprocess is not None
    assert second.preprocess is not None
    one = F.normalize(first.encode_image(renormalise(image, second.preprocess, first.preprocess)))
    two = F.normalize(second.encode_image(image))
    torch.testing.assert_close(joined @ joined.T, 0.3 * one @ one.T + 0.7 * two @ two.T)
    torch.testing.assert_close(joined[:, :WIDTH], math.sqrt(0.3) * one)


def test_encode_logits__mean_of_the_probabilities(make: Callable[..., EnsembleTeacher], root: Path) -> None:
    both = make(network("one"), network("two"), weights=(0.3, 0.7))
    both.give_class_scores(NAMES)
    image = batch(32)
    shares = [member.encode_logits(image).softmax(dim=1) for member in both.members]
    scores = both.encode_image(image)
    torch.testing.assert_close(scores.exp(), 0.3 * shares[0] + 0.7 * shares[1])
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(4))
    assert (both.embedding_dim, both.num_classes, both.parts) == (3, 3, ())
    assert both.lead is both


def test_give_class_scores__a_member_without_a_classifier(
    make: Callable[..., EnsembleTeacher], root: Path
) -> None:
    with pytest.raises(UsageError, match="a teacher of kind 'stored' has no classifier"):
        make(network("one"), stored()).give_class_scores(NAMES)
    with pytest.raises(UsageError, match="tells 3 classes apart, the data have 2"):
        make(network("one"), network("two")).give_class_scores(NAMES[:2])


def test_lead__whose_space_the_student_lives_in(make: Callable[..., EnsembleTeacher], root: Path) -> None:
    members = (network("one"), stored().model_copy(update={"logit_scale": 20.0}))
    first, everybody = make(*members), make(*members, space="all")
    assert first.lead is first.members[0]
    assert first.classifier() is first.members[0].classifier()
    assert first.logit_scale == 100
    assert everybody.lead is everybody
    assert everybody.classifier() is None
    assert everybody.logit_scale == 60
    assert not first.has_text
    with pytest.raises(UsageError, match="no text tower"):
        first.encode_text(["a word"])


class Speaker(StoredTeacher):
    """Stored embeddings whose text tower is still there."""

    has_text = True

    def _encode_text(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(len(text)), 1.0, 0.0, 0.0, 0.0] for text in texts])


def test_encode_text__of_the_first_or_of_all(make: Callable[..., EnsembleTeacher], root: Path) -> None:
    for space, width in (("first", 5), ("all", 10)):
        both = make(stored(), stored(), space=space, weights=(0.2, 0.8))
        both.members = tuple(Speaker(stored(), TeacherPlaces(root)) for _ in range(2))
        both.has_text = True
        words = both.encode_text(["abc", "z"])
        assert words.shape == (2, width)
    unit = F.normalize(torch.tensor([[3.0, 1, 0, 0, 0], [1, 1, 0, 0, 0]]))
    torch.testing.assert_close(words, torch.cat([math.sqrt(0.2) * unit, math.sqrt(0.8) * unit], dim=1))


@pytest.mark.parametrize("members", ["stored", "mixed", "live"])
def test_embed_split__each_member_in_its_own_way(
    members: str, make: Callable[..., EnsembleTeacher], root: Path, images: ImageSet, tmp_path: Path
) -> None:
    chosen = {
        "stored": (stored(), stored()),
        "mixed": (network("one"), stored()),
        "live": (network("one"), network("two")),
    }[members]
    both = make(*chosen)
    assert both.live == EnsembleTeacher.is_live(both.config) == (members == "live")
    cache = embed_split(both, images, tmp_path / "both", batch_size=5, workers=0)
    verify_cache(cache, both, images)
    start = 0
    for number, (member, width) in enumerate(zip(both.members, both.parts, strict=True)):
        alone = embed_split(member, images, tmp_path / str(number), batch_size=5, workers=0)
        part = cache.rows(cache.find(images))[:, start : start + width]
        expected = math.sqrt(0.5) * alone.rows(alone.find(images))
        np.testing.assert_allclose(part, expected, atol=6e-4)
        start += width
    EmbeddingCache.open(cache.folder, cache_key(make(*chosen)))


def test_identity__every_member_and_weight_counts(make: Callable[..., EnsembleTeacher], root: Path) -> None:
    one, two = network("one"), network("two")
    own = make(one, two).identity()
    assert own["lead_dim"] == WIDTH
    assert make(one, two).identity() == own
    others = [
        make(two, one),
        make(one, one),
        make(one, two, weights=(0.4, 0.6)),
        make(one, two, space="all"),
        make(one, network("large")),
    ]
    digests = {cache_key(other).digest() for other in others}
    assert len(digests) == 5
    assert cache_key(make(one, two)).digest() not in digests


def test_open__says_which_member_is_another(
    make: Callable[..., EnsembleTeacher], root: Path, images: ImageSet, tmp_path: Path
) -> None:
    one = network("one")
    embed_split(make(one, stored()), images, tmp_path, batch_size=5, workers=0)
    with pytest.raises(StaleCacheError, match=r"teacher\.members\.0\.weights_sha256"):
        EmbeddingCache.open(tmp_path, cache_key(make(network("two"), stored())))


def test_config__a_member_with_principal_axes_is_not_fitted() -> None:
    members = [{"model": "test_vit", "weights": "a.safetensors"}, {"model": "test_vit", "pca": 4}]
    configs = tuple(TimmTeacher.Config.model_validate(member) for member in members)
    with pytest.raises(ValidationError, match=r"members\.1\.pca: a member cannot be fitted"):
        EnsembleTeacher.Config(members=configs)
