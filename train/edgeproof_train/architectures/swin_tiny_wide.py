"""Swin-T (arXiv 2103.14030) as wide as Swin-B: its 1024 features fit the classifier of a Swin-B teacher.

Without the classifier it has 48,899,740 parameters at 384 pixels.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.swin_transformer import SwinTransformer

WIDE_TINY: dict[str, Any] = {
    "patch_size": 4,
    "window_size": 12,
    "embed_dim": 128,
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 8, 16),
}
default_cfgs = generate_default_cfgs(
    {
        "swin_tiny_wide": {
            "input_size": (3, 384, 384),
            "pool_size": (12, 12),
            "fixed_input_size": True,
            "num_classes": 1000,
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "patch_embed.proj",
            "classifier": "head.fc",
        }
    }
)


@register_model
def swin_tiny_wide(pretrained: bool = False, **kwargs: Any) -> SwinTransformer:
    """Swin-T of 128 to 1024 channels with windows of 12 x 12."""
    settings = {**WIDE_TINY, **kwargs}
    return build_model_with_cfg(SwinTransformer, "swin_tiny_wide", pretrained, **settings)
