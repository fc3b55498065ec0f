"""From a mesh to views of it: Lambert's law, one lamp beside the camera, a white ground."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgeproof_configs.files import explain_os_errors
from edgeproof_data.meshes.cameras import CAMERAS, Camera
from edgeproof_data.meshes.mesh import Mesh, Up, read_mesh
from edgeproof_data.meshes.raster import visible_faces

VERSION = 1
"""Raised whenever the same mesh would give other pixels."""
SAMPLES = 2
"""Along each side of a pixel."""
AMBIENT = 0.35
LAMP = np.array([-0.4, 0.6, -1.0]) / np.linalg.norm([-0.4, 0.6, -1.0])
"""Where light comes from in the camera's frame (right, up, forward): from behind, above, on the left."""


def render(mesh: Mesh, camera: Camera, size: int) -> NDArray[np.uint8]:
    """Return a view (size, size, 3).

    A face's light is its colour times a + (1 - a) max(0, n l), with n its normal on the side that is seen:
    meshes are often not wound the same way throughout.
    """
    pixels, nearness = camera.project(mesh.vertices, size * SAMPLES)
    face_at = visible_faces(pixels[mesh.faces], nearness[mesh.faces], size * SAMPLES)
    shades = np.vstack([_lit(mesh, camera), np.ones((1, 3))])
    samples = shades[face_at].reshape(size, SAMPLES, size, SAMPLES, 3)
    return np.rint(samples.mean(axis=(1, 3)) * 255).astype(np.uint8)


def render_to(file: Path, folder: Path, *, views: int, size: int, up: Up) -> None:
    """Render the views of a mesh into a new folder, as `00.png` and so on; it appears when all are there.

    Raises:
        MeshError: the file is no mesh that can be shown.
    """
    mesh = read_mesh(file, up)
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".rendering-"))
        try:
            _write(mesh, CAMERAS[views](), size, temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(mesh: Mesh, cameras: Sequence[Camera], size: int, folder: Path) -> None:
    for number, camera in enumerate(cameras):
        Image.fromarray(render(mesh, camera, size)).save(folder / f"{number:02d}.png", compress_level=6)


def _lit(mesh: Mesh, camera: Camera) -> NDArray[np.float64]:
    """Return the colour (F, 3) that each face shows to a camera."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    to_camera = camera.eye - (a + b + c) / 3
    seen_side = np.where((normal * to_camera).sum(axis=1) < 0, -1.0, 1.0)
    lambert = np.maximum(seen_side * (normal @ (camera.frame @ LAMP)), 0)
    return mesh.colours * (AMBIENT + (1 - AMBIENT) * lambert)[:, None]
