"""Meshes from files, upright and inside the unit ball."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
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

    vertices: Floats
    faces: NDArray[np.int64]
    colours: Floats


def read_mesh(file: Path, up: Up = "auto") -> Mesh:
    """Read a mesh, turn it upright, and fit it into the unit ball: the centre of its box is the origin.

    The parts of a scene are taken together. ModelNet's files whose first line runs on (`OFF490 518 0`) are
    read like others.

    Args:
        file: with one of `SUFFIXES`.
        up: the axis that points upwards; `auto` is y where the format says so, else z.

    Raises:
        MeshError: it cannot be read, or has no face, no extent or no finite corner.
    """
    loaded, colours = _load(file)
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
    return Mesh((centred / radius)[:, UPRIGHT[axis]], faces, colours)


def _load(file: Path) -> tuple[Any, Floats]:
    """Return what trimesh reads, and the colour of each face."""
    import trimesh

    if not file.stat().st_size:
        raise MeshError("the file is empty")
    try:
        loaded = trimesh.load_mesh(file, process=False)
        return loaded, _colours(loaded)
    except Exception as error:
        # What a broken file makes the readers of a dozen formats raise is of no one class.
        words = " ".join(str(error).split())[:120] or "broken"
        raise MeshError(f"cannot be read: {type(error).__name__}: {words}") from error


def _colours(loaded: Any) -> Floats:
    """Return each face's colour (F, 3): its own, its texture's at its corners, its material's, or grey."""
    visual, faces = loaded.visual, np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    if not visual.defined:
        return np.full((len(faces), 3), GREY)
    if visual.kind != "texture":
        return np.asarray(visual.face_colors, np.float64)[:, :3] / 255
    found = visual.material.to_color(visual.uv)
    shown = np.asarray(visual.material.main_color if found is None else found, np.float64)[..., :3] / 255
    return np.tile(shown, (len(faces), 1)) if shown.ndim == 1 else shown[faces].mean(axis=1)
