from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_data.meshes.mesh import GREY, MeshError, read_mesh

trimesh = pytest.importorskip("trimesh")

TETRAHEDRON = """4 4 0
0 0 0
1 0 0
0 1 0
0 0 4
3 0 1 2
3 0 1 3
3 0 2 3
3 1 2 3
"""


@pytest.mark.parametrize("header", ["OFF\n", "OFF", "off\n".upper() + "# made by hand\n"])
def test_read_mesh__off_even_where_the_first_line_runs_on(header: str, tmp_path: Path) -> None:
    (tmp_path / "t.off").write_text(header + TETRAHEDRON)
    mesh = read_mesh(tmp_path / "t.off")
    assert mesh.faces.shape == (4, 3)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), -mesh.vertices.max(axis=0))
    assert np.ptp(mesh.vertices[:, 2]) == pytest.approx(4 * np.ptp(mesh.vertices[:, 0]))
    assert (mesh.colours == GREY).all()


@pytest.mark.parametrize(("up", "tall"), [("x", 1), ("y", 0), ("z", 2), ("auto", 2)])
def test_read_mesh__which_axis_points_up(up: str, tall: int, tmp_path: Path) -> None:
    (tmp_path / "t.off").write_text("OFF\n" + TETRAHEDRON)
    mesh = read_mesh(tmp_path / "t.off", up)  # pyright: ignore[reportArgumentType]
    assert np.argmax(np.ptp(mesh.vertices, axis=0)) == tall
    corners = mesh.vertices[1:] - mesh.vertices[0]
    assert np.linalg.det(corners) > 0


def test_read_mesh__scene_with_colours_and_places(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    for number, colour in enumerate(([200, 30, 30, 255], [30, 30, 200, 255])):
        box = trimesh.creation.box((1, 1, 1))
        box.visual.face_colors = colour
        scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([0, 5 * number, 0]))
    scene.export(tmp_path / "two.glb")
    mesh = read_mesh(tmp_path / "two.glb")
    assert mesh.faces.shape == (24, 3)
    assert np.argmax(np.ptp(mesh.vertices, axis=0)) == 2
    lower = mesh.vertices[mesh.faces].mean(axis=1)[:, 2] < 0
    np.testing.assert_allclose(mesh.colours[lower], [[200 / 255, 30 / 255, 30 / 255]] * 12, atol=0.01)
    np.testing.assert_allclose(mesh.colours[~lower], [[30 / 255, 30 / 255, 200 / 255]] * 12, atol=0.01)


def test_read_mesh__obj(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.obj")
    mesh = read_mesh(tmp_path / "ball.obj")
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.off", "", "the file is empty"),
        ("a.off", "OFF\n", "cannot be read"),
        ("a.off", "OFF\n4 1 0\n0 0 0\n1 0 0\n", "cannot be read"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n", "cannot be read"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 nan 0\n3 0 1 2\n", "a corner is not finite"),
        ("a.off", "OFF\n3 1 0\n2 2 2\n2 2 2\n2 2 2\n3 0 1 2\n", "no extent"),
        ("a.obj", "v 0 0 0\nv 1 0 0\n", "no face"),
        ("a.glb", "glTF cut", "cannot be read"),
    ],
)
def test_read_mesh__broken(name: str, text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MeshError, match=reason):
        read_mesh(tmp_path / name)


def test_read_mesh__colours_of_materials_and_textures(tmp_path: Path) -> None:
    box = trimesh.creation.box((1, 1, 1))
    image = Image.new("RGB", (8, 8), (20, 200, 40))
    box.visual = trimesh.visual.TextureVisuals(uv=np.full((len(box.vertices), 2), 0.5), image=image)
    box.export(tmp_path / "textured.glb")
    assert set(map(tuple, (read_mesh(tmp_path / "textured.glb").colours * 255).round())) == {(20, 200, 40)}
    (tmp_path / "red.mtl").write_text("newmtl red\nKd 1 0 0\n")
    (tmp_path / "red.obj").write_text("mtllib red.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl red\nf 1 2 3\n")
    assert read_mesh(tmp_path / "red.obj").colours.tolist() == [[1, 0, 0]]
