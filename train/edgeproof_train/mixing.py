"""Mixing the images of a batch with each other: mixup and CutMix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgeproof_configs.schema import MixConfig
from edgeproof_train.outputs import Mix

if TYPE_CHECKING:
    from edgeproof_data.loader import Batch


def mixed(batch: Batch, config: MixConfig, generator: torch.Generator) -> tuple[Tensor, Mix]:
    """Return the images of a batch, each mixed with the one before it, and how.

    mixup (Zhang et al., arXiv:1710.09412): x = share * own + (1 - share) * partner. CutMix (Yun et al.,
    arXiv:1905.04899): a box of the partner covers the own image, and the share is the area left free. One
    share holds for the whole batch, and teacher and student are meant to see the same mixed images
    (arXiv:2106.05237). The first image's partner is the last one; a loader has shuffled them.

    Under several processes each one mixes among its own images, with draws of its own. A step then has as
    many shares as there are processes, and is not to the number what one process with a batch as large does:
    for that, every image would have to be sent to another process first.

    Args:
        batch: normalised images (B, 3, H, W) and labels, on their device.
        config: how to mix.
        generator: decides everything; on the CPU, so that nothing has to wait for the device.
    """
    image, label = batch["image"], batch["label"]
    happens, kind, *centre = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    if happens >= config.probability:
        return image, Mix(label, torch.ones(len(image), device=image.device))
    partner = image.roll(1, dims=0)
    if config.cutmix and (not config.mixup or kind < 0.5):
        image, share = pasted(image, partner, drawn_share(config.cutmix, generator), centre)
    else:
        share = drawn_share(config.mixup, generator)
        image = partner.lerp(image, share)
    return image, Mix(label.roll(1), torch.full((len(image),), share, device=image.device))


def pasted(image: Tensor, partner: Tensor, share: float, centre: list[float]) -> tuple[Tensor, float]:
    """Return images (B, 3, H, W) with a box of their partners, and the share of the area left their own."""
    height, width = image.shape[-2:]
    top, bottom, left, right = cut_box(height, width, share, centre)
    image = image.clone()
    image[..., top:bottom, left:right] = partner[..., top:bottom, left:right]
    return image, 1 - (bottom - top) * (right - left) / (height * width)


def cut_box(height: int, width: int, share: float, centre: list[float]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a box with the image's aspect.

    Its sides are sqrt(1 - share) of the image's; what lies outside of the image is cut off, so the box may
    cover less than 1 - share of it.

    Args:
        height: of the image.
        width: of the image.
        share: in [0, 1], what the box would leave free if all of it were inside.
        centre: of the box, y and x in [0, 1).
    """
    part = math.sqrt(1 - share)
    spans = []
    for side, middle in zip((height, width), centre, strict=True):
        length = round(part * side)
        start = int(middle * side) - length // 2
        spans += [max(start, 0), min(start + length, side)]
    top, bottom, left, right = spans
    return top, bottom, left, right


def drawn_share(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha).

    torch's own Beta distribution draws from the default generator only; numpy's takes a seed.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
