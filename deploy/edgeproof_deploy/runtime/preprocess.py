"""From an image to the network's input. Evaluation, export, parity and the device all run this code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from edgeproof_deploy.runtime.image import ImageError, Source, open_image

__all__ = ["ImageError", "Preprocess", "Source", "open_image"]

INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
LARGEST_SIDE = 4096
MOST_VIEWS = 4096


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side to `resize_size` with antialiasing, cut `image_size` from the centre, normalise.

    The sizes and offsets are torchvision's (`Resize`, `CenterCrop`). Only the pixels that the crop needs are
    computed, which is why single values may differ from torchvision's by one step of 255.

    Attributes:
        image_size: side of the square that the network sees, in pixels.
        resize_size: short side after resizing, in pixels; at least `image_size`.
        interpolation: bicubic, bilinear or nearest.
        mean: subtracted from RGB in [0, 1].
        std: what the difference is divided by.
        views: of a model that looks at several views of an object, how many it was evaluated with; it takes
            any number. None: it looks at single images.
    """

    image_size: int
    resize_size: int
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    views: int | None = None

    def __post_init__(self) -> None:
        if self.views is not None and not 1 <= self.views <= MOST_VIEWS:
            raise ValueError(f"views must be 1 to {MOST_VIEWS}, got {self.views}")
        if not 1 <= self.image_size <= LARGEST_SIDE:
            raise ValueError(f"image_size must be 1 to {LARGEST_SIDE} pixels, got {self.image_size}")
        if not self.image_size <= self.resize_size <= LARGEST_SIDE:
            raise ValueError(
                f"resize_size must be {self.image_size} (image_size) to {LARGEST_SIDE} pixels,"
                f" got {self.resize_size}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean must be three finite numbers, got {self.mean}")
        if len(self.std) != 3 or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"std must be three numbers above 0, got {self.std}")

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the resized centre crop of an RGB image, uint8 (H, W, 3), not normalised."""
        width, height = image.size
        resized_long = int(self.resize_size * max(width, height) / min(width, height))
        wide, high = (resized_long, self.resize_size) if width > height else (self.resize_size, resized_long)
        x_start, x_stop, _ = self._span(width, wide)
        y_start, y_stop, y_scale = self._span(height, high)
        # One axis at a time, columns first: left to itself, Pillow 13 and later choose the order by cost,
        # and the order shows in the last bits. Of the rows only those that the crop looks at are kept.
        margin = 2 + math.ceil(2 * max(1.0, y_scale))
        first = max(math.floor(y_start) - margin, 0)
        last = min(math.ceil(y_stop) + margin, height)
        kind, side = INTERPOLATIONS[self.interpolation], self.image_size
        columns = image.resize((side, last - first), kind, box=(x_start, first, x_stop, last))
        return np.array(columns.resize((side, side), kind, box=(0, y_start - first, side, y_stop - first)))

    def _span(self, side: int, resized_side: int) -> tuple[float, float, float]:
        """Return where the crop starts and stops on a side of the source, and source pixels per pixel."""
        scale = side / resized_side
        start = round((resized_side - self.image_size) / 2)
        return start * scale, min((start + self.image_size) * scale, side), scale

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Return `pixels / 255`, less `mean`, divided by `std`, as contiguous float32 (N, 3, H, W).

        Computed as `pixels * (1 / (255 * std)) + (-mean / std)` with both factors rounded to float32 first:
        one multiplication and one addition a value, so that every machine gets the same bits.

        Args:
            pixels: uint8 (N, H, W, 3).
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise ValueError(f"expected uint8 pixels (N, H, W, 3), got {pixels.dtype} {pixels.shape}")
        mean, std = np.array(self.mean), np.array(self.std)
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
        planes *= (1 / (255 * std)).astype(np.float32)[:, None, None]
        planes += (-mean / std).astype(np.float32)[:, None, None]
        return planes

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the network's input for one RGB image, float32 (3, H, W)."""
        return self.normalise(self.pixels(image)[None])[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads; `views` is left out where there is none."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        if self.views is None:
            del plain["views"]
        return plain

    @classmethod
    def from_dict(cls, plain: Any) -> Preprocess:
        """Read plain data.

        Raises:
            ValueError: it is no table, a key is missing or unknown, or a value has the wrong type or range.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"preprocessing: expected a table, got {type(plain).__name__}")
        known = {field.name for field in fields(cls)} - ({"views"} - set(plain))
        if set(plain) != known:
            missing, unknown = sorted(known - set(plain)), sorted(set(plain) - known)
            raise ValueError(f"preprocessing: missing keys {missing}, unknown keys {unknown}")
        for key in ("image_size", "resize_size", *(["views"] if "views" in plain else [])):
            if type(plain[key]) is not int:
                raise ValueError(f"preprocessing: {key} must be a whole number, got {plain[key]!r}")
        if not isinstance(plain["interpolation"], str):
            raise ValueError(f"preprocessing: interpolation must be a word, got {plain['interpolation']!r}")
        return cls(
            plain["image_size"],
            plain["resize_size"],
            plain["interpolation"],
            _three_numbers("mean", plain["mean"]),
            _three_numbers("std", plain["std"]),
            plain.get("views"),
        )


def _three_numbers(key: str, value: Any) -> tuple[float, float, float]:
    is_list = isinstance(value, (list, tuple)) and len(value) == 3
    if not is_list or not all(
        isinstance(item, (int, float)) and not isinstance(item, bool) for item in value
    ):
        raise ValueError(f"preprocessing: {key} must be three numbers, got {value!r}")
    return (float(value[0]), float(value[1]), float(value[2]))
