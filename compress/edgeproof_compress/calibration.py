"""From real images to the range of every quantised value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_configs.compress_schema import QuantizationConfig
from edgeproof_configs.errors import DataError, EdgeproofError
from edgeproof_data.sets import ImageSet
from edgeproof_train.embeddings import embed_images
from edgeproof_train.student import Student

BATCH = 32


@dataclass(frozen=True)
class Calibrated:
    """A student with ranges.

    Attributes:
        student: rounding as its target does.
        images: how many it has seen.
        returned: layer -> why it is computed in floating point after all.
    """

    student: QuantizedStudent
    images: int
    returned: dict[str, str]


def calibration_images(train: ImageSet, count: int, seed: int) -> ImageSet:
    """Return so many of the training images, drawn without replacement; all if there are fewer.

    Raises:
        DataError: there is none.
    """
    if not len(train):
        raise DataError("there is no image to calibrate with", where="compress.quantization.images")
    if len(train) <= count:
        return train
    chosen = np.random.default_rng(seed).choice(len(train), count, replace=False)
    return train.subset(np.sort(chosen))


def calibrate(
    base: Student, spec: QuantizationSpec, images: ImageSet, config: QuantizationConfig, device: str
) -> Calibrated:
    """Return a quantised student whose ranges come from images.

    A value that is zero on every image has no range. The layers that make or read it go back to floating
    point, and are told; nothing is rounded with a made-up scale.

    Args:
        base: the student in floating point; stays as it is.
        spec: which layers, whose rounding, for which engine.
        images: for calibration, prepared as in evaluation.
        config: method and percentile.
        device: where the student runs.

    Raises:
        EdgeproofError: a range is no number, or no layer is left.
    """
    returned: dict[str, str] = {}
    while True:
        student = QuantizedStudent(base, spec)
        silent = collect(student, images, config, device)
        if not silent:
            student.use(spec.target)
            return Calibrated(student, len(images), returned)
        beside = {layer: value for value in silent for layer in student.layers_beside(value)}
        returned |= {layer: f"'{value}' is zero on every image" for layer, value in beside.items()}
        left = tuple(layer for layer in spec.layers if layer not in beside)
        if not left or len(left) == len(spec.layers):
            raise EdgeproofError(
                f"no layer can be quantised: '{silent[0]}' is zero on all {len(images)} images",
                where="compress.quantization",
                fix="look at the student's accuracy, or remove compress.quantization",
            )
        spec = replace(spec, layers=left)


def collect(
    student: QuantizedStudent, images: ImageSet, config: QuantizationConfig, device: str
) -> list[str]:
    """Set every range from the images, and return the values that were always zero.

    Raises:
        EdgeproofError: a range is no number.
    """
    quantizers = student.quantizers()
    student.use(None)
    for quantizer in quantizers.values():
        quantizer.collect()
    embed_images(student, images, batch_size=BATCH, device=device, label="calibrate")
    silent: list[str] = []
    for name, quantizer in quantizers.items():
        amax = quantizer.finish(config.calibration, config.percentile)
        if not np.isfinite(amax):
            raise EdgeproofError(
                f"the range of '{name}' is {amax}: the student gives no numbers",
                where="compress.quantization",
            )
        if amax <= 0:
            silent.append(name)
        else:
            quantizer.amax = amax
    return silent
