"""The solids as signed distance functions: how far a point is from the surface, negative inside.

Every solid fits into the unit ball around the origin, its axis along z. `aspect` (about 0.8 to 1.25) sets
its proportions. Where a function is not the exact distance it is a lower bound, which is all that sphere
tracing needs (J. C. Hart, "Sphere tracing", The Visual Computer 12, 1996).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
"""Single precision throughout, since it halves the time."""
Distance = Callable[[Floats], Floats]
"""Points (3, N) -> signed distances (N,)."""


def sphere(points: Floats, aspect: float) -> Floats:
    """Return distances to a ball; only its size depends on `aspect`."""
    return _length(points) - np.float32(0.72 * aspect**0.5)


def cube(points: Floats, aspect: float) -> Floats:
    """Return distances to a cube whose edges are rounded; only the rounding depends on `aspect`."""
    bevel = 0.06 * aspect**2
    return _box(points, (0.56 - bevel, 0.56 - bevel, 0.56 - bevel)) - np.float32(bevel)


def cylinder(points: Floats, aspect: float) -> Floats:
    """Return distances to a cylinder, from a flat to a slim one."""
    radius, half = 0.62 / aspect, 0.66 * aspect
    return _extruded(_across(points) - np.float32(radius), points[2], half)


def cone(points: Floats, aspect: float) -> Floats:
    """Return (lower bounds of) distances to a cone."""
    return _tapered(_across(points), points[2], 0.7 / aspect**0.5, 1.34 * aspect**0.5)


def pyramid(points: Floats, aspect: float) -> Floats:
    """Return (lower bounds of) distances to a pyramid on a square."""
    across = np.maximum(np.abs(points[0]), np.abs(points[1]))
    return _tapered(across, points[2], 0.53 / aspect**0.5, 1.2 * aspect**0.5)


def torus(points: Floats, aspect: float) -> Floats:
    """Return distances to a ring, from a thin to a thick one."""
    thickness = 0.25 * aspect
    ring = _across(points) - np.float32(0.95 - thickness)
    return np.sqrt(ring**2 + points[2] ** 2) - np.float32(thickness)


def capsule(points: Floats, aspect: float) -> Floats:
    """Return distances to a rod with round ends."""
    radius = 0.38 / aspect
    half = np.float32(0.98 - radius)
    along = points[2] - np.clip(points[2], -half, half)
    return _length((points[0], points[1], along)) - np.float32(radius)


def cross(points: Floats, aspect: float) -> Floats:
    """Return distances to three bars that meet at right angles."""
    long, thick = 0.9, 0.21 * aspect
    bars = [(long, thick, thick), (thick, long, thick), (thick, thick, long)]
    one, two, three = (_box(points, bar) for bar in bars)
    return np.minimum(np.minimum(one, two), three)


def _length(points: Floats | tuple[Floats, Floats, Floats]) -> Floats:
    return np.sqrt(points[0] ** 2 + points[1] ** 2 + points[2] ** 2)


def _across(points: Floats) -> Floats:
    return np.sqrt(points[0] ** 2 + points[1] ** 2)


def _box(points: Floats, half: tuple[float, float, float]) -> Floats:
    beyond = np.abs(points) - np.array(half, np.float32)[:, None]
    inside = np.maximum(np.maximum(beyond[0], beyond[1]), beyond[2])
    return _length(np.maximum(beyond, 0)) + np.minimum(inside, 0)


def _extruded(outline: Floats, height: Floats, half: float) -> Floats:
    above = np.abs(height) - np.float32(half)
    outside = np.sqrt(np.maximum(outline, 0) ** 2 + np.maximum(above, 0) ** 2)
    return outside + np.minimum(np.maximum(outline, above), 0)


def _tapered(across: Floats, height: Floats, base: float, tall: float) -> Floats:
    slant = np.hypot(base, tall)
    side = across * np.float32(tall / slant) + (height - np.float32(tall / 2)) * np.float32(base / slant)
    return np.maximum(side, -height - np.float32(tall / 2))


DISTANCES: dict[str, Callable[[Floats, float], Floats]] = {
    "sphere": sphere,
    "cube": cube,
    "cylinder": cylinder,
    "cone": cone,
    "torus": torus,
    "pyramid": pyramid,
    "capsule": capsule,
    "cross": cross,
}


def distance_of(shape: str, aspect: float) -> Distance:
    """Return the distance function of one object."""
    distance = DISTANCES[shape]
    return lambda points: distance(points, aspect)
