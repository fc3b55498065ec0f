"""The first stages of a network with the weights of the whole: smaller without training from nothing."""

from __future__ import annotations

from typing import Any

from timm.models.efficientnet import EfficientNet
from torch import nn

from edgeproof_configs.errors import UsageError

WHERE = "student.stages"


def keep_first(backbone: nn.Module, stages: int, model: str) -> nn.Module:
    """Return a backbone that pools the map of one of its stages; what stands behind that is taken out.

    Args:
        backbone: of timm's EfficientNet family, MobileNetV2 and MNASNet among it, without a classifier.
        stages: how many of its `blocks` stay.
        model: timm's name of it.

    Raises:
        UsageError: it is of another family, or has no more stages than that.
    """
    if not isinstance(backbone, EfficientNet):
        raise UsageError(
            f"'{model}' cannot be cut after a stage",
            where=WHERE,
            fix="remove it, or use a network of timm's EfficientNet family, such as mobilenetv2_100",
        )
    whole = len(backbone.blocks)
    if stages >= whole:
        raise UsageError(
            f"'{model}' has {whole} stages: keeping {stages} of them changes nothing",
            where=WHERE,
            fix=f"set it to {whole - 1} or less, or remove it",
        )
    # The way in which timm takes off what comes behind a feature map.
    last: Any = backbone.blocks[stages - 1]
    backbone.blocks = backbone.blocks[:stages]
    backbone.conv_head, backbone.bn2 = nn.Identity(), nn.Identity()
    backbone.num_features = backbone.head_hidden_size = last[-1].feature_info("bottleneck")["num_chs"]
    return backbone
