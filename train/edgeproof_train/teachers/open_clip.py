"""Image and text towers of open_clip (github.com/mlfoundations/open_clip): CLIP (arXiv 2103.00020) and kin.

Weights are safetensors only. They come by name (`model: ViT-B-32`, `pretrained: laion2b_s34b_b79k`), from a
file (`pretrained: /path/to/model.safetensors`), or from a folder or a `hf-hub:owner/name` repository that has
`open_clip_config.json` beside its weights (`model: /path/to/folder`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from edgeproof_configs import schema
from edgeproof_configs.files import digest_of
from edgeproof_configs.registry import register
from edgeproof_train.preprocessing import PreprocessOverride, square_side, teacher_preprocess
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen
from edgeproof_train.text_tower import TextOnly, TextTower
from edgeproof_train.weights import weights_digest


@register("teacher")
class OpenClipTeacher(Teacher):
    """A two-tower model of open_clip, frozen, in float32."""

    class Config(schema.TeacherConfig):
        """`model`: a name, a folder or `hf-hub:owner/name`. `pretrained`: a tag or a safetensors file."""

        kind: Literal["open_clip"] = "open_clip"
        model: str
        pretrained: str | None = None
        preprocess: PreprocessOverride = PreprocessOverride()

    has_text = True
    ships_text = True

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        # open_clip takes seconds to import: that is for those who have this teacher, not for all who list it.
        from edgeproof_train.open_clip_source import architecture_of, find_source, load_model

        told = config.preprocess != PreprocessOverride()
        source = find_source(config.model, config.pretrained, places.data_root, told)
        self.name = source.name
        self.architecture = architecture_of(source.name)
        self.model: Any = frozen(load_model(source.name, self.architecture, source.weights), self.device)
        self.embedding_dim = int(self.architecture["embed_dim"])
        self.logit_scale = float(self.model.logit_scale.exp())
        side = square_side(self.model.visual.image_size, source.name)
        found = {**source.preprocess, "image_size": side, "resize_size": side}
        self.preprocess = teacher_preprocess(found, config.preprocess, source.name)
        patches = patch_count(self.model.visual)
        self.token_shape = None if patches is None else (1 + patches, self.embedding_dim)

    @cached_property
    def tokenizer(self) -> Any:
        """What turns texts into token numbers, cut at the text tower's length."""
        from edgeproof_train.open_clip_source import load_tokenizer

        return load_tokenizer(self.name)

    def text_tower(self) -> TextTower:
        """Return the text tower.

        Raises:
            UsageError: its tokenizer is of another kind than CLIP's.
        """
        from edgeproof_train.open_clip_source import clip_tokenizer

        tokenizer = clip_tokenizer(self.tokenizer, self.name)
        length = int(tokenizer.context_length or 0)
        return TextTower(TextOnly(self.model), list(tokenizer.bpe_ranks), "open_clip", length, 0)

    def _identity(self) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "architecture_sha256": digest_of(self.architecture),
            "weights_sha256": weights_digest(self.model.state_dict()),
        }

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        return self.model.encode_image(image_BCHW)

    def _encode_tokens(self, image_BCHW: Tensor) -> Tensor:
        """Return the embedding and, through the same norm and projection, every patch."""
        visual = self.model.visual
        visual.output_tokens = True
        try:
            pooled, patches = visual(image_BCHW)
        finally:
            visual.output_tokens = False
        if visual.final_ln_after_pool:
            patches = visual.ln_post(patches)
        return torch.cat([pooled[:, None], patches if visual.proj is None else patches @ visual.proj], dim=1)

    def _encode_text(self, texts: list[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(texts).to(self.device))


def patch_count(visual: Any) -> int | None:
    """Return how many patches a vision transformer of open_clip's own gives; None for another network."""
    from open_clip.transformer import VisionTransformer

    pools_one = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if not pools_one or visual.pool_type not in ("tok", "avg"):
        return None
    height, width = visual.grid_size
    return height * width
