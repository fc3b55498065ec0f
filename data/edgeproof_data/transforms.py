"""Random changes of training images, on bytes.

Each change of each image depends on its own row of random numbers alone (`draws.uniforms`), so the result is
the same however the images are grouped. Cutting, flipping and covering are done on the arrays directly,
with the result of torchvision's `crop`, `horizontal_flip` and `erase`; the rest is done by torchvision v2,
image by image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from edgeproof_configs.schema import AugmentConfig
from edgeproof_data.policies import Policy
from edgeproof_deploy.runtime.preprocess import Preprocess

Bytes = NDArray[np.uint8]
Draws = NDArray[np.float64]

ASPECTS = (3 / 4, 4 / 3)
ERASED_AREAS = (0.02, 1 / 3)
ERASED_ASPECTS = (0.3, 3.3)
DRAWS = 19
"""Random numbers that each image needs."""
# Columns of the draws, fixed, so that switching on one change leaves the others as they were.
CROP, SHIFT, FLIP, JITTER, ROTATE, ERASE = slice(0, 4), slice(4, 6), 6, slice(7, 10), 10, slice(11, 16)
POLICY, CUTOUT = 16, slice(17, 19)


class Augment:
    """Changes of a recipe, in the order of `AugmentConfig`.

    Pixels that a change adds, uncovers, erases or cuts out get the colour that normalises to 0.

    Args:
        config: which changes.
        preprocess: of evaluation; gives the size, the interpolation and the mean colour.
    """

    def __init__(self, config: AugmentConfig, preprocess: Preprocess):
        self.config, self.size = config, preprocess.image_size
        self.interpolation = InterpolationMode(preprocess.interpolation)
        self.fill = [float(round(255 * value)) for value in preprocess.mean]
        self._policy = Policy(config, self.fill) if config.policy else None
        self._colour = np.array(self.fill, np.uint8)[:, None, None]
        self._one_by_one = any((config.policy, config.color_jitter, config.rotate_degrees, config.erase))

    @property
    def side(self) -> int | None:
        """The side of the squares that this cuts from; None where the whole resized image is wanted."""
        return None if self.config.random_resized_crop else self.size + 2 * self.config.shift_pixels

    def __call__(self, squares: Bytes, draws: Draws) -> Bytes:
        """Return changed images (n, 3, size, size).

        Args:
            squares: (n, 3, side, side).
            draws: (n, DRAWS) in [0, 1).
        """
        result = np.empty((len(squares), 3, self.size, self.size), np.uint8)
        for image, square, row in zip(result, squares, draws, strict=True):
            image[...] = self._cut(square, row)
        if self.config.flip:
            flipped = draws[:, FLIP] < self.config.flip
            result[flipped] = result[flipped][..., ::-1]
        if self._one_by_one:
            for image, row in zip(torch.from_numpy(result), draws, strict=True):
                image.copy_(self._by_torchvision(image, row))
        if self.config.cutout:
            for image, row in zip(result, draws, strict=True):
                top, left, height, width = cutout_box(self.config.cutout, self.size, row[CUTOUT])
                image[:, top : top + height, left : left + width] = self._colour
        return result

    def _cut(self, square: Bytes, row: Draws) -> Bytes:
        square = self._framed(square)
        if self.config.random_resized_crop:
            top, left, height, width = crop_box(self.config.random_resized_crop, square.shape[-1], row[CROP])
            part = torch.from_numpy(square[:, top : top + height, left : left + width])
            return F.resize(part, [self.size, self.size], self.interpolation, antialias=True).numpy()
        top, left = np.floor(row[SHIFT] * (square.shape[-1] - self.size + 1)).astype(int)
        return square[:, top : top + self.size, left : left + self.size]

    def _framed(self, square: Bytes) -> Bytes:
        pad = self.config.pad_pixels
        if not pad:
            return square
        side = square.shape[-1]
        framed = np.empty((3, side + 2 * pad, side + 2 * pad), np.uint8)
        framed[:] = self._colour
        framed[:, pad : pad + side, pad : pad + side] = square
        return framed

    def _by_torchvision(self, image: Tensor, row: Draws) -> Tensor:
        if self._policy:
            image = self._policy(image, row[POLICY])
        strength = self.config.color_jitter
        if strength:
            brightness, contrast, saturation = (1 + strength * (2 * row[JITTER] - 1)).tolist()
            image = F.adjust_brightness(image, brightness)
            image = F.adjust_contrast(image, contrast)
            image = F.adjust_saturation(image, saturation)
        if self.config.rotate_degrees:
            degrees = self.config.rotate_degrees * (2 * row[ROTATE] - 1)
            image = F.rotate(image, degrees, InterpolationMode.BILINEAR, fill=self.fill)
        happens, *where = row[ERASE]
        if happens < self.config.erase:
            top, left, height, width = erase_box(self.size, where)
            image = F.erase(image, top, left, height, width, torch.from_numpy(self._colour))
        return image


def crop_box(areas: tuple[float, float], side: int, row: Draws) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random part of a square.

    Args:
        areas: smallest and largest part of the area; the aspect is between 3:4 and 4:3, log-uniform, as far
            as the square allows.
        side: of the square.
        row: (4,) random numbers.
    """
    return _box(areas, ASPECTS, side, row)


def erase_box(side: int, row: Draws | list[float]) -> tuple[int, int, int, int]:
    """Return a random box with the areas and aspects of random erasing (Zhong et al., arXiv:1708.04896)."""
    return _box(ERASED_AREAS, ERASED_ASPECTS, side, row)


def cutout_box(part: float, side: int, row: Draws) -> tuple[int, int, int, int]:
    """Return top, left, height and width of what CutOut covers (DeVries, Taylor, arXiv:1708.04552).

    The centre of the square lies anywhere in the image, so a part of it may lie outside and is left off.

    Args:
        part: side of the square as a part of the image's side; the square has at least one pixel.
        side: of the image.
        row: (2,) random numbers.
    """
    length = max(1, round(part * side))
    starts = [int(draw * side) - length // 2 for draw in row]
    top, left = (max(start, 0) for start in starts)
    height, width = (min(start + length, side) - max(start, 0) for start in starts)
    return top, left, height, width


def _box(
    areas: tuple[float, float], aspects: tuple[float, float], side: int, row: Draws | list[float]
) -> tuple[int, int, int, int]:
    area = side * side * (areas[0] + (areas[1] - areas[0]) * row[0])
    low, high = math.log(aspects[0]), math.log(aspects[1])
    aspect = math.exp(low + (high - low) * row[1])
    # A side that does not fit is cut to the square's, and the other one grows so that the area stays.
    width = min(math.sqrt(area * aspect), side)
    height = min(area / width, side)
    width = min(area / height, side)
    whole_width, whole_height = max(1, round(width)), max(1, round(height))
    top = int(row[2] * (side - whole_height + 1))
    left = int(row[3] * (side - whole_width + 1))
    return top, left, whole_height, whole_width
