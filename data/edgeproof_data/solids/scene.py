"""What an image shows, drawn at random: an object, and the pose, camera, light and surroundings of a view."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from edgeproof_data.solids.shapes import Floats
from edgeproof_data.solids.spec import MATERIALS, Pair

PAINTS = {
    "red": (0, 0.85, 0.8),
    "orange": (27, 0.9, 0.92),
    "yellow": (54, 0.85, 0.92),
    "green": (125, 0.75, 0.65),
    "cyan": (182, 0.7, 0.85),
    "blue": (225, 0.8, 0.8),
    "purple": (282, 0.65, 0.7),
    "white": (60, 0.04, 0.92),
}
"""Colour -> hue in degrees, saturation, value; each object has its own shade near it."""
HUE_SPREAD_DEGREES = 6.0
GAMMA = 2.2


@dataclass(frozen=True)
class Solid:
    """One object: what stays the same in all its views; `albedo` (3, 1) is its colour as linear light."""

    shape: str
    material: str
    aspect: float
    albedo: Floats


@dataclass(frozen=True)
class View:
    """What differs from view to view. The origin is the object's centre, the world's z axis points up.

    Args:
        pose: (3, 3) rotation from the object's frame to the world's.
        eye: (3, 1) where the camera stands.
        look: (3, 3) rotation from the camera's frame (right, up, forward) to the world's.
        light: (3, 1) unit vector towards the lamp.
        lamp: (3, 1) its colour and strength.
        sky: (3, 1) colour of the background and of the light that comes from everywhere.
        ground: (3, 2) the two colours of the ground's checks.
        check_size: side of a check.
    """

    pose: Floats
    eye: Floats
    look: Floats
    light: Floats
    lamp: Floats
    sky: Floats
    ground: Floats
    check_size: float


def draw_solid(pair: Pair, material: str, random: Generator) -> Solid:
    """Draw an object of a class."""
    if material not in MATERIALS:
        raise ValueError(f"unknown material {material!r}, expected one of {MATERIALS}")
    hue, saturation, value = PAINTS[pair.colour]
    hue += random.uniform(-HUE_SPREAD_DEGREES, HUE_SPREAD_DEGREES)
    shade = hsv_to_rgb(
        hue % 360 / 360, min(saturation * random.uniform(0.85, 1.15), 1), value * random.uniform(0.8, 1.08)
    )
    return Solid(pair.shape, material, random.uniform(0.8, 1.25), linear(np.array(shade)[:, None]))


def draw_view(tilt_degrees: float, random: Generator) -> View:
    """Draw a view of an object that leans at most `tilt_degrees` from upright."""
    eye = _direction(random, 15, 45) * random.uniform(3.7, 4.5)
    target = random.uniform(-0.15, 0.15, 3)
    ground = _muted(random)
    return View(
        pose=_pose(random, tilt_degrees).astype(np.float32),
        eye=_column(eye),
        look=_look_along(target - eye).astype(np.float32),
        light=_column(_direction(random, 30, 75)),
        lamp=_column(random.uniform(0.9, 1.6) * random.uniform(0.9, 1.0, 3)),
        sky=_muted(random),
        ground=np.hstack([ground, ground * np.float32(random.uniform(0.7, 1))]),
        check_size=random.uniform(0.6, 2.5),
    )


def linear(srgb: np.ndarray) -> Floats:
    """Return colours (0 to 1) as amounts of light."""
    return np.power(np.clip(srgb, 0, 1), GAMMA).astype(np.float32)


def _column(values: np.ndarray) -> Floats:
    return values.astype(np.float32)[:, None]


def _muted(random: Generator) -> Floats:
    """Return a greyish colour (3, 1), so that the surroundings seldom have the colour of an object."""
    return linear(random.uniform(0.3, 0.85) * random.uniform(0.82, 1.0, (3, 1)))


def _direction(random: Generator, lowest: float, highest: float) -> np.ndarray:
    """Return a unit vector (3,) of any azimuth and of an elevation between two bounds in degrees."""
    azimuth, elevation = random.uniform(0, 2 * np.pi), np.radians(random.uniform(lowest, highest))
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def _pose(random: Generator, tilt_degrees: float) -> np.ndarray:
    """Return a rotation: a turn about the object's own axis, then a lean to any side."""
    turn = _rotation(np.array([0.0, 0.0, 1.0]), random.uniform(0, 2 * np.pi))
    side = random.uniform(0, 2 * np.pi)
    lean = np.radians(tilt_degrees) * random.uniform(0, 1)
    return _rotation(np.array([np.cos(side), np.sin(side), 0.0]), lean) @ turn


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation about a unit axis, by Rodrigues' formula."""
    x, y, z = axis
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * (skew @ skew)


def _look_along(gaze: np.ndarray) -> np.ndarray:
    """Return a camera frame, columns right, up, forward, for a gaze (3,) that is not vertical."""
    forward = gaze / np.linalg.norm(gaze)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, forward), forward], axis=1)
