"""The parts of a student that SimKD ships beside its backbone: a projector and the teacher's classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeproof_configs.errors import UsageError
from edgeproof_train.feature_loss import pooled_to
from edgeproof_train.taps import Taps, in_eval_mode, node_shapes, unwrapped

LARGEST_DIFFERENCE = 1e-3
PROJECTED = "head.projector"
"""Name among a student's features of its map after the projector."""


class Projector(nn.Module):
    """From the student's map to the teacher's (arXiv 2203.14001): 1x1, 3x3 and 1x1 convolutions.

    Each is followed by batch norm and ReLU; the first two have `factor` times fewer channels than the last. A
    student's map larger than `size` is averaged down to it first, in the exported student as well.

    Args:
        inputs: C of the student's map.
        channels: C of the teacher's map.
        size: height and width of the result, at most those of the student's map.
        factor: divides `channels`.
        last_relu: whether the result is at least 0.
    """

    def __init__(
        self, inputs: int, channels: int, size: tuple[int, int], factor: int = 2, last_relu: bool = True
    ):
        super().__init__()
        self.channels = channels
        self.size = size
        narrow = channels // factor
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, narrow, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
            *(nn.Conv2d(narrow, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
            *(nn.Conv2d(narrow, channels, 1, bias=False), nn.BatchNorm2d(channels)),
            nn.ReLU() if last_relu else nn.Identity(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return maps (B, channels, *size) of the student's maps (B, inputs, H, W)."""
        return self.layers(pooled_to(features, self.size))


class ReusedHead(nn.Module):
    """From the student's map (B, C, H, W) to class scores (B, K) through the teacher's classifier."""

    def __init__(self, projector: Projector, classifier: nn.Linear):
        super().__init__()
        self.projector = projector
        self.classifier = classifier

    def card(self) -> dict[str, Any]:
        """Return the shapes, from which `from_card` makes the same modules with other weights."""
        first, *_, last = self.projector.layers
        assert isinstance(first, nn.Conv2d)
        return {
            "inputs": first.in_channels,
            "channels": self.projector.channels,
            "size": list(self.projector.size),
            "factor": self.projector.channels // first.out_channels,
            "last_relu": isinstance(last, nn.ReLU),
            "classes": self.classifier.out_features,
        }

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> ReusedHead:
        """Return a head of the card's shapes with random weights."""
        height, width = card["size"]
        shape = card["inputs"], card["channels"], (height, width), card["factor"], card["last_relu"]
        return cls(Projector(*shape), nn.Linear(card["channels"], card["classes"]))

    def forward(self, features: Tensor) -> Tensor:
        """Return `W_t mean(P(F_s)) + b_t`."""
        return self.scores(self.projector(features))

    def scores(self, projected: Tensor) -> Tensor:
        """Return the class scores (B, K) of maps that the projector gave."""
        return self.classifier(projected.mean(dim=(2, 3)))


def check_reusable(
    network: nn.Module,
    node: str,
    classifier: nn.Linear,
    image: Tensor,
    last_relu: bool = True,
    scores: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Refuse a teacher's node from which its classifier cannot give the teacher's own class scores.

    That is so where something lies between: a norm after the pooling, a class token that is read in place of
    the mean, or another layer. A projector that ends in a ReLU cannot give a map with values below 0 either.

    Args:
        network: the teacher's.
        node: whose map is the target.
        classifier: the teacher's.
        image: (1, 3, S, S) of noise, on the network's device.
        last_relu: how the projector ends.
        scores: from images to the teacher's class scores, by way of the network; the network itself if None.

    Raises:
        UsageError: the scores differ by more than a thousandth of the largest, or the signs cannot be met.
    """
    node_shapes(network, [node], image)
    network = unwrapped(network)
    taps = Taps(network, [node])
    try:
        with torch.no_grad(), in_eval_mode(network):
            own = (scores or network)(image)
            target = taps.taken()[node]
            ours = classifier(target.mean(dim=(2, 3)))
    finally:
        taps.remove()
    if own.shape != ours.shape or (own - ours).abs().max() > LARGEST_DIFFERENCE * own.abs().max():
        raise UsageError(
            f"simkd: the teacher's class scores are not its classifier on the mean of '{node}'",
            where="losses",
            fix="name the teacher's last map before the pooling, or choose a convolutional teacher",
        )
    if last_relu and target.min() < 0:
        raise UsageError(
            f"simkd: the teacher's '{node}' has values below 0, which no projector with a last ReLU gives",
            where="losses",
            fix="set last_relu: false",
        )
