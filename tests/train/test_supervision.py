from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edgeproof_configs.schema import AugmentConfig, TeacherConfig
from edgeproof_data.cache import CacheKey, CacheWriter
from edgeproof_data.loader import Batch, TrainLoader
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.loss import LossContext
from edgeproof_train.losses.cosine_embedding import CosineEmbedding
from edgeproof_train.losses.mse_embedding import MseEmbedding
from edgeproof_train.supervision import CachedSupervision, LiveSupervision, renormalise
from edgeproof_train.task import DistillTask
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen

SEEN = Preprocess(32, 32, "bicubic", (0.1, 0.4, 0.6), (0.2, 0.3, 0.5))
OTHER = Preprocess(32, 32, "bicubic", (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
DIM = 8


class Convolution(Teacher):
    """A frozen random convolution with a normalisation of its own."""

    class Config(TeacherConfig):
        kind: Literal["convolution"] = "convolution"

    def __init__(self, config: Any, places: TeacherPlaces, preprocess: Preprocess = OTHER):
        super().__init__(config, places)
        torch.manual_seed(0)
        self.model = frozen(
            nn.Sequential(nn.Conv2d(3, DIM, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()), self.device
        )
        self.embedding_dim, self.preprocess = DIM, preprocess

    def _identity(self) -> dict[str, Any]:
        return {}

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.model(image_BCHW)


def make_teacher(preprocess: Preprocess = OTHER) -> Convolution:
    return Convolution(Convolution.Config(), TeacherPlaces(), preprocess)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    generator = np.random.default_rng(0)
    paths = tuple(f"{number}.png" for number in range(12))
    for path in paths:
        small = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / path)
    return ImageSet(tmp_path, paths, np.arange(12, dtype=np.int64) % 3, ("a", "b", "c"))


def batches(images: ImageSet) -> list[Batch]:
    loader = TrainLoader(images, SEEN, AugmentConfig(), batch_size=4, seed=0, workers=0)
    return list(loader.epoch(0))


def fill_cache(folder: Path, images: ImageSet, teacher: Convolution) -> Any:
    """Embed in the teacher's own preprocessing, in another order than that of the images."""
    order = np.random.default_rng(1).permutation(len(images))
    shuffled = images.subset(order)
    assert teacher.preprocess is not None
    pixels = np.stack([np.asarray(Image.open(shuffled.file(i))) for i in range(len(images))])
    rows = teacher.encode_image(torch.from_numpy(teacher.preprocess.normalise(pixels))).numpy()
    writer = CacheWriter(folder, CacheKey(teacher.identity(), teacher.preprocess.to_dict()), shuffled)
    writer.add(np.arange(len(images)), rows)
    return writer.finish()


def test_renormalise__equals_the_other_preprocessing_of_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    ours = renormalise(torch.from_numpy(SEEN.normalise(pixels)), SEEN, OTHER)
    torch.testing.assert_close(ours, torch.from_numpy(OTHER.normalise(pixels)), rtol=0, atol=1e-5)


def test_renormalise__changes_the_size() -> None:
    wanted = Preprocess(48, 48, "bicubic", SEEN.mean, SEEN.std)
    flat = torch.full((1, 3, 32, 32), 0.7)
    torch.testing.assert_close(renormalise(flat, SEEN, wanted), torch.full((1, 3, 48, 48), 0.7))


def test_cached__is_the_live_teacher(images: ImageSet, tmp_path: Path, case: Any) -> None:
    teacher = make_teacher()
    cache = fill_cache(tmp_path / "cache", images, teacher)
    cached = CachedSupervision(cache, cache.find(images))
    live = LiveSupervision(teacher, SEEN)
    losses = [CosineEmbedding.Config(), MseEmbedding.Config(normalise=False)]
    student = case.make_task().student.eval()
    for batch in batches(images):
        one, two = cached(batch).embedding, live(batch).embedding
        assert torch.cosine_similarity(one, two).min() > 0.9999
        torch.testing.assert_close(one.norm(dim=1), two.norm(dim=1), rtol=1e-3, atol=0)
        context = LossContext(DIM, DIM)
        first, second = (DistillTask(student, losses, context, source)(batch) for source in (cached, live))
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)


def test_live__runs_in_full_precision_and_without_gradient(images: ImageSet) -> None:
    teacher = make_teacher()
    live = LiveSupervision(teacher, SEEN)
    batch = batches(images)[0]
    batch["image"].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = live(batch).embedding
    assert embedding.dtype == torch.float32
    assert not embedding.requires_grad
    assert torch.equal(embedding, live(batch).embedding)


def test_live__stays_outside_the_task(images: ImageSet, case: Any) -> None:
    teacher = make_teacher()
    student = case.make_task().student
    task = DistillTask(
        student, [CosineEmbedding.Config()], LossContext(DIM, DIM), LiveSupervision(teacher, SEEN)
    )
    held = {id(parameter) for parameter in task.parameters()}
    assert not any(id(parameter) in held for parameter in teacher.model.parameters())
    assert len(task.state_dict()) == len(student.state_dict())
    task.train()
    assert not teacher.model.training
    before = [parameter.clone() for parameter in teacher.model.parameters()]
    task.total(task(batches(images)[0])).backward()
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.model.parameters(), strict=True))


def test_live__a_teacher_without_a_model_is_refused() -> None:
    teacher = make_teacher()
    teacher.preprocess = None
    with pytest.raises(ValueError, match="not live"):
        LiveSupervision(teacher, SEEN)
