"""Which part of a frozen network is its feature, and how a wide one becomes narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.taps import Layout, has_channels_last

FeatureKind = Literal["pooled", "cls", "pre_norm", "tokens_mean", "flattened"]
WHERE = "teacher.feature"
OTHER = "set teacher.feature: pooled, or take another model"


class FrozenFeature:
    """Reads one part of a timm network.

    `pooled` is what stands before the classifier. `cls` is the class token and `tokens_mean` the mean of all
    patches' tokens, or places of the map, both behind the last norm. `pre_norm` is pooled as the network
    does, from what its last norm is given. `flattened` is all tokens or places in one row.

    Args:
        model: frozen, of timm.
        kind: which part.

    Raises:
        UsageError: the network has no such part.
    """

    def __init__(self, model: Any, kind: FeatureKind):
        self.model = model
        self.kind = kind
        self.prefix = int(getattr(model, "num_prefix_tokens", 0) or 0)
        self.layout = Layout(channels_last=getattr(model, "output_fmt", None) == "NHWC")
        self._given: list[Tensor] = []
        if kind == "cls" and not getattr(model, "num_prefix_tokens", 0):
            raise UsageError("this network has no class token", where=WHERE, fix=OTHER)
        if kind == "pre_norm":
            last_norm(model).register_forward_pre_hook(lambda module, given: self._given.append(given[0]))

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Return features (B, F)."""
        return self.of(*self.run(image_BCHW))

    def run(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled features (B, F), and the tokens (B, N, C) or map that the feature is made of."""
        self._given.clear()
        maps = self.model.forward_features(image_BCHW)
        pooled = self.model.forward_head(maps, pre_logits=True)
        seen = self._given[0] if self.kind == "pre_norm" else maps
        self._given.clear()
        return pooled, seen

    def of(self, pooled: Tensor, seen: Tensor) -> Tensor:
        """Return the feature (B, F) of what `run` gave."""
        if self.kind == "pooled":
            return pooled
        if self.kind == "cls":
            return seen[:, 0]
        if self.kind == "flattened":
            return self.local(seen).flatten(1)
        if self.kind == "pre_norm" and seen.ndim == 2:
            return seen
        if self.kind == "pre_norm" and seen.ndim == 3:
            return self.model.pool(seen) if hasattr(self.model, "pool") else seen.mean(dim=1)
        return self.local(seen).mean(dim=1)

    def local(self, seen: Tensor) -> Tensor:
        """Return a token for each place (B, P, C), row by row, without class and register tokens."""
        if seen.ndim == 3:
            return seen[:, self.prefix :]
        if seen.ndim != 4:
            raise UsageError(
                f"the network gives {tuple(seen.shape)}: neither tokens nor a map", where=WHERE, fix=OTHER
            )
        return seen.flatten(1, 2) if has_channels_last(seen, self.layout) else seen.flatten(2).transpose(1, 2)

    def shapes(self, side: int, device: torch.device) -> tuple[int, tuple[int, int] | None]:
        """Return F, and (P, C) of the local tokens; None where there are none that are known of."""
        if self.kind == "pooled":
            patches = getattr(getattr(self.model, "patch_embed", None), "num_patches", None)
            width, counted = int(self.model.head_hidden_size), hasattr(self.model, "num_prefix_tokens")
            return width, (int(patches), int(self.model.num_features)) if counted and patches else None
        with torch.no_grad():
            pooled, seen = self.run(torch.zeros(1, 3, side, side, device=device))
            width = self.of(pooled, seen).shape[1]
            local = self.local(seen).shape[1:] if seen.ndim in (3, 4) else None
        return width, None if local is None else (int(local[0]), int(local[1]))


def last_norm(model: Any) -> nn.Module:
    """Return the norm behind the last block of a transformer of timm.

    Raises:
        UsageError: there is none by the names that timm has for it.
    """
    neck = getattr(model, "neck", None)
    named = [getattr(model, name, None) for name in ("norm", "fc_norm")]
    named.append(neck[-1] if isinstance(neck, nn.Sequential) and len(neck) else None)
    for found in named:
        if isinstance(found, nn.Module) and not isinstance(found, nn.Identity):
            return found
    raise UsageError("this network has no norm behind its last block", where=WHERE, fix=OTHER)


class Reduction(nn.Module):
    """`y = (x - mean) R` of features x (B, F): R (F, D) are principal axes, or random directions.

    Args:
        mean: (F,).
        directions: R.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Tensor, directions: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)

    @classmethod
    def random(cls, width: int, dim: int, seed: int = 0) -> Reduction:
        """Return `R ~ N(0, 1 / D)`, which keeps distances on average (Johnson and Lindenstrauss, 1984)."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(width, dim, generator=generator) / dim**0.5
        return cls(torch.zeros(width), drawn)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Reduction:
        """Return the one whose tensors these are."""
        return cls(state["mean"], state["directions"])

    def forward(self, features_BF: Tensor) -> Tensor:
        """Return (B, D)."""
        return (features_BF - self.mean) @ self.directions


def principal_axes(features_NF: Tensor, dim: int) -> tuple[Reduction, float]:
    """Return the first principal axes of features, and what share of their variance these keep.

    They come from the eigenvectors, in float64, of the covariance, or of the N x N Gram matrix where F is
    above N. Of each axis the largest entry is positive, so that the same features give the same axes.

    Args:
        features_NF: float32.
        dim: D, below N.

    Raises:
        UsageError: there are too few features, or they vary along fewer axes.
    """
    count, width = features_NF.shape
    if dim > width:
        raise UsageError(
            f"{dim} principal axes of features of {width} values",
            where="teacher.pca",
            fix=f"set it to {width} or less",
        )
    if dim >= count:
        raise UsageError(
            f"{dim} principal axes need more than {dim} training images, and there are {count}",
            where="teacher.pca",
            fix=f"set it to {count - 1} or less, or use teacher.projection",
        )
    mean = features_NF.mean(dim=0)
    centred = features_NF - mean
    wide = width > count
    rows = centred if wide else centred.T
    products = torch.cat([(block @ rows.T).double() for block in rows.split(256)])
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
    total = float(products.trace())
    if not float(values[-1]) > 1e-9 * total:
        raise UsageError(
            f"the features of {count} images do not vary along {dim} axes",
            where="teacher.pca",
            fix="set it to fewer",
        )
    axes = (centred.T @ vectors.float()) / values.sqrt().float() if wide else vectors.float()
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return Reduction(mean, axes * largest.sign()), float(values.sum() / total)


def rows_within(width: int, wanted: int, bytes_at_most: int) -> int:
    """Return how many rows of so many float32 fit into some memory, at most as many as are wanted."""
    return min(wanted, max(bytes_at_most // (4 * width), 1))


def collected(batches: Iterator[Tensor], feature: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the features (N, F) of batches of images, float32, on the CPU."""
    with torch.no_grad():
        return torch.cat([feature(image).float().cpu() for image in batches])
