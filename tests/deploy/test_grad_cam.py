from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeproof_deploy.grad_cam import PIXELS, grad_cam, overlay
from edgeproof_train.student import Student

Make = Callable[..., Student]


def first_score(embedding: torch.Tensor) -> torch.Tensor:
    return embedding[:, 0]


def images(student: Student, count: int = 2) -> torch.Tensor:
    side = student.preprocess.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_grad_cam__is_the_formula(student_of: Make):
    """Pooling by a mean and a linear head make the gradient at the last map the head's weights."""
    student: Any = student_of("test_resnet", 128)
    given = images(student)
    found = grad_cam(student, given, first_score)
    assert found is not None
    assert found.node == "layer4"
    with torch.no_grad():
        last = student.backbone.forward_features(given)
        expected = torch.relu(torch.einsum("c,nchw->nhw", student.head.weight[0], last))
    expected /= expected.amax(dim=(1, 2), keepdim=True)
    np.testing.assert_allclose(found.maps, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "side", "node", "cells"),
    [
        ("test_resnet", 32, "layer2", 4),
        ("test_vit", 160, "blocks.4", 10),
        ("test_convnext", 128, "norm_pre", 4),
    ],
)
def test_grad_cam__looks_at_the_last_map_that_counts(
    model: str, side: int, node: str, cells: int, student_of: Make
):
    student = student_of(model, side)
    found = grad_cam(student, images(student), first_score)
    assert found is not None
    assert found.node == node
    assert found.maps.shape == (2, cells, cells)
    assert found.maps.max(axis=(1, 2)) == pytest.approx([1, 1])
    assert found.maps.min() >= 0


def test_grad_cam__reads_tokens_row_by_row(student_of: Make):
    student: Any = student_of("test_vit", 160)
    given = images(student)
    kept: list[torch.Tensor] = []
    hook = student.backbone.blocks[4].register_forward_hook(lambda module, args, output: kept.append(output))
    score = student(given).embedding[:, 0].sum()
    hook.remove()
    (slopes,) = torch.autograd.grad(score, kept)
    tokens, slopes = (tensor.detach()[:, 1:] for tensor in (kept[0], slopes))
    expected = torch.relu((tokens * slopes.mean(dim=1, keepdim=True)).sum(dim=2)).reshape(2, 10, 10)
    expected /= expected.amax(dim=(1, 2), keepdim=True)
    found = grad_cam(student, given, first_score)
    assert found is not None
    np.testing.assert_allclose(found.maps, expected, atol=1e-5)


def test_grad_cam__leaves_the_student_as_it_is(student_of: Make):
    student = student_of("test_resnet").train()
    student.requires_grad_(False)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert grad_cam(student, images(student), first_score) is not None
    assert student.training
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_hooks for module in student.modules())


def test_grad_cam__none_where_no_map_has_enough_cells(student_of: Make):
    student = student_of("test_vit", 32, kwargs={"patch_size": 16})
    assert grad_cam(student, images(student), first_score) is None


def test_grad_cam__a_score_that_nothing_speaks_for_has_an_empty_map(student_of: Make):
    student: Any = student_of("test_resnet", 128)
    with torch.no_grad():
        student.head.weight[0] = -student.backbone.forward_features(images(student)).amax(dim=(0, 2, 3))
    found = grad_cam(student, images(student), first_score)
    assert found is not None
    assert not found.maps.any()


def test_overlay__colours_what_is_hot_and_leaves_the_rest_grey(student: Student):
    preprocess = student.preprocess
    heat = np.zeros((4, 4), np.float32)
    heat[:, :2] = 1.0
    encoded = overlay(torch.zeros(3, 32, 32), heat, preprocess)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)
    assert pixels.shape == (PIXELS, PIXELS, 3)
    cold, hot = pixels[:, -10:].reshape(-1, 3).mean(axis=0), pixels[:, :10].reshape(-1, 3).mean(axis=0)
    grey = 255 * np.dot(preprocess.mean, (0.299, 0.587, 0.114))
    np.testing.assert_allclose(cold, grey, atol=4)
    assert hot[0] - hot[2] > 40
