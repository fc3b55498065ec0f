"""Test images with their answers, as the report reads them.

`verify/examples.json`: a list of
    {"path": relative path, "thumbnail": base64 of a small JPEG, "true": label or null,
     "top": [[label, probability], ...], "seen": whether the true class was trained on},
    some of them with "cam": {"jpeg": base64, "node", "cells": [h, w]} or {"reason": why there is none}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeproof_configs.errors import EdgeproofError


@dataclass(frozen=True)
class HeatMap:
    """What speaks for the first answer: a picture, the node that was looked at, and how fine its map is.

    Without a picture `reason` says why.
    """

    jpeg: bytes = b""
    node: str = ""
    cells: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True)
class Example:
    """A test image and what the shipped form says about it."""

    path: str
    thumbnail: bytes
    true: str | None
    top: tuple[tuple[str, float], ...]
    seen: bool = True
    heat: HeatMap | None = None

    @property
    def right(self) -> bool | None:
        """Whether the first answer is the true label; None where the image has no label."""
        return None if self.true is None or not self.top else self.top[0][0] == self.true


def read_example(plain: Mapping[str, Any]) -> Example:
    """Read one example.

    Raises:
        EdgeproofError: a picture is not base64.
    """
    path, cam = str(plain["path"]), plain.get("cam")
    heat = None
    if cam:
        jpeg = picture(cam["jpeg"], f"the heat map of {path}") if "jpeg" in cam else b""
        cells = cam.get("cells") or (0, 0)
        heat = HeatMap(jpeg, cam.get("node") or "", (cells[0], cells[1]), cam.get("reason") or "")
    thumbnail = picture(plain["thumbnail"], f"the thumbnail of {path}")
    top = tuple((str(label), float(probability)) for label, probability in plain["top"])
    return Example(path, thumbnail, plain.get("true"), top, bool(plain.get("seen", True)), heat)


def picture(encoded: str, name: str) -> bytes:
    """Return the bytes of a picture.

    Raises:
        EdgeproofError: it is not base64.
    """
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise EdgeproofError(f"{name} is not base64: {error}") from error
