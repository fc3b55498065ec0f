"""The zero-shot head: cosines of an image embedding to the embeddings of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.registry import register
from edgeproof_configs.schema import HeadConfig, PositiveFloat
from edgeproof_data.sets import DataSource
from edgeproof_deploy.runtime import head as device
from edgeproof_deploy.runtime.head_form import unit_rows
from edgeproof_train.heads.files import save_head
from edgeproof_train.teacher import Teacher
from edgeproof_train.text import TextBank, TextSpec, make_text_bank

CLIP_SCALE = 100.0


@register("head")
class ZeroShotHead:
    """`logits = s e/|e| W'`, W the unit text embeddings of the labels (CLIP, arXiv 2103.00020).

    Args:
        config: this kind's settings.
        labels: K labels, in the order of the rows.
        weight_KD: their text embeddings; stored as float32 rows of unit length.
        logit_scale: s where the config gives none: the teacher's own, so that probabilities mean what they
            mean there.
    """

    class Config(HeadConfig):
        """Which words, and how sharp the probabilities are.

        Attributes:
            labels: file with one label a line, or csv `label,prompt`; the data's class names if not given.
            templates: name of a set of prompt templates.
            text_embeddings: .npy (K, D) with a row for each label, in place of the teacher's text tower.
            logit_scale: s; the teacher's if not given.
        """

        kind: Literal["zero_shot"] = "zero_shot"
        labels: str | None = None
        templates: str = "plain"
        text_embeddings: str | None = None
        logit_scale: PositiveFloat | None = None

        def text_spec(self) -> TextSpec:
            """Return the words."""
            return TextSpec(
                labels=self.labels, templates=self.templates, text_embeddings=self.text_embeddings
            )

    class_scores: ClassVar[bool] = False
    is_matrix: ClassVar[bool] = True

    def __init__(
        self, config: Any, labels: Sequence[str], weight_KD: np.ndarray, logit_scale: float = CLIP_SCALE
    ):
        if weight_KD.ndim != 2 or len(weight_KD) != len(labels):
            raise ValueError(f"expected a row for each of {len(labels)} labels, got {weight_KD.shape}")
        if any("\n" in label for label in labels):
            raise ValueError("a label holds a line break")
        lengths = np.linalg.norm(weight_KD.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise ValueError("a text embedding is zero or not finite")
        self.config = config
        self.labels = tuple(labels)
        self.weight = (weight_KD / lengths).astype(np.float32)
        self.logit_scale = float(config.logit_scale or logit_scale)

    @staticmethod
    def make_bank(config: Any, teacher: Teacher, source: DataSource) -> TextBank:
        """Return the text embeddings of the labels."""
        return make_text_bank(config.text_spec(), teacher, source)

    @classmethod
    def from_bank(cls, config: Any, bank: TextBank, logit_scale: float = CLIP_SCALE) -> ZeroShotHead:
        """Return the head of a text bank."""
        assert bank.matrix is not None
        return cls(config, bank.names, bank.matrix, logit_scale)

    def logits(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """Return scaled cosines (N, K), float32, of embeddings of any length."""
        return unit_rows(embeddings_ND, self.logit_scale) @ self.weight.T

    def on_device(self) -> device.ZeroShotHead:
        """Return the head as the device has it."""
        return device.ZeroShotHead(self.labels, self.weight, self.logit_scale)

    def save(self, folder: Path) -> list[Path]:
        """Write `head.safetensors` (`weight` (K, D), `logit_scale` ()) and `labels.txt`; return both."""
        return save_head(self.on_device(), folder)

    @classmethod
    def load(cls, folder: Path) -> ZeroShotHead:
        """Read what `save` wrote.

        Raises:
            EdgeproofError: a file is missing or cut, or there are not as many labels as rows.
        """
        file = folder / device.HEAD_FILE
        try:
            tensors = load_file(file)
            labels = (folder / device.LABELS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
            return cls(cls.Config(logit_scale=float(tensors["logit_scale"])), labels, tensors["weight"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise EdgeproofError(
                f"the head cannot be read: {error}", where=file, fix="run `head` again"
            ) from error
