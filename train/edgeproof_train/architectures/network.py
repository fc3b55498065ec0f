"""What timm expects of a convolutional network: maps, pooling and a classifier that can be taken off."""

from __future__ import annotations

from typing import ClassVar

from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn


class Network(nn.Module):
    """Base of the convolutional networks: a subclass makes maps, this pools and classifies them.

    Attributes:
        classifier_name: of the linear layer in the state dict.
        num_features: channels of the last maps, and width of the pooled features.
        num_classes: 0 where there is no classifier.
    """

    classifier_name: ClassVar[str]

    def __init__(self, num_features: int, num_classes: int, global_pool: str, drop_rate: float = 0.0):
        super().__init__()
        self.num_features = self.head_hidden_size = num_features
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=True)
        self.head_drop = nn.Dropout(drop_rate)
        self._set_classifier(num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return class scores (B, K) of images (B, C, H, W); pooled features (B, F) without a classifier."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the last maps (B, F, H, W)."""
        raise NotImplementedError

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Return class scores (B, K) of maps, or with `pre_logits` their pooled features (B, F)."""
        features = self.head_drop(self.global_pool(maps))
        return features if pre_logits else self.get_classifier()(features)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer, or an identity where there is none."""
        return getattr(self, self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Set a new classifier, and another pooling if one is named; 0 classes take the classifier off."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=True)
        self._set_classifier(num_classes)

    def _set_classifier(self, num_classes: int) -> None:
        made = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        setattr(self, self.classifier_name, made)


def start_convolutions(network: nn.Module, slope: float = 0.0) -> None:
    """Draw all convolutions from He's normal distribution (arXiv 1502.01852).

    Args:
        network: the model.
        slope: of the rectifiers for negative values.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, a=slope, nonlinearity="leaky_relu")
