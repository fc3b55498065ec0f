"""Meshes from files, upright and inside the unit ball."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeproof_configs.errors import MissingPackageError

Up = Literal["auto", "x", "y", "z"]
SUFFIXES = (".off", ".obj", ".glb", ".gltf", ".ply", ".stl")
Y_UP = (".glb", ".gltf")
"""Formats that say themselves that y points upwards."""
GREY = 0.72
UPRIGHT = {"x": (1, 2, 0), "y": (2, 0, 1), "z": (0, 1, 2)}
"""The axis that points upwards -> which axes become x, y and z; each is a rotation."""


class MeshError(ValueError):
    """A file is no mesh that can be shown; the text says why."""


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: (N, 3) inside the unit ball, z upwards.
        faces: (F, 3) rows of `vertices`.
        colours: (F, 3) from 0 to 1.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    colours: NDArray[np.float64]


def read_mesh(file: Path, up: Up = "auto") -> Mesh:
    """Read a mesh, turn it upright, and fit it into the unit ball: the centre of its box is the origin.

    The parts of a scene are taken together. ModelNet's files whose first line runs on (`OFF490 518 0`) are
    read like others.

    Args:
        file: with one of `SUFFIXES`.
        up: the axis that points upwards; `auto` is y where the format says so, else z.

    Raises:
        MeshError: it cannot be read, or has no face, no extent or no finite corner.
        MissingPackageError: trimesh is not installed.
    """
    loaded = _load(file)
    vertices = np.asarray(loaded.vertices, np.float64).reshape(-1, 3)
    faces = np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    if not len(faces):
        raise MeshError("no face")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError("a face names a corner that is not there")
    used = np.unique(faces)
    if not np.isfinite(vertices[used]).all():
        raise MeshError("a corner is not finite")
    lowest, highest = vertices[used].min(axis=0), vertices[used].max(axis=0)
    centred = vertices - (lowest + highest) / 2
    radius = np.linalg.norm(centred[used], axis=1).max()
    if not radius > 0:
        raise MeshError("no extent: all corners are at one place")
    axis = up if up != "auto" else "y" if file.suffix.lower() in Y_UP else "z"
    return Mesh((centred / radius)[:, UPRIGHT[axis]], faces, _colours(loaded, len(faces)))


def _load(file: Path) -> Any:
    try:
        import trimesh
    except ImportError:
        raise MissingPackageError(
            "rendering meshes needs trimesh", fix="pip install 'edgeproof[data]'"
        ) from None
    if not file.stat().st_size:
        raise MeshError("the file is empty")
    try:
        return trimesh.load_mesh(file, process=False)
    except Exception as error:
        # What a broken file makes the readers of a dozen formats raise is of no one class.
        words = " ".join(str(error).split())[:120] or "broken"
        raise MeshError(f"cannot be read: {type(error).__name__}: {words}") from error


def _colours(loaded: Any, faces: int) -> NDArray[np.float64]:
    """Return the colour of each face, grey where the file has none."""
    visual = loaded.visual
    if not visual.defined:
        return np.full((faces, 3), GREY)
    if visual.kind == "texture":
        visual = visual.to_color()
        visual.mesh = loaded
    return np.asarray(visual.face_colors, np.float64)[:, :3] / 255
