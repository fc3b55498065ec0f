"""The head of a student that scores classes itself: its labels, and nothing to multiply with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from edgeproof_configs.registry import register
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime import head as device
from edgeproof_train.heads.files import save_head
from edgeproof_train.text import TextBank


@register("head")
class ClassifierHead:
    """`logits = e`: the student's own output is a score for each class of the data.

    A recipe with this head works in the space of class scores. The teacher gives the scores of its
    classifier, over the same classes, and logit losses can be used.

    Args:
        config: this kind's settings.
        labels: K class names, in the order of the scores.
    """

    class Config(HeadConfig):
        """No settings: the classes are those of the data."""

        kind: Literal["classifier"] = "classifier"

    class_scores: ClassVar[bool] = True

    def __init__(self, config: Any, labels: Sequence[str]):
        if any("\n" in label for label in labels):
            raise ValueError("a label holds a line break")
        self.config = config
        self.labels = tuple(labels)

    @classmethod
    def from_bank(cls, config: Any, bank: TextBank, logit_scale: float = 1.0) -> ClassifierHead:
        """Return the head of a bank's labels; class scores need no scale."""
        del logit_scale
        return cls(config, bank.names)

    def logits(self, embeddings_ND: np.ndarray) -> np.ndarray:
        """Return the scores (N, K), float32, as they are."""
        return np.asarray(embeddings_ND, np.float32)

    def on_device(self) -> device.ClassifierHead:
        """Return the head as the device has it."""
        return device.ClassifierHead(self.labels, tuple(range(len(self.labels))), len(self.labels))

    def save(self, folder: Path) -> list[Path]:
        """Write `head.safetensors` (`classes` () int64: K) and `labels.txt`; return both."""
        return save_head(self.on_device(), folder)

    @classmethod
    def load(cls, folder: Path) -> ClassifierHead:
        """Read what `save` wrote."""
        return cls(cls.Config(), (folder / device.LABELS_FILE).read_text(encoding="utf-8").split("\n")[:-1])
