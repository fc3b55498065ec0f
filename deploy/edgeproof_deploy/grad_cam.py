"""Grad-CAM: which parts of an image speak for a label, by the gradient at a student's last feature map."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_train.student import Student
from edgeproof_train.taps import as_map, first_tensor, layout_around, unwrapped

PIXELS = 96
DEPTH = 2
"""How many names a node's path may have: stages and blocks, and not the parts inside a block."""
COARSEST = 3
"""A map of fewer cells a side says nothing about where."""
WARM = np.array([[20, 11, 60], [120, 28, 109], [203, 65, 73], [248, 149, 30], [252, 255, 164]], np.float64)
"""Five colours from dark to bright, RGB, between which heat is interpolated."""
OPACITY = 0.7


@dataclass(frozen=True)
class CamMaps:
    """What speaks for a label.

    Attributes:
        node: the module whose map was looked at.
        maps: (N, h, w) float32 from 0 to 1, the strongest cell of each image being 1; all 0 where nothing
            speaks for the label.
    """

    node: str
    maps: np.ndarray


def grad_cam(student: Student, images: Tensor, score: Callable[[Tensor], Tensor]) -> CamMaps | None:
    """Return the Grad-CAM of images (Selvaraju et al., arXiv 1610.02391).

    `L = ReLU(sum_c a_c A_c)` with A the map (C, h, w) of a node and a_c the mean over h and w of the gradient
    of the label's score with respect to A_c. The node is the last stage or block whose map has at least 3 x 3
    cells and on which the score depends: behind the last attention of a vision transformer only the class
    token counts. Tokens are read as maps by `edgeproof_train.taps`.

    Args:
        student: stays as it is.
        images: (N, 3, H, W), normalised.
        score: from embeddings (N, D) to the score of one label for each image, (N,).

    Returns:
        None where no node has such a map.
    """
    network = unwrapped(student.module())
    with evaluated(student), torch.enable_grad(), recorded(network) as found:
        # A gradient is wanted even where all weights are frozen.
        total = score(student(images.detach().requires_grad_(True)).embedding).sum()
        nodes = list(reversed(found))
        gradients = torch.autograd.grad(total, [found[node] for node in nodes], allow_unused=True)
        for node, gradient in zip(nodes, gradients, strict=True):
            maps = None if gradient is None else cam_of(network, node, found[node], gradient)
            if maps is not None:
                return CamMaps(node, maps)
    return None


def cam_of(network: nn.Module, node: str, value: Tensor, gradient: Tensor) -> np.ndarray | None:
    """Return the weighted sum over the channels of a node's map (N, h, w); None if it is no usable map."""
    layout = layout_around(network, node)
    try:
        values, slopes = as_map(node, value.detach(), layout), as_map(node, gradient, layout)
    except UsageError:
        return None
    if len(values) != len(gradient) or min(values.shape[2:]) < COARSEST or not slopes.any():
        return None
    weights = slopes.float().mean(dim=(2, 3), keepdim=True)
    maps = (weights * values.float()).sum(dim=1).clamp_min(0)
    strongest = maps.amax(dim=(1, 2), keepdim=True)
    return (maps / torch.where(strongest > 0, strongest, 1)).cpu().numpy()


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keep inside the block what stages and blocks give, by name, in the order in which they last ran."""
    found: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, given: Any, output: Any) -> None:
            tensor = first_tensor(output)
            found.pop(name, None)
            if tensor is not None and tensor.requires_grad and tensor.ndim in (3, 4):
                found[name] = tensor

        return keep

    named = [(name, part) for name, part in network.named_modules() if 0 < len(name.split(".")) <= DEPTH]
    hooks = [part.register_forward_hook(keeper(name)) for name, part in named if name]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluated(student: Student) -> Iterator[None]:
    """Evaluate inside the block."""
    was_training = student.training
    student.eval()
    try:
        yield
    finally:
        student.train(was_training)


def overlay(image: Tensor, heat: np.ndarray, preprocess: Preprocess) -> str:
    """Return what the student saw, in grey, under the heat in colour, as a small JPEG in base64.

    Args:
        image: (3, H, W), normalised.
        heat: (h, w) from 0 to 1.
        preprocess: how it was normalised.
    """
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = ((image.cpu().numpy() * std + mean).clip(0, 1) * 255).round().astype(np.uint8)
    seen = Image.fromarray(pixels.transpose(1, 2, 0)).convert("L")
    grey = np.asarray(seen.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC), np.float64)[..., None]
    wide = Image.fromarray(heat.astype(np.float32)).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    shares = np.asarray(wide, np.float64).clip(0, 1)
    places = np.linspace(0, 1, len(WARM))
    colours = np.stack([np.interp(shares, places, WARM[:, channel]) for channel in range(3)], axis=-1)
    blended = grey + OPACITY * shares[..., None] * (colours - grey)
    stream = io.BytesIO()
    Image.fromarray(blended.round().astype(np.uint8)).save(stream, "JPEG", quality=82)
    return base64.b64encode(stream.getvalue()).decode()
