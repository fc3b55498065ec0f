"""Which triangle of a mesh each pixel shows: scan lines and a depth buffer, without a loop over triangles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
NOTHING = -1
PIXELS_AT_ONCE = 2_000_000


def visible_faces(corners: Floats, nearness: Floats, side: int) -> Numbers:
    """Return the number of the nearest triangle at the centre of each pixel (side, side); -1 where none is.

    A pixel belongs to a triangle if its centre lies inside; one on an edge that two triangles share belongs
    to one of them, so that there are neither gaps nor overlaps.

    Args:
        corners: (F, 3, 2) pixel coordinates, x to the right and y downwards.
        nearness: (F, 3) inverse depths, affine in pixel coordinates; the largest is nearest.
        side: of the square image in pixels.
    """
    face_at = np.full(side * side, NOTHING, np.int64)
    nearest = np.full(side * side, -np.inf)
    for faces in _portions(corners, side):
        pixels, depth, owner = _covered(corners[faces], nearness[faces], side)
        order = np.argsort(depth, kind="stable")
        # Of several values for one place the last one stays: the nearest.
        best, best_face = np.full(side * side, -np.inf), np.full(side * side, NOTHING, np.int64)
        best[pixels[order]] = depth[order]
        best_face[pixels[order]] = faces[owner[order]]
        closer = best > nearest
        nearest[closer], face_at[closer] = best[closer], best_face[closer]
    return face_at.reshape(side, side)


def _portions(corners: Floats, side: int) -> Iterator[Numbers]:
    """Yield the triangles that cover an area, in portions that fit into memory."""
    edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    faces = np.flatnonzero(np.abs(area) > 1e-12)
    span = np.ptp(np.clip(corners[faces], 0, side), axis=1) + 1
    ends = np.cumsum(span[:, 0] * span[:, 1])
    portion = (ends // PIXELS_AT_ONCE).astype(np.int64)
    yield from (faces[portion == number] for number in np.unique(portion))


def _covered(corners: Floats, nearness: Floats, side: int) -> tuple[Numbers, Floats, Numbers]:
    """Return each pixel of each triangle: place in the image, inverse depth, number of the triangle."""
    top, bottom = _ceil(corners[:, :, 1].min(axis=1), side), _ceil(corners[:, :, 1].max(axis=1), side)
    line_face, line = _expand(top, bottom)
    height = line + 0.5
    left, right = np.full(len(line), np.inf), np.full(len(line), -np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        (x0, y0), (x1, y1) = _downwards(corners[:, i], corners[:, j])[:, line_face].transpose(0, 2, 1)
        crossed = (y0 <= height) & (height < y1)
        x = x0 + (height - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1)
        left = np.where(crossed, np.minimum(left, x), left)
        right = np.where(crossed, np.maximum(right, x), right)
    met = right >= left
    line_face, line, left, right = line_face[met], line[met], left[met], right[met]
    of_line, column = _expand(_ceil(left, side), _ceil(right, side))
    owner, row = line_face[of_line], line[of_line]
    depth = _plane(corners, nearness)[owner]
    return row * side + column, depth[:, 0] * (column + 0.5) + depth[:, 1] * (row + 0.5) + depth[:, 2], owner


def _downwards(one: Floats, other: Floats) -> Floats:
    """Return edges (2, F, 2) from the upper end to the lower one.

    Two triangles walk along the edge that they share in opposite directions; rounding must not part them.
    """
    swap = (one[:, 1] > other[:, 1])[:, None]
    return np.stack([np.where(swap, other, one), np.where(swap, one, other)])


def _ceil(values: Floats, side: int) -> Numbers:
    """Return the first pixel whose centre is not before a coordinate."""
    return np.clip(np.ceil(values - 0.5), 0, side).astype(np.int64)


def _expand(first: Numbers, end: Numbers) -> tuple[Numbers, Numbers]:
    """Return for ranges [first, end) the number of the range and the value, of every value in all of them."""
    lengths = np.maximum(end - first, 0)
    owner = np.repeat(np.arange(len(first)), lengths)
    starts = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - starts[owner] + first[owner]


def _plane(corners: Floats, values: Floats) -> Floats:
    """Return (F, 3) coefficients a, b, c with a x + b y + c the value at each corner."""
    origin, edge, other = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    rise, more = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
    area = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]
    a = (rise * other[:, 1] - more * edge[:, 1]) / area
    b = (more * edge[:, 0] - rise * other[:, 0]) / area
    return np.stack([a, b, values[:, 0] - a * origin[:, 0] - b * origin[:, 1]], axis=1)
