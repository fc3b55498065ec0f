"""The residual networks for 32 x 32 images of He et al. (arXiv 1512.03385, section 4.2).

Three stages of 16, 32 and 64 channels with n blocks each: ResNet-(6n + 2). Where a stage begins with half the
side and twice the channels, the shortcut takes every second pixel and fills up with zero channels ("option
A"): it has no parameters. The names of the tensors are those of the widely used CIFAR-10 checkpoints.
"""

from __future__ import annotations

from typing import Any, ClassVar

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_train.architectures.network import Network, start_convolutions

CHANNELS = (16, 32, 64)
CLASSES = 10
SETTINGS: dict[str, Any] = {
    "input_size": (3, 32, 32),
    "pool_size": (8, 8),
    "num_classes": CLASSES,
    "crop_pct": 1.0,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "conv1",
    "classifier": "linear",
}
default_cfgs = generate_default_cfgs({f"cifar_resnet{6 * n + 2}": dict(SETTINGS) for n in (1, 3, 9)})


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.channels = channels
        self.shrinks = stride != 1
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, `channels`, H / stride, W / stride)."""
        found = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(found + (halved(maps, self.channels) if self.shrinks else maps))


class CifarResNet(Network):
    """ResNet-(6n + 2). The stages, which feature losses may name, are `layer1` to `layer3`.

    Args:
        blocks: n, in each stage.
        num_classes: of the classifier; 0 for none.
        in_chans: channels of the image.
        global_pool: how maps become features.
        drop_rate: share of the pooled features that training drops.
    """

    classifier_name: ClassVar[str] = "linear"

    def __init__(
        self,
        blocks: int,
        num_classes: int = CLASSES,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ):
        super().__init__(CHANNELS[-1], num_classes, global_pool, drop_rate)
        self.conv1 = nn.Conv2d(in_chans, CHANNELS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.layer1 = stage(CHANNELS[0], CHANNELS[0], blocks)
        self.layer2 = stage(CHANNELS[0], CHANNELS[1], blocks)
        self.layer3 = stage(CHANNELS[1], CHANNELS[2], blocks)
        start_convolutions(self)

    def forward_features(self, image: Tensor) -> Tensor:
        """Return maps (B, 64, H / 4, W / 4) of images (B, C, H, W)."""
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(image))))))


def halved(maps: Tensor, channels: int) -> Tensor:
    """Return every second pixel of maps (B, C, H, W), with zero channels on both sides up to `channels`."""
    missing = channels - maps.shape[1]
    before = missing // 2
    return F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, before, missing - before))


def stage(inputs: int, channels: int, blocks: int) -> nn.Sequential:
    """Return blocks, the first of which halves the side if it changes the number of channels."""
    first = Block(inputs, channels, 1 if inputs == channels else 2)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))


@register_model
def cifar_resnet8(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-8, n = 1."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet8", pretrained, blocks=1, **kwargs)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20, n = 3."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet20", pretrained, blocks=3, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56, n = 9."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet56", pretrained, blocks=9, **kwargs)
