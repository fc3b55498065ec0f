"""A running average of everything that is trained, to evaluate and ship in place of the last weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LARGEST_DECAY = 0.9999
RAMP_STEPS = 2000


class Ema:
    """`average <- d average + (1 - d) weights` after each optimizer step; buffers are copied.

    Holds the student and the trainable parts of the losses. Without a decay of its own, `d = 0.9999 (1 -
    exp(-step / 2000))`, which suits runs of many thousand steps. A given decay is reached within its own
    memory, `d = min(decay, (1 + step) / (10 + step))`, so that it also serves runs of a few hundred.

    Args:
        module: what is averaged.
        decay: the largest d; None for the rule above.
    """

    def __init__(self, module: nn.Module, decay: float | None = None):
        self.module = module
        self.decay = decay
        self._trained = {name for name, _ in module.named_parameters()}
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def decay_at(self, step: int) -> float:
        """Return d after the given number of optimizer steps, 1 and more."""
        if self.decay is None:
            return LARGEST_DECAY * (1 - math.exp(-step / RAMP_STEPS))
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after optimizer step number `step`, counted from 1."""
        own, new = self._pairs(trained=True)
        torch._foreach_lerp_(own, new, 1 - self.decay_at(step))  # pyright: ignore[reportPrivateImportUsage]
        for mine, theirs in zip(*self._pairs(trained=False), strict=True):
            mine.copy_(theirs)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average into the module, in place, and the weights back when the block ends."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Take the average of a checkpoint."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self.module.state_dict().items():
            kept = value.detach().clone()
            value.copy_(self.average[name])
            self.average[name].copy_(kept)

    def _pairs(self, trained: bool) -> tuple[list[Tensor], list[Tensor]]:
        chosen = [
            (self.average[name], value)
            for name, value in self.module.state_dict().items()
            if (name in self._trained) == trained
        ]
        return [mine for mine, _ in chosen], [theirs for _, theirs in chosen]
