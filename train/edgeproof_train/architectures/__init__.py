"""Networks that timm does not have. Importing this package registers those for single images with timm."""

from edgeproof_train.architectures import cifar_resnet, resnet12_wide, swin_tiny_wide

__all__ = ["cifar_resnet", "resnet12_wide", "swin_tiny_wide"]
