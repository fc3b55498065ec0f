from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_data.meshes.cameras import Camera, ring
from edgeproof_data.meshes.mesh import GREY, Mesh, MeshError
from edgeproof_data.meshes.render import AMBIENT, LAMP, render, render_to

WALL = np.array([[0.0, -0.61, -0.61], [0.0, 0.61, -0.61], [0.0, 0.61, 0.61], [0.0, -0.61, 0.61]])


def wall(faces: list[list[int]]) -> Mesh:
    return Mesh(WALL, np.array(faces), np.full((len(faces), 3), GREY))


def test_render__lambert_on_a_wall_that_faces_the_camera() -> None:
    image = render(wall([[0, 1, 2], [0, 2, 3]]), Camera.at(np.array([1.0, 0.0, 0.0])), 32)
    assert image.shape == (32, 32, 3)
    assert (image[0, 0] == 255).all()
    light = GREY * (AMBIENT + (1 - AMBIENT) * -LAMP[2])
    assert abs(int(image[16, 16, 0]) - 255 * light) <= 1
    np.testing.assert_array_equal(image, image[::-1])
    np.testing.assert_array_equal(image, image[:, ::-1])


def test_render__either_winding_and_either_side() -> None:
    front, back = Camera.at(np.array([1.0, 0.0, 0.0])), Camera.at(np.array([-1.0, 0.0, 0.0]))
    mixed = render(wall([[0, 1, 2], [0, 3, 2]]), front, 32)
    np.testing.assert_array_equal(mixed, render(wall([[0, 1, 2], [0, 2, 3]]), front, 32))
    np.testing.assert_array_equal(mixed, render(wall([[0, 1, 2], [0, 2, 3]]), back, 32))


def test_render__the_nearer_wall_hides_the_other() -> None:
    vertices = np.vstack([WALL - [0.5, 0, 0], WALL * 0.5 + [0.5, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    colours = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    image = render(Mesh(vertices, faces, colours), Camera.at(np.array([1.0, 0.0, 0.0])), 32)
    assert image[16, 16, 2] > 0 == image[16, 16, 0]
    behind = render(Mesh(vertices, faces, colours), Camera.at(np.array([-1.0, 0.0, 0.0])), 32)
    assert behind[16, 16, 0] > 0 == behind[16, 16, 2]


def test_render_to__all_views_or_none(tmp_path: Path) -> None:
    pytest.importorskip("trimesh").creation.box((1, 2, 3)).export(tmp_path / "box.off")
    render_to(tmp_path / "box.off", tmp_path / "out" / "box", views=12, size=24, up="auto")
    files = sorted(file.name for file in (tmp_path / "out" / "box").iterdir())
    assert files == [f"{number:02d}.png" for number in range(12)]
    views = [np.asarray(Image.open(tmp_path / "out" / "box" / file)) for file in files]
    assert {view.shape for view in views} == {(24, 24, 3)}
    # A box looks the same after half a turn, and not after a quarter.
    assert np.abs(views[0].astype(int) - views[6]).max() <= 2
    assert np.abs(views[0].astype(int) - views[3]).max() > 50
    assert len(ring()) == 12
    (tmp_path / "bad.off").write_text("OFF\n")
    with pytest.raises(MeshError):
        render_to(tmp_path / "bad.off", tmp_path / "out" / "bad", views=12, size=24, up="auto")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["box"]
