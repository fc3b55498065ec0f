"""A gallery: the objects themselves, each with its name; what a new one is nearest to, it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from edgeproof_configs.registry import register
from edgeproof_deploy.runtime.gallery_head import GalleryHead
from edgeproof_train.heads.evidence import Evidence, Part, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind, ShotsPart
from edgeproof_train.heads.nearest_mean import LOGIT_SCALE
from edgeproof_train.heads.sharpness import MOST_SCORES
from edgeproof_train.heads.weights import choose_sharpness


def as_several(value: object) -> object:
    """Return one part as several, and a list as what is declared: recipes are read strictly."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


@register("head")
class Gallery(FittedKind):
    """`logits_k = s max_n e/|e| x_n`, x the unit embeddings of the objects of class k (nearest neighbour).

    It keeps every object with its name, so that the nearest can be shown, and knows images only. s is chosen
    on validation; it changes probabilities, and no answer. A class without an object is never the answer.
    """

    class Config(FittedConfig):
        """What is kept.

        Attributes:
            of: the objects that are kept: those of `train`, of `test` (then a test object does not find
                itself), of the data's own `gallery`, or of several of these.
            half: whether they are kept in half precision.
            max_bytes: largest size of the stored head; of objects of a class that lie near each other some
                are left out to fit.
        """

        kind: Literal["gallery"] = "gallery"
        of: Annotated[tuple[ShotsPart, ...], BeforeValidator(as_several), Field(min_length=1)] = ("train",)
        half: bool = True

        @property
        def learns_from(self) -> tuple[ShotsPart, ...]:
            """The parts of the data that the objects are of."""
            return self.of

    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the head that keeps the shots.

        Raises:
            DataError: there are no shots, or those of two parts have one name.
        """
        del config
        require(evidence, "shots", kind="gallery", every_class=False)
        features, labels = evidence.photos()
        names = evidence.named or tuple(f"shot {number}" for number in range(len(labels)))
        order = np.argsort(labels, kind="stable")
        head = GalleryHead(
            evidence.names,
            features[order].astype(np.float32),
            labels[order],
            tuple(names[n] for n in order.tolist()),
            LOGIT_SCALE,
        )
        how = f"{LOGIT_SCALE:g} by default: there is no validation"
        if evidence.val is not None:
            rows = evidence.val.features, evidence.val.labels
            step = -(-rows[1].size * len(head.labels) // MOST_SCORES)
            factor = choose_sharpness(head(rows[0][::step]), rows[1][::step])
            head, how = replace(head, scale=LOGIT_SCALE * factor), "chosen on validation"
        without = [name for row, name in enumerate(head.labels) if row not in set(labels.tolist())]
        notes = (f"scale {how}", *([f"no object of {len(without)} classes"] if without else []))
        return Fitted(head, {"objects": len(names), "scale": head.scale}, notes)
