"""Students small enough for tests, with batch norms that do something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgeproof_compress.graph import trace
from edgeproof_compress.placement import Target, layer_nodes
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_compress.quantizers import Backend
from edgeproof_data.sets import ImageSet
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent

DIM, SIDE = 16, 32


def make_student(
    model: str = "cifar_resnet8", side: int = SIDE, dim: int = DIM, **settings: Any
) -> TimmStudent:
    """Return a seeded student in eval mode, with batch norms as after some training."""
    torch.manual_seed(2)
    student = TimmStudent(TimmStudent.Config(model=model, image_size=side, **settings), dim)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return student.eval()


def images(count: int = 2, side: int = SIDE) -> torch.Tensor:
    """Return seeded noise, (B, 3, side, side)."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def layers_of(student: Student) -> tuple[str, ...]:
    """Return the names of all layers that can be quantised."""
    return tuple(layer_nodes(trace(student)))


def quantised(
    model: str = "cifar_resnet8", target: Target = "onnxruntime", backend: Backend = "modelopt"
) -> QuantizedStudent:
    """Return a student in eval mode, all of it rounded as an engine does, with ranges from `images`."""
    base = make_student(model)
    student = QuantizedStudent(base, QuantizationSpec(layers_of(base), backend, target)).eval()
    for quantizer in student.quantizers().values():
        quantizer.collect()
    with torch.no_grad():
        student(images(8))
    for quantizer in student.quantizers().values():
        quantizer.amax = quantizer.finish("max", None)
    student.use(target)
    return student


def write_images(folder: Path, count: int = 24, classes: int = 3) -> ImageSet:
    """Write pictures of a colour for each class, with a gradient and noise of their own."""
    random = np.random.default_rng(0)
    colours = random.uniform(40, 210, (classes, 3))
    labels = np.arange(count, dtype=np.int64) % classes
    ramp = np.linspace(-1, 1, SIDE)[:, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(f"{number:03d}.png" for number in range(count))
    for name, label in zip(names, labels, strict=True):
        pixels = colours[label] + random.normal(0, 30) * ramp + random.normal(0, 25, (SIDE, SIDE, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
    return ImageSet(folder, names, labels, tuple(f"class {number}" for number in range(classes)))
