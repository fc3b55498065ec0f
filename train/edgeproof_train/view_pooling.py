"""One value for an object from those of its views, after a whole encoder or in the middle of it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.models import register_notrace_function
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError

PoolingKind = Literal["max", "mean", "attention"]


class ViewPool(nn.Module):
    """Pools the values of V views, in any order, to one.

    `max` takes the largest (MVCNN, arXiv 1505.00880), `mean` the mean. `attention` takes a mean in which view
    v counts by `softmax_v(w tanh(U x_v))` of its features x (arXiv 1802.04712); it begins as the mean.

    Args:
        kind: one of the three.
        width: C, of the features; attention alone needs it.
        channel_axis: where a single view's value (N, ...) has its channels.
        rank: how many axes that value has; features are its means over all axes but these two.
    """

    def __init__(self, kind: PoolingKind, width: int, channel_axis: int = 1, rank: int = 2):
        super().__init__()
        self.kind = kind
        self.channel_axis = channel_axis
        self.rank = rank
        if kind == "attention":
            hidden = max(width // 4, 1)
            self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
            for part in (self.score[2].weight, self.score[2].bias):
                nn.init.zeros_(part)  # pyright: ignore[reportArgumentType]

    def forward(
        self, views: Tensor, features_BVC: Tensor | None = None, present_BV: Tensor | None = None
    ) -> Tensor:
        """Return (B, ...) of views (B, V, ...).

        Args:
            views: V values of each object.
            features_BVC: what attention weighs the views by, if it is not their own values.
            present_BV: bool, False for views that only fill up an object's row; each object has at least one.
        """
        if self.kind == "max":
            if present_BV is not None:
                absent = ~present_BV.reshape(*present_BV.shape, *[1] * (views.ndim - 2))
                views = views.masked_fill(absent, float("-inf"))
            return views.amax(dim=1)
        if self.kind == "mean" and present_BV is None:
            return views.mean(dim=1)
        weights = self._weights(views, features_BVC, present_BV)
        return torch.einsum("bv,bv...->b...", weights, views)

    def _weights(self, views: Tensor, features_BVC: Tensor | None, present_BV: Tensor | None) -> Tensor:
        """Return how much each view counts (B, V), with a sum of 1 for each object."""
        if self.kind == "mean":
            assert present_BV is not None
            return F.normalize(present_BV.to(views.dtype), p=1, dim=1)
        features = self._described(views) if features_BVC is None else features_BVC
        scores = self.score(features).flatten(1)
        if present_BV is not None:
            scores = scores.masked_fill(~present_BV, float("-inf"))
        return scores.softmax(dim=1)

    def _described(self, views: Tensor) -> Tensor:
        """Return the mean of each view's value over all places (B, V, C)."""
        channels_last = views.movedim(self.channel_axis + 1, -1)
        return channels_last if self.rank == 2 else channels_last.flatten(2, -2).mean(dim=2)


class NodePooling:
    """A hook that pools what a module gives over the views of each object; the rest sees one value an object.

    Args:
        pool: what pools.

    Attributes:
        shape: (B, V) of the batch that is on its way; None where every image is an object.
    """

    def __init__(self, pool: ViewPool):
        self.pool = pool
        self.shape: tuple[int, int] | None = None

    def __call__(self, module: nn.Module, given: Any, made: Tensor) -> Tensor:
        """Return (B, ...) of what the module made for B V views."""
        views = made.unflatten(0, (-1, 1) if self.shape is None else self.shape)
        return self.pool(views)


def pooling_node(network: nn.Module, name: str, known: str) -> nn.Module:
    """Return the module after which views are pooled.

    Raises:
        UsageError: there is no such module, or it is a single layer.
    """
    modules = dict(network.named_modules())
    if name not in modules or not name:
        raise UsageError(
            f"the network has no node '{name}'", where="student.pool_at", fix=f"features, or one of {known}"
        )
    if not list(modules[name].children()):
        raise UsageError(
            f"'{name}' is a single layer, and views are pooled after a block or stage",
            where="student.pool_at",
            fix=f"features, or one of {known}",
        )
    return modules[name]


@register_notrace_function
def as_views(image: Tensor) -> Tensor:
    """Return views (B, V, 3, H, W); images (B, 3, H, W) are objects with one view each.

    A graph of operations keeps it whole: which of the two it is given is decided when it runs.
    """
    return image.unsqueeze(1) if image.ndim == 4 else image
