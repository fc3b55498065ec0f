"""ResNet-12 as few-shot learning uses it (arXiv 1904.03758), with a stem for large photos and 1024 features.

A 5 x 5 convolution of stride 2, then four blocks of 128, 256, 512 and 1024 channels that each halve the side:
384 pixels become a 12 x 12 map. Without the classifier it has 32,051,008 parameters.
"""

from __future__ import annotations

from typing import Any, ClassVar

from timm.layers.drop import DropBlock2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from edgeproof_train.architectures.network import Network, start_convolutions

STEM = 64
CHANNELS = (128, 256, 512, 1024)
CLASSES = 1000
SLOPE = 0.1
default_cfgs = generate_default_cfgs(
    {
        "resnet12_wide": {
            "input_size": (3, 384, 384),
            "pool_size": (12, 12),
            "num_classes": CLASSES,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "stem.0",
            "classifier": "fc",
        }
    }
)


class Block(nn.Module):
    """Three 3 x 3 convolutions, a 1 x 1 convolution as shortcut, and max-pooling after their sum."""

    def __init__(self, inputs: int, channels: int, drop: nn.Module):
        super().__init__()
        self.convolutions = nn.Sequential(
            *convolution(inputs, channels, 3),
            nn.LeakyReLU(SLOPE, inplace=True),
            *convolution(channels, channels, 3),
            nn.LeakyReLU(SLOPE, inplace=True),
            *convolution(channels, channels, 3),
        )
        self.shortcut = nn.Sequential(*convolution(inputs, channels, 1))
        self.end = nn.Sequential(nn.LeakyReLU(SLOPE, inplace=True), nn.MaxPool2d(2))
        self.drop = drop

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, `channels`, H // 2, W // 2)."""
        return self.drop(self.end(self.convolutions(maps) + self.shortcut(maps)))


class ResNet12Wide(Network):
    """Four wide blocks. They, which feature losses may name, are `layer1` to `layer4`.

    Args:
        num_classes: of the classifier; 0 for none.
        in_chans: channels of the image.
        global_pool: how maps become features.
        drop_rate: share of the values that training drops behind `layer1` and `layer2`.
        drop_block_rate: share of the area that training drops behind `layer3` and `layer4` (1810.12890).
        drop_block_size: side of the squares that are dropped, in pixels of these maps.
    """

    classifier_name: ClassVar[str] = "fc"

    def __init__(
        self,
        num_classes: int = CLASSES,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.1,
        drop_block_rate: float = 0.1,
        drop_block_size: int = 5,
    ):
        super().__init__(CHANNELS[-1], num_classes, global_pool)
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, STEM, 5, 2, 2, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)
        )
        self.layer1 = Block(STEM, CHANNELS[0], nn.Dropout(drop_rate))
        self.layer2 = Block(CHANNELS[0], CHANNELS[1], nn.Dropout(drop_rate))
        self.layer3 = Block(CHANNELS[1], CHANNELS[2], DropBlock2d(drop_block_rate, drop_block_size))
        self.layer4 = Block(CHANNELS[2], CHANNELS[3], DropBlock2d(drop_block_rate, drop_block_size))
        start_convolutions(self, SLOPE)

    def forward_features(self, image: Tensor) -> Tensor:
        """Return maps (B, 1024, H / 32, W / 32) of images (B, C, H, W)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(image)))))


def convolution(inputs: int, channels: int, side: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a convolution that keeps the size of its maps, and the batch norm behind it."""
    made = nn.Conv2d(inputs, channels, side, padding=side // 2, bias=False)
    return made, nn.BatchNorm2d(channels)


@register_model
def resnet12_wide(pretrained: bool = False, **kwargs: Any) -> ResNet12Wide:
    """ResNet-12 of 128, 256, 512 and 1024 channels."""
    return build_model_with_cfg(ResNet12Wide, "resnet12_wide", pretrained, **kwargs)
