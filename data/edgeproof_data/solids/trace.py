"""Sphere tracing: where rays meet a solid, how much of a lamp's light passes it, which way its surface faces.

Points and directions are in the object's frame, shape (3, N); the solid lies inside the unit ball.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeproof_data.solids.shapes import Distance, Floats

STEPS = 48
COMPACT_EVERY = 4
NEAR_ENOUGH = np.float32(4e-3)
SHADOW_STEPS = 16
SHADOW_SHARPNESS = np.float32(10)
SLOPE_STEP = np.float32(2e-3)
TETRAHEDRON = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)[:, :, None]


def trace(distance: Distance, origins: Floats, directions: Floats) -> Floats:
    """Return how far along each ray the surface is met, infinity where it is not.

    Args:
        distance: of the solid.
        origins: (3, N) or (3, 1) where the rays start, outside the solid.
        directions: (3, N) unit vectors.
    """
    reach = np.full(directions.shape[1], np.inf, np.float32)
    index, travelled, last = _through_ball(origins, directions)
    start, way = _of_rays(origins, index), directions[:, index]
    for step in range(1, STEPS + 1):
        gap = distance(start + travelled * way)
        travelled += gap
        if step % COMPACT_EVERY == 0:
            arrived = gap < NEAR_ENOUGH
            reach[index[arrived]] = travelled[arrived]
            going = ~arrived & (travelled < last)
            index, start, way = index[going], _of_rays(start, going), way[:, going]
            travelled, last = travelled[going], last[going]
    return reach


def light_reaching(distance: Distance, points: Floats, towards: Floats) -> Floats:
    """Return the part (N,) of the lamp's light, 0 to 1, that reaches each point outside the solid.

    The nearest miss of the ray gives the penumbra.

    Args:
        distance: of the solid.
        points: (3, N).
        towards: (3, 1) unit vector to the lamp.
    """
    passed = np.ones(points.shape[1], np.float32)
    index, travelled, _ = _through_ball(points, towards)
    start = points[:, index]
    share = np.ones(len(index), np.float32)
    travelled = np.maximum(travelled, np.float32(0.02))
    for _ in range(SHADOW_STEPS):
        gap = distance(start + travelled * towards)
        np.minimum(share, gap * SHADOW_SHARPNESS / travelled, out=share)
        travelled += np.maximum(gap, np.float32(0.03))
    passed[index] = np.maximum(share, 0)
    return passed


def normals(distance: Distance, points: Floats) -> Floats:
    """Return unit normals (3, N) that point outwards: the gradient of the distance, by differences."""
    slope = np.zeros_like(points)
    for corner in TETRAHEDRON:
        slope += corner * distance(points + SLOPE_STEP * corner)
    return slope / np.maximum(np.sqrt(dot(slope, slope)), np.float32(1e-12))


def dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products (N,) of vectors (3, N) or (3, 1)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def turn(rotation: Floats, vectors: Floats) -> Floats:
    """Return `rotation` (3, 3) @ `vectors` (3, N), the same to the bit on any number of BLAS threads."""
    return rotation[:, :1] * vectors[0] + rotation[:, 1:2] * vectors[1] + rotation[:, 2:] * vectors[2]


def _through_ball(origins: Floats, directions: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return, for the rays that cross the unit ball ahead: their numbers, ways to entry and to exit."""
    middle = -dot(origins, directions)
    squared = middle**2 - dot(origins, origins) + 1
    half = np.sqrt(np.maximum(squared, 0))
    index = np.flatnonzero((squared > 0) & (middle + half > 0))
    return index, np.maximum(middle - half, 0)[index], (middle + half)[index]


def _of_rays(origins: Floats, which: NDArray) -> Floats:
    return origins if origins.shape[1] == 1 else origins[:, which]
