"""Published sets of strong changes, drawn and made by torchvision v2's own classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.transforms.v2 import AugMix, AutoAugment, InterpolationMode, RandAugment, TrivialAugmentWide

from edgeproof_configs.schema import AugmentConfig

DRAWN_WITH = frozenset(getattr(torch, name) for name in ("rand", "randint", "_sample_dirichlet"))
"""Functions that torchvision's policies draw with."""


class Policy:
    """One policy of a recipe, as a function of an image and one random number.

    AutoAugment (arXiv:1805.09501, the ImageNet policy), RandAugment (arXiv:1909.13719), TrivialAugment Wide
    (arXiv:2103.10158) and AugMix (arXiv:1912.02781).

    torchvision's classes draw from torch's default generator. That one belongs to the whole process: in the
    loader's threads its numbers would depend on which thread comes first, and taking any would change the
    dropout of the step that is running. Here their draws are led to a generator of the image's own instead,
    by a function mode, which holds for the calling thread alone. The result is to the bit what the class
    gives after `torch.manual_seed`, whatever other threads do.

    Args:
        config: with a policy.
        fill: colour of pixels that a shift or a rotation uncovers, 0 to 255.
    """

    def __init__(self, config: AugmentConfig, fill: list[float]):
        self.change = make_policy(config, fill)

    def __call__(self, image: Tensor, draw: float) -> Tensor:
        """Return a changed image.

        Args:
            image: uint8 (3, H, W).
            draw: in [0, 1), decides everything.
        """
        generator = torch.Generator().manual_seed(seed_of(draw))
        with DrawingFrom(generator):
            return self.change(image)


class DrawingFrom(TorchFunctionMode):
    """Within this, in this thread, random numbers come from a given generator."""

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWN_WITH:
            return func(*args, **(kwargs or {}), generator=self.generator)
        return func(*args, **(kwargs or {}))


def make_policy(config: AugmentConfig, fill: list[float]) -> nn.Module:
    """Return torchvision's policy; settings that the recipe leaves out are torchvision's defaults."""
    common: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "fill": fill}
    if config.policy == "auto_augment":
        return AutoAugment(**common)
    if config.policy == "trivial_augment":
        return TrivialAugmentWide(**common)
    if config.policy == "aug_mix":
        return AugMix(**common | given(severity=config.policy_magnitude))
    if config.policy == "rand_augment":
        return RandAugment(
            **common | given(magnitude=config.policy_magnitude, num_ops=config.policy_operations)
        )
    raise ValueError("the recipe has no policy")


def given(**settings: int | None) -> dict[str, Any]:
    """Return the settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def seed_of(draw: float) -> int:
    """Return the 53 random bits of a number in [0, 1)."""
    return int(draw * 2**53)
