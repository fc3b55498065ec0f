"""From photo to a teacher's input: what the teacher's own package says, with what the recipe overrides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.schema import Config, PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.preprocess import INTERPOLATIONS, Preprocess

Triple = tuple[float, float, float]
PositiveTriple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
ResizeMode = Literal["shortest", "squash"]


class PreprocessOverride(Config):
    """What a recipe says in place of the teacher's own files; what is None is left as they have it."""

    resize_size: PositiveInt | None = None
    interpolation: Literal["bicubic", "bilinear", "nearest"] | None = None
    mean: Triple | None = None
    std: PositiveTriple | None = None
    resize_mode: ResizeMode | None = None


@dataclass(frozen=True)
class SquashPreprocess(Preprocess):
    """Resize to a square of `resize_size` whatever the aspect ratio, as SigLIP does, then cut the centre."""

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the centre of the resized image, uint8 (H, W, 3), not normalised."""
        square = (self.resize_size, self.resize_size)
        start = int(round((self.resize_size - self.image_size) / 2))  # noqa: RUF046
        end = start + self.image_size
        return np.array(image.resize(square, INTERPOLATIONS[self.interpolation]))[start:end, start:end]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; unlike that of the base class it says how the image is resized."""
        return {**super().to_dict(), "resize_mode": "squash"}


def teacher_preprocess(
    found: dict[str, Any], override: PreprocessOverride, where: object = None
) -> Preprocess:
    """Return a teacher's preprocessing.

    Args:
        found: `image_size`, `resize_size`, `interpolation`, `mean`, `std`, `resize_mode`, by its package.
        override: what the recipe says in their place.
        where: what `found` was read from.

    Raises:
        EdgeproofError: together they make no sense, or images are resized in a way that is not known here.
    """
    settings = {**found, **override.model_dump(exclude_none=True)}
    mode = settings.pop("resize_mode")
    if mode not in ("shortest", "squash"):
        raise EdgeproofError(
            f"the teacher's images are resized by '{mode}', which is not known here",
            where=where,
            fix="set teacher.preprocess.resize_mode: shortest or squash, the one that comes nearest",
        )
    for key in ("mean", "std"):
        settings[key] = tuple(float(value) for value in settings[key])
    try:
        return (SquashPreprocess if mode == "squash" else Preprocess)(**settings)
    except ValueError as error:
        raise EdgeproofError(f"teacher.preprocess: {error}", where=where) from error


def square_side(size: Any, where: object) -> int:
    """Return the side of a square image size given as a number or as (height, width).

    Raises:
        EdgeproofError: it is not square.
    """
    if isinstance(size, int):
        return size
    height, width = (size * 2)[:2] if len(size) == 1 else size
    if height != width:
        raise EdgeproofError(
            f"the teacher looks at {height} x {width} pixels; only square inputs are known here", where=where
        )
    return int(height)
