from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.meshes.cameras import CAMERAS, DISTANCE, Camera, dodecahedron, ring


def test_ring__twelve_thirty_degrees_apart_at_thirty_degrees() -> None:
    eyes = np.stack([camera.eye for camera in ring()]) / DISTANCE
    assert len(eyes) == 12
    np.testing.assert_allclose(eyes[:, 2], np.sin(np.radians(30)))
    azimuths = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])) % 360
    np.testing.assert_allclose(np.diff(azimuths), 30)


def test_dodecahedron__twenty_vertices_each_with_three_neighbours() -> None:
    eyes = np.stack([camera.eye for camera in dodecahedron()]) / DISTANCE
    cosines = np.round(eyes @ eyes.T, 6)
    assert len(np.unique(eyes.round(6), axis=0)) == 20
    edge = np.sort(np.unique(cosines))[-2]
    assert edge == pytest.approx(5**0.5 / 3, abs=1e-6)
    assert ((cosines == edge).sum(axis=1) == 3).all()
    assert eyes[0, 2] == eyes[:, 2].max()


@pytest.mark.parametrize("camera", [camera for make in CAMERAS.values() for camera in make()])
def test_camera__looks_at_the_origin_upright(camera: Camera) -> None:
    right, up, forward = camera.frame.T
    np.testing.assert_allclose(camera.frame.T @ camera.frame, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(forward, -camera.eye / DISTANCE, atol=1e-12)
    np.testing.assert_allclose(np.cross(right, up), -forward, atol=1e-12)
    assert right[2] == pytest.approx(0)
    assert up[2] > 0


def test_project__the_centre_what_is_above_and_what_is_nearer() -> None:
    camera = Camera.at(np.array([1.0, 0.0, 0.0]))
    points = np.array([[0.0, 0, 0], [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]])
    pixels, nearness = camera.project(points, 100)
    np.testing.assert_allclose(pixels[0], [50, 50])
    assert pixels[1, 0] == pytest.approx(50)
    assert pixels[1, 1] < 50
    assert pixels[2, 0] > 50
    assert nearness[3] > nearness[0] == pytest.approx(1 / DISTANCE)


def test_project__the_unit_ball_fits() -> None:
    random = np.random.default_rng(0).normal(size=(2000, 3))
    ball = random / np.linalg.norm(random, axis=1, keepdims=True)
    for camera in dodecahedron():
        pixels, _ = camera.project(ball, 100)
        assert 0 < pixels.min() < 6
        assert 94 < pixels.max() < 100
