from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeproof_configs.errors import UsageError
from edgeproof_train.frozen_feature import principal_axes
from edgeproof_train.teachers.timm import shares_of
from edgeproof_train.whitening import group_means, whitened, within_classes


def features(count: int = 200, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([9.0, 5.0, 3.0, 2.0, 1.0, 0.5])[:width]
    return torch.randn(count, width, generator=generator) * spread + 4


def unlabelled(count: int) -> torch.Tensor:
    return torch.full((count,), -1)


def test_whitened__without_classes_all_axes_vary_alike() -> None:
    given = features()
    axes = principal_axes(given, 4)[0]
    made = whitened(axes, given, unlabelled(200), unlabelled(200), 0.0)(given)
    covariance = (made.T @ made).double() / len(made)
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(4).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)


def test_whitened__is_the_formula_worked_in_numpy() -> None:
    given, labels = features(), torch.arange(200) % 2
    owners = torch.arange(200) // 2 % 50 * 2 + labels
    labels[150:], owners[150:] = -1, -1
    axes = principal_axes(given, 3)[0]
    made = whitened(axes, given, labels, owners, 0.3)
    y = axes(given).double().numpy()
    objects = {int(o): y[owners.numpy() == o].mean(axis=0) for o in owners[:150].unique()}
    within = np.zeros((3, 3))
    for kind in (0, 1):
        rows = np.stack([row for owner, row in objects.items() if owner % 2 == kind])
        within += (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0))
    mixed = 0.7 * y.T @ y / np.trace(y.T @ y) + 0.3 * within / np.trace(within)
    expected = axes.directions.double().numpy() @ np.linalg.inv(mixed) @ axes.directions.double().numpy().T
    got = (made.directions @ made.directions.T).double().numpy()
    np.testing.assert_allclose(got / np.trace(got), expected / np.trace(expected), atol=1e-5)


def test_whitened__takes_out_what_objects_of_a_class_differ_in() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 2
    rows = torch.stack([labels * 2.0 - 1, 5 * torch.randn(40, generator=generator)], dim=1)
    owners = torch.arange(40)
    axes = principal_axes(rows, 2)[0]
    apart = {}
    for share in (0.0, 0.9):
        made = whitened(axes, rows, labels, owners, share)(rows)
        means = group_means(made, labels)
        within = (made - means[labels]).square().sum(dim=1).mean()
        apart[share] = float((means[0] - means[1]).square().sum() / within)
    assert apart[0.9] > 4 * apart[0.0]


def test_within_classes__more_views_of_an_object_change_nothing() -> None:
    rows, labels, owners = features(12), torch.arange(12) % 3, torch.arange(12)
    often = torch.tensor([0, 0, 0, *range(12)])
    torch.testing.assert_close(
        within_classes(rows[often], labels[often], owners[often]), within_classes(rows, labels, owners)
    )


@pytest.mark.parametrize("labels", [torch.arange(8), unlabelled(8)])
def test_whitened__no_class_with_two_objects(labels: torch.Tensor) -> None:
    given = features(8)
    axes = principal_axes(given, 3)[0]
    with pytest.raises(
        UsageError, match=r"no class of the training part has two objects, or images, that differ"
    ):
        whitened(axes, given, labels, torch.arange(8), 0.5)
    assert whitened(axes, given, labels, torch.arange(8), 0.0)(given).isfinite().all()


@pytest.mark.parametrize(
    ("images", "photos", "own"), [(984, 4114, 791), (984, 1_000_000, 512), (100, 10**6, 100)]
)
def test_shares_of__photos_leave_training_images_their_places(images: int, photos: int, own: int) -> None:
    first, second = shares_of(images, photos, 4096)
    assert (len(first), len(first) + len(second)) == (own, 4096)
    assert len(set(first.tolist())) == own
    assert 0 <= second.min() <= second.max() < photos
    alone, none = shares_of(images, 0, 4096)
    assert (len(alone), len(none)) == (images, 0)
