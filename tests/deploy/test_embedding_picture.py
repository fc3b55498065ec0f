from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.embedding_picture import MOST_FOR_TSNE, embedding_pictures


def groups(count: int, width: int = 16, apart: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of three groups, and the group of each."""
    random = np.random.default_rng(1)
    group = np.arange(count) % 3
    return apart * random.normal(size=(3, width))[group] + random.normal(size=(count, width)), group


def test_embedding_pictures__few_images_get_both_methods():
    rows, group = groups(45)
    pictures = embedding_pictures(rows)
    assert [picture["method"] for picture in pictures] == ["PCA", "t-SNE"]
    for picture in pictures:
        points = np.array(picture["points"])
        assert points.shape == (45, 2)
        centres = np.stack([points[group == i].mean(axis=0) for i in range(3)])
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == group).all(), picture["method"]


def test_embedding_pictures__many_images_get_pca_alone():
    rows, _ = groups(MOST_FOR_TSNE + 1)
    assert [picture["method"] for picture in embedding_pictures(rows)] == ["PCA"]


def test_embedding_pictures__pca_is_that_of_the_unit_rows():
    rows, _ = groups(400)
    picture = embedding_pictures(rows * np.linspace(0.1, 9, 400)[:, None])[0]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(picture["explained"], (singular**2 / (singular**2).sum())[:2], atol=1e-4)
    spread = np.linalg.norm(np.array(picture["points"]), axis=0)
    np.testing.assert_allclose(spread, singular[:2], rtol=1e-3)


def test_embedding_pictures__the_same_rows_give_the_same_picture():
    rows, _ = groups(40)
    assert embedding_pictures(rows) == embedding_pictures(rows.copy())


@pytest.mark.parametrize(
    "rows",
    [np.ones((20, 4)), np.eye(2), np.arange(1.0, 9.0)[:, None]],
    ids=["alike", "two rows", "one number"],
)
def test_embedding_pictures__nothing_where_there_is_no_plane(rows: np.ndarray):
    assert embedding_pictures(rows) == []
