from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgeproof_data.meshes import raster
from edgeproof_data.meshes.raster import visible_faces


def by_hand(corners: np.ndarray, nearness: np.ndarray, side: int) -> np.ndarray:
    """Return the nearest triangle of each pixel by barycentric coordinates, one pixel at a time."""
    found = np.full((side, side), -1)
    for row in range(side):
        for column in range(side):
            nearest = -np.inf
            for number, (triangle, values) in enumerate(zip(corners, nearness, strict=True)):
                system = np.vstack([triangle.T, np.ones(3)])
                share = np.linalg.solve(system, [column + 0.5, row + 0.5, 1])
                if (share > 0).all() and share @ values > nearest:
                    nearest, found[row, column] = share @ values, number
    return found


def test_visible_faces__as_pixel_by_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    corners, nearness = random.uniform(-4, 24, (30, 3, 2)), random.uniform(0.2, 0.6, (30, 3))
    expected = by_hand(corners, nearness, 20)
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(visible_faces(corners, nearness, 20), expected)
    monkeypatch.setattr(raster, "PIXELS_AT_ONCE", 300)
    np.testing.assert_array_equal(visible_faces(corners, nearness, 20), expected)


def test_visible_faces__neighbours_leave_no_gap_and_share_no_pixel() -> None:
    ticks = np.linspace(0, 16, 9)
    quads = [
        [(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for x0, x1 in pairwise(ticks) for y0, y1 in pairwise(ticks)
    ]
    corners = np.array([[quad[i] for i in three] for quad in quads for three in ((0, 1, 2), (0, 2, 3))])
    shown = visible_faces(corners, np.ones(corners.shape[:2]), 16)
    assert (shown >= 0).all()
    assert np.bincount(shown.ravel(), minlength=len(corners)).reshape(-1, 2).sum(axis=1).tolist() == [4] * 64


def test_visible_faces__what_has_no_area_is_not_seen() -> None:
    line = np.array([[[1.0, 1.0], [9.0, 9.0], [5.0, 5.0]]])
    assert (visible_faces(line, np.ones((1, 3)), 10) == -1).all()


def test_visible_faces__outside_of_the_image() -> None:
    far = np.array(
        [[[-9.0, -9.0], [-2.0, -9.0], [-9.0, -2.0]], [[-50.0, -50.0], [100.0, -50.0], [5.0, 90.0]]]
    )
    shown = visible_faces(far, np.ones((2, 3)), 10)
    assert set(np.unique(shown)) == {1}


def test_visible_faces__a_shared_edge_has_no_hole_whatever_the_winding() -> None:
    random = np.random.default_rng(5)
    for turn in random.uniform(0, np.pi, 40):
        one = np.array([20, 20]) + 19 * np.array([np.cos(turn), np.sin(turn)])
        other = np.array([20, 20]) - 19 * np.array([np.cos(turn), np.sin(turn)])
        side = np.array([20, 20]) + 15 * np.array([-np.sin(turn), np.cos(turn)])
        away = np.array([40, 40]) - side
        for pair in ([[one, other, side], [one, other, away]], [[one, other, side], [other, one, away]]):
            shown = visible_faces(np.array(pair), np.ones((2, 3)), 40)
            quad = visible_faces(np.array([[one, side, away], [other, side, away]]), np.ones((2, 3)), 40)
            np.testing.assert_array_equal(shown >= 0, quad >= 0)
