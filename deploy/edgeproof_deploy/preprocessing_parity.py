"""Is an image prepared on the device as it was in training and evaluation? To the bit, on hard images too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.gates import GateResult, at_most
from edgeproof_deploy.runtime.preprocess import Preprocess, open_image

ToInput = Callable[[Path], np.ndarray]
"""From an image file to the network's input, float32 (3, H, W)."""


@dataclass(frozen=True)
class PreprocessingParity:
    """How two ways from file to input differ.

    Attributes:
        n: how many images were compared, edge images included.
        edges: names of the edge images.
        max_abs: largest absolute difference of a value.
        differing: share of the values that are not equal to the bit.
        worst: name of the image with the largest difference, None where nothing differs.
        gate: `preprocessing`, the largest difference, at most 0.
    """

    n: int
    edges: tuple[str, ...]
    max_abs: float
    differing: float
    worst: str | None
    gate: GateResult

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "n": self.n,
            "edges": list(self.edges),
            "max_abs": self.max_abs,
            "differing": self.differing,
            "worst": self.worst,
            "gates": [self.gate.to_dict()],
        }


def preprocessing_parity(
    images: Sequence[Path],
    preprocess_train: ToInput,
    preprocess_runtime: ToInput,
    edges: Sequence[Path],
    limit: float = 0.0,
) -> PreprocessingParity:
    """Prepare the same files in both ways and compare the values.

    Args:
        images: real images.
        preprocess_train: as training's evaluation does it, such as `through_loader`.
        preprocess_runtime: as the device does it, such as `through_runtime`.
        edges: hard images, such as `write_edge_images` makes.
        limit: largest difference allowed.
    """
    compared = different = 0
    largest, worst = 0.0, None
    for file in (*images, *edges):
        a, b = preprocess_train(file), preprocess_runtime(file)
        if a.shape != b.shape:
            raise ValueError(f"{file}: expected equal shapes, got {a.shape} and {b.shape}")
        compared += a.size
        different += int((a != b).sum())
        difference = float(np.abs(a.astype(np.float64) - b).max())
        if difference > largest:
            largest, worst = difference, file.name
    return PreprocessingParity(
        n=len(images) + len(edges),
        edges=tuple(file.stem for file in edges),
        max_abs=largest,
        differing=different / compared,
        worst=worst,
        gate=at_most("preprocessing", largest, limit),
    )


@dataclass(frozen=True, eq=False)
class _Alone(ImageSet):
    """A set of one image that was given as a path, which may lie in a shard."""

    given: Path = Path()

    def file(self, index: int) -> Path:
        del index
        return self.given


def through_loader(preprocess: Preprocess) -> ToInput:
    """Return the way of evaluation: the loader's batches as numpy."""

    def to_input(file: Path) -> np.ndarray:
        one = _Alone(file.parent, (file.name,), np.array([-1], np.int64), given=file)
        return next(iter(eval_batches(one, preprocess, batch_size=1)))["image"][0].numpy()

    return to_input


def through_runtime(preprocess: Preprocess) -> ToInput:
    """Return the way of the device."""
    return lambda file: preprocess(open_image(file))


def write_edge_images(folder: Path) -> list[Path]:
    """Write images that preprocessing goes wrong on, and return their files.

    Black, white, saturated, grey (one channel), noise, tiny (1 pixel), huge (24 megapixels), a strip, turned
    by EXIF, transparent, 16-bit, CMYK.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "black.png": (Image.new("RGB", (80, 60), (0, 0, 0)), {}),
        "white.png": (Image.new("RGB", (60, 80), (255, 255, 255)), {}),
        "saturated.png": (Image.fromarray(np.where(noise > 127, 255, 0).astype(np.uint8)), {}),
        "grey.png": (Image.fromarray(noise[..., 0]), {}),
        "noise.png": (Image.fromarray(noise), {}),
        "tiny.png": (Image.new("RGB", (1, 1), (200, 30, 90)), {}),
        "huge.jpg": (smooth.resize((6000, 4000), Image.Resampling.BILINEAR), {"quality": 80}),
        "strip.png": (Image.fromarray(np.tile(noise[:7], (1, 8, 1))), {}),
        "exif.jpg": (Image.fromarray(noise), {"exif": turned.tobytes(), "quality": 95}),
        "transparent.png": (Image.fromarray(rng.integers(0, 256, (50, 70, 4), dtype=np.uint8)), {}),
        "sixteen_bit.png": (Image.fromarray(rng.integers(0, 65536, (50, 70), dtype=np.uint16)), {}),
        "cmyk.jpg": (smooth.resize((70, 50)).convert("CMYK"), {"quality": 95}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]
