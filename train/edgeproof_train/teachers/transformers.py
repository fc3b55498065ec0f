"""Models of transformers: CLIP, SigLIP, SigLIP 2 and DINOv2.

Papers: arXiv 2103.00020, 2303.15343, 2502.14786, 2304.07193. `model` is a folder in the layout of
`save_pretrained`, or a hub repository `owner/name`. Weights are safetensors only; no code that comes with a
model is run. Image embeddings are `get_image_features` of the two-tower models and the normalised class token
of DINOv2. SigLIP 2 with a free aspect ratio (type `siglip2`) is not among them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from edgeproof_configs import schema
from edgeproof_configs.files import digest_of
from edgeproof_configs.registry import register
from edgeproof_train.preprocessing import PreprocessOverride, teacher_preprocess
from edgeproof_train.teacher import Teacher, TeacherPlaces, frozen
from edgeproof_train.text_tower import TextFeatures, TextTower
from edgeproof_train.weights import weights_digest

if TYPE_CHECKING:
    from edgeproof_train.transformers_source import Tokenizer


@register("teacher")
class TransformersTeacher(Teacher):
    """A frozen model of transformers in float32; with a text tower where it has one."""

    class Config(schema.TeacherConfig):
        """`model`: a folder or `owner/name`. `preprocess`: in place of what the folder says."""

        kind: Literal["transformers"] = "transformers"
        model: str
        preprocess: PreprocessOverride = PreprocessOverride()

    ships_text = True

    def __init__(self, config: Config, places: TeacherPlaces):
        super().__init__(config, places)
        # transformers takes seconds to import: that is for those who have this teacher, not for all who list.
        from edgeproof_train import transformers_source as source

        self.folder = source.find_folder(config.model, places.data_root)
        self.architecture = source.read_config(self.folder)
        found = source.read_preprocessing(self.folder)
        self.preprocess = teacher_preprocess(found, config.preprocess, self.folder)
        self.model: Any = frozen(source.load_model(self.folder), self.device)
        self.has_text = self.architecture.model_type in source.TWO_TOWERS
        self.embedding_dim = self._width()
        if self.has_text:
            self.logit_scale = float(self.model.logit_scale.exp())

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into the text tower's input, cut at its length."""
        from edgeproof_train.transformers_source import load_tokenizer

        return load_tokenizer(self.folder, self.architecture)

    def text_tower(self) -> TextTower:
        """Return the text tower.

        Raises:
            UsageError: it is none of CLIP with CLIP's tokenizer.
        """
        if not self.has_text:
            return super().text_tower()
        from edgeproof_train.transformers_source import clip_merges

        merges, padding = clip_merges(self.folder, self.architecture)
        length = int(self.architecture.text_config.max_position_embeddings)
        return TextTower(TextFeatures(self.model), merges, "transformers", length, padding)

    def _identity(self) -> dict[str, Any]:
        architecture = self.architecture.to_dict()
        # Where a copy lies and which release wrote it change nothing.
        kept = {
            k: v
            for k, v in architecture.items()
            if k not in ("_name_or_path", "transformers_version", "dtype")
        }
        return {
            "model": self.config.model,
            "architecture_sha256": digest_of(kept),
            "weights_sha256": weights_digest(self.model.state_dict()),
        }

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        if self.has_text:
            return pooled(self.model.get_image_features(pixel_values=image_BCHW))
        return pooled(self.model(pixel_values=image_BCHW))

    def _encode_text(self, texts: list[str]) -> Tensor:
        tokens = {name: tensor.to(self.device) for name, tensor in self.tokenizer(texts).items()}
        return pooled(self.model.get_text_features(**tokens))

    def _width(self) -> int:
        kind = self.architecture
        if kind.model_type == "clip":
            return int(kind.projection_dim)
        return int(kind.vision_config.hidden_size if self.has_text else kind.hidden_size)


def pooled(outputs: Any) -> Tensor:
    """Return the pooled embedding (B, D) of a model's outputs; some releases give it by itself."""
    return outputs if isinstance(outputs, Tensor) else outputs.pooler_output
