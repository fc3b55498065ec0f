"""From a scene to pixels: rays, what they meet, and how it is lit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeproof_data.solids.scene import GAMMA, Solid, View
from edgeproof_data.solids.shapes import Distance, Floats, distance_of
from edgeproof_data.solids.trace import dot, light_reaching, normals, trace, turn

SAMPLES = 2
"""Rays along each side of a pixel."""
HALF_FIELD = np.float32(np.tan(np.radians(17.5)))
HIGHLIGHT = {"matte": (0.0, 1), "glossy": (0.8, 64), "metal": (1.0, 16)}
"""Material -> strength and exponent of the lamp's reflection."""


def render(solid: Solid, view: View, image_size: int) -> NDArray[np.uint8]:
    """Return an image (image_size, image_size, 3)."""
    distance = distance_of(solid.shape, solid.aspect)
    rays = _camera_rays(view, image_size * SAMPLES)
    eye, local_rays = turn(view.pose.T, view.eye), turn(view.pose.T, rays)
    reach = trace(distance, eye, local_rays)
    hit = np.flatnonzero(np.isfinite(reach))
    facing = turn(view.pose, normals(distance, eye + local_rays[:, hit] * reach[hit]))
    sampled = np.zeros((4, rays.shape[1]), np.float32)
    sampled[:3, hit] = _surface(solid, view, rays[:, hit], facing)
    sampled[3, hit] = 1
    pixels = _mean_of_samples(sampled, image_size)
    light = pixels[:3] + (1 - pixels[3]) * _surroundings(distance, view, _camera_rays(view, image_size))
    display = np.power(np.clip(light, 0, 1), np.float32(1 / GAMMA))
    return np.rint(display.T.reshape(image_size, image_size, 3) * 255).astype(np.uint8)


def _mean_of_samples(sampled: Floats, side: int) -> Floats:
    """Return (C, side * side) from samples (C, (side * SAMPLES) ** 2)."""
    grid = sampled.reshape(-1, side * SAMPLES, side * SAMPLES)
    parts = [grid[:, i::SAMPLES, j::SAMPLES] for i in range(SAMPLES) for j in range(SAMPLES)]
    return (np.add.reduce(parts) / np.float32(len(parts))).reshape(-1, side * side)


def _camera_rays(view: View, side: int) -> Floats:
    """Return unit directions (3, side * side) in the world's frame, row by row from the top."""
    ticks = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1) * HALF_FIELD
    across, up = np.meshgrid(ticks, -ticks)
    rays = np.stack([across.ravel(), up.ravel(), np.ones(side * side, np.float32)])
    return turn(view.look, rays / np.sqrt(dot(rays, rays)))


def _floor_height(distance: Distance, view: View) -> np.float32:
    """Return the height of the ground: the object's lowest point, found by rays from below."""
    ticks = np.linspace(-1, 1, 24, dtype=np.float32)
    x, y = np.meshgrid(ticks, ticks)
    below = np.stack([x.ravel(), y.ravel(), np.full(x.size, -1.5, np.float32)])
    upwards = np.repeat(view.pose.T[:, 2:], x.size, axis=1)
    return trace(distance, turn(view.pose.T, below), upwards).min() - np.float32(1.5)


def _surroundings(distance: Distance, view: View, rays: Floats) -> Floats:
    """Return the light (3, N) of the ground, with the object's shadow on it, fading into the sky."""
    away = (_floor_height(distance, view) - view.eye[2]) / np.minimum(rays[2], np.float32(-1e-3))
    places = view.eye + away * rays
    checks = np.floor(places[:2] / np.float32(view.check_size)).astype(np.int32)
    ground = np.where((checks[0] + checks[1]) & 1, view.ground[:, :1], view.ground[:, 1:])
    lit = light_reaching(distance, turn(view.pose.T, places), turn(view.pose.T, view.light))
    near = np.exp(-np.maximum(away - 4, 0) / 6) * (rays[2] < -1e-3)
    return near * ground * (0.45 * view.sky + 0.75 * view.light[2] * view.lamp * lit) + (1 - near) * view.sky


def _surface(solid: Solid, view: View, rays: Floats, facing: Floats) -> Floats:
    """Return the light (3, N) that the object sends back along the rays.

    Args:
        solid: the object.
        view: the light and the surroundings.
        rays: (3, N) from the camera, in the world's frame.
        facing: (3, N) normals of the surface where the rays meet it, in the world's frame.
    """
    ground = view.ground.mean(axis=1, keepdims=True)
    lit = np.maximum(dot(facing, view.light), 0)
    above = 0.5 + 0.5 * facing[2]
    diffuse = solid.albedo * (
        above * (0.3 + 0.4 * view.sky) + (1 - above) * 0.5 * ground + 0.8 * lit * view.lamp
    )
    if solid.material == "matte":
        return diffuse
    mirrored = rays - 2 * dot(facing, rays) * facing
    strength, exponent = HIGHLIGHT[solid.material]
    highlight = strength * np.maximum(dot(mirrored, view.light), 0) ** exponent * (lit > 0)
    grazing = (1 - np.clip(-dot(facing, rays), 0, 1)) ** 5
    skyward = np.clip(0.5 + 4 * mirrored[2], 0, 1)
    reflection = skyward * (0.25 + view.sky) * (1.2 - 0.7 * mirrored[2]) + (1 - skyward) * 0.35 * ground
    if solid.material == "glossy":
        return diffuse + (0.04 + 0.3 * grazing) * reflection + highlight * view.lamp
    tint = solid.albedo + 0.4 * (1 - solid.albedo) * grazing
    return 0.15 * diffuse + tint * (1.3 * reflection + 2 * highlight * view.lamp)
