"""Where the cameras of a set of views stand: around a mesh inside the unit ball, its z axis upwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DISTANCE = 3.0
"""From the centre; near enough that nearer parts look larger, as in a photo."""
MARGIN = 1.05
HALF_FIELD = MARGIN * np.tan(np.arcsin(1 / DISTANCE))
"""Tangent of half the angle of view: the unit ball, with a little air around it."""
GOLDEN = (1 + 5**0.5) / 2


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the origin.

    Attributes:
        eye: (3,) where it stands.
        frame: (3, 3) rotation whose columns are right, up and forward, in the world's frame.
    """

    eye: Floats
    frame: Floats

    @classmethod
    def at(cls, direction: Floats) -> Camera:
        """Return the camera in a direction (3,) that is not vertical."""
        towards = direction / np.linalg.norm(direction)
        right = np.cross([0.0, 0.0, 1.0], towards)
        right /= np.linalg.norm(right)
        return cls(DISTANCE * towards, np.stack([right, np.cross(towards, right), -towards], axis=1))

    def project(self, points: Floats, side: int) -> tuple[Floats, Floats]:
        """Return pixel coordinates (N, 2) from the upper left, and inverse depths (N,), of points (N, 3).

        The inverse depth is affine in pixel coordinates within a triangle, and larger where it is nearer.
        """
        seen = (points - self.eye) @ self.frame
        nearness = 1 / seen[:, 2]
        flat = seen[:, :2] * nearness[:, None] / HALF_FIELD
        return (np.stack([flat[:, 0], -flat[:, 1]], axis=1) + 1) * (side / 2), nearness


def ring(count: int = 12, elevation_degrees: float = 30.0) -> list[Camera]:
    """Return cameras evenly around the upright axis, all at one elevation (MVCNN, arXiv 1505.00880)."""
    azimuths = np.arange(count) * 2 * np.pi / count
    height = np.radians(elevation_degrees)
    return [
        Camera.at(np.array([np.cos(height) * np.cos(a), np.cos(height) * np.sin(a), np.sin(height)]))
        for a in azimuths
    ]


def dodecahedron() -> list[Camera]:
    """Return cameras at the 20 vertices of a regular dodecahedron, from the top, around the upright axis."""
    signs = (-1.0, 1.0)
    vertices = [(x, y, z) for x in signs for y in signs for z in signs]
    for first in signs:
        for second in signs:
            short, long = first / GOLDEN, second * GOLDEN
            vertices += [(0.0, short, long), (short, long, 0.0), (long, 0.0, short)]
    ordered = sorted(vertices, key=lambda v: (-round(v[2], 6), round(float(np.arctan2(v[1], v[0])), 6)))
    return [Camera.at(np.array(vertex)) for vertex in ordered]


CAMERAS = {12: ring, 20: dodecahedron}
"""Number of views -> what makes their cameras."""
