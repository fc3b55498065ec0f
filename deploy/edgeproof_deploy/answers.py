"""What the shipped form says about the test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgeproof_deploy.decisions import Vocabulary
from edgeproof_deploy.verify import Verification
from edgeproof_train.calibration import probabilities
from edgeproof_train.embeddings import pooled_features
from edgeproof_train.run_data import RunData
from edgeproof_train.run_head import head_of_run
from edgeproof_train.student import Student


@dataclass(frozen=True)
class Answers:
    """The answers of one verification.

    Attributes:
        data: of the run.
        found: the verification.
    """

    data: RunData
    found: Verification

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels and what is true."""
        return self.found.vocabulary

    @cached_property
    def head(self) -> Any:
        """The head, which turns embeddings into class scores."""
        return head_of_run(self.data)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Row of the best label for each image, int64 (N,)."""
        return self.vocabulary.scores(self.found.embeddings).argmax(axis=1)

    @cached_property
    def labelled(self) -> np.ndarray:
        """Positions of the images that have a label."""
        return np.flatnonzero(self.vocabulary.labels >= 0)

    def features(self, at: np.ndarray) -> np.ndarray:
        """Return what images at some positions are compared by, (A, F).

        That is the shipped form's embeddings. Where it scores classes, it is what the student's classifier
        reads, from the student in PyTorch, as `evaluate` has it.
        """
        if not self.vocabulary.class_scores:
            return self.found.embeddings[at]
        context = self.data.context
        student, images = Student.load(context.run.stage("train")), self.data.split("test")
        return pooled_features(student, images.subset(at), device=context.device)

    def probabilities(self, at: np.ndarray) -> np.ndarray:
        """Return the softmax of the class scores of the images at some positions, float64 (A, K)."""
        head = self.head if self.vocabulary.head is None else self.vocabulary.head.at(at)
        return probabilities(head.logits(self.found.embeddings[at]))


def spread(positions: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the positions, evenly spread."""
    if len(positions) <= count:
        return positions
    return positions[np.linspace(0, len(positions) - 1, count).astype(int)]
