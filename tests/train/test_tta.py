from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, softmax
from torchvision.transforms.v2 import functional as F

from edgeproof_data.sets import ImageSet
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image
from edgeproof_train.embeddings import embed_images
from edgeproof_train.tta import Tta, embed_images_tta, enlarged, merged

WAYS: list[Tta] = ["tencrop_logits", "tencrop_probs", "tencrop_embeddings"]


def views(count: int = 10) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [5 * torch.randn(4, 6, generator=generator) for _ in range(count)]


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    generator = np.random.default_rng(0)
    paths = tuple(f"{number}.png" for number in range(5))
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / path)
    return ImageSet(tmp_path, paths, np.full(5, -1, np.int64))


@pytest.mark.parametrize("tta", WAYS)
def test_merged__one_view_is_returned_as_it_is(tta: Tta) -> None:
    (view,) = views(1)
    assert torch.equal(merged([view], tta), view)


@pytest.mark.parametrize("tta", WAYS)
def test_merged__equal_views_say_what_one_says(tta: Tta) -> None:
    (view,) = views(1)
    result = merged([view] * 10, tta)
    assert torch.equal(result.argmax(dim=1), view.argmax(dim=1))
    if tta == "tencrop_embeddings":
        assert torch.allclose(cosine_similarity(result, view), torch.ones(4))
    else:
        assert torch.allclose(softmax(result, dim=1), softmax(view, dim=1), atol=1e-6)


@pytest.mark.parametrize("tta", WAYS)
def test_merged__order_of_the_views_does_not_matter(tta: Tta) -> None:
    assert torch.allclose(merged(views(), tta), merged(views()[::-1], tta), atol=1e-5)


def test_merged__each_way_by_its_definition() -> None:
    stack = torch.stack(views())
    assert torch.allclose(merged(views(), "tencrop_logits"), stack.mean(dim=0))
    probabilities = softmax(merged(views(), "tencrop_probs"), dim=1)
    assert torch.allclose(probabilities, softmax(stack, dim=2).mean(dim=0), atol=1e-6)
    unit = merged(views(), "tencrop_embeddings")
    assert torch.allclose(unit.norm(dim=1), torch.ones(4))
    assert torch.allclose(unit, normalize(normalize(stack, dim=2).sum(dim=0), dim=1), atol=1e-6)


def test_merged__probabilities_of_hand_case_and_of_scores_far_apart() -> None:
    # softmax(ln 3, 0) = (3/4, 1/4) and softmax(0, 0) = (1/2, 1/2): the mean is (5/8, 3/8).
    rows = [torch.tensor([[np.log(3.0), 0.0]]), torch.zeros(1, 2)]
    assert torch.allclose(merged(rows, "tencrop_probs"), torch.tensor([[0.625, 0.375]]).log())
    far = merged([torch.tensor([[0.0, 5000.0]])] * 2, "tencrop_probs")
    assert torch.isfinite(far).all()


def test_enlarged__a_square_a_tenth_larger() -> None:
    plain = Preprocess(32, 36, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    square = enlarged(plain)
    assert (square.image_size, square.resize_size) == (35, 35)
    assert (square.interpolation, square.mean, square.std) == ("bilinear", plain.mean, plain.std)


@pytest.mark.parametrize("tta", WAYS)
def test_embed_images_tta__row_for_row_what_ten_views_say(tta: Tta, images: ImageSet, case: Any) -> None:
    student = case.make_task().student
    rows = embed_images_tta(student, images, tta=tta, batch_size=2, workers=2)
    assert rows.shape == (5, case.DIM)
    assert rows.dtype == np.float32
    assert student.training
    student.eval()
    square = enlarged(student.preprocess)
    for index in range(5):
        planes = torch.from_numpy(square(open_image(images.file(index))))[None]
        corners = [(0, 0), (0, 3), (3, 0), (3, 3), (2, 2)]
        both = [planes, F.horizontal_flip(planes)]
        crops = [F.crop(each, top, left, case.SIDE, case.SIDE) for each in both for top, left in corners]
        with torch.no_grad():
            said = [student(crop).embedding for crop in crops]
        np.testing.assert_allclose(rows[index], merged(said, tta)[0], rtol=1e-4, atol=1e-5)


def test_embed_images_tta__says_of_a_mirrored_image_the_same(tmp_path: Path, case: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (35, 35, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:, ::-1].copy()).save(tmp_path / "b.png")
    both = ImageSet(tmp_path, ("a.png", "b.png"), np.full(2, -1, np.int64))
    student = case.make_task().student
    rows = embed_images_tta(student, both)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-5)
    plain = embed_images(student, both)
    assert np.abs(plain[0] - plain[1]).max() > 1e-3
