"""The nearest class mean."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from edgeproof_configs.registry import register
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.class_sums import class_means
from edgeproof_train.heads.evidence import Evidence, Part, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.sharpness import sharpened_on_val
from edgeproof_train.metrics import unit_rows

LOGIT_SCALE = 70.0
"""In the middle of what was chosen on validation for three data sets and 1 to 16 shots, 38 to 162."""


@register("head")
class NearestMean(FittedKind):
    """`logits = s e/|e| m'`, m the unit means of the shots of each class (prototypes, arXiv 1703.05175).

    It knows images only. s is chosen on validation; it changes probabilities, and no answer.
    """

    class Config(FittedConfig):
        """No settings but what it learns from."""

        kind: Literal["nearest_mean"] = "nearest_mean"

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the head whose rows are the means.

        Raises:
            DataError: there are no shots, a class has none, or those of a class cancel each other.
        """
        del config
        require(evidence, "shots", kind="nearest_mean")
        means = unit_rows(class_means(evidence.photos(), len(evidence.names)))
        head = LinearHead(evidence.names, means.astype(np.float32), None, LOGIT_SCALE)
        head, _ = sharpened_on_val(head, evidence)
        how = (
            "chosen on validation" if evidence.val else f"{LOGIT_SCALE:g} by default: there is no validation"
        )
        return Fitted(head, {"logit_scale": head.logit_scale}, (f"logit_scale {how}",))
