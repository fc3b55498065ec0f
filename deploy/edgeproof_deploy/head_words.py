"""A head in words, for the README of a bundle: what its file holds, and how to do without edgeproof."""

from __future__ import annotations

from typing import NamedTuple

from edgeproof_deploy.runtime.head import HEAD_FILE, ClassifierHead, ZeroShotHead
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_deploy.runtime.safetensors import read_safetensors


class HeadWords(NamedTuple):
    """What a README says of a head.

    Attributes:
        holds: the arrays of its file.
        steps: from the model's `embedding` to probabilities.
        open_vocabulary: whether it takes words that it was not made with.
        keeps_objects: whether it knows the names of what is near.
    """

    holds: str
    steps: str
    open_vocabulary: bool = False
    keeps_objects: bool = False


UNIT = "divide `embedding` by its length."
ZERO_SHOT = HeadWords(
    "`weight` (K, D): a unit text embedding for each label; `logit_scale`",
    f"{UNIT}\n5. `softmax({ZeroShotHead.formula})` are the probabilities of the labels.",
    open_vocabulary=True,
)
SCORES = HeadWords(
    "`classes`: how many scores the model gives",
    f"its `embedding` holds a score for each label.\n5. `softmax({ClassifierHead.formula})` are their"
    " probabilities.",
)
FORMS = {
    "linear": HeadWords(
        "a fitted head: `weight` (K, D), `scale` and, where it has one, `bias` (K,)",
        f"{UNIT}\n5. `softmax({LinearHead.formula})` are the probabilities of the labels.",
    ),
    "cache": HeadWords(
        "a fitted head: `keys` (N, D), `beta`, `scale`, the arrays of a linear head after `base.`, and"
        " `values` (N, K) or, where each key votes for one label, its `classes` and `heights` (N,)",
        f"""{UNIT}
5. `votes = exp(-beta * (1 - embedding @ keys.T)) @ values`;
   `base = base.scale * embedding @ base.weight.T + base.bias`, and of that the softmax where `base_form` in
   the metadata is `probabilities`.
6. `softmax(scale * (base + votes))` are the probabilities of the labels.""",
    ),
    "gallery": HeadWords(
        "a gallery: `keys` (N, D): the unit embedding of each object, `classes` (N,): its label, `objects`:"
        " their names, UTF-8, one a line; `scale`",
        f"""{UNIT}
5. `embedding @ keys.T` are its cosines to the objects: the largest are the nearest.
6. For each label take the largest of its objects (-1 where it has none): the softmax of `scale` times those
   are the probabilities of the labels.""",
        keeps_objects=True,
    ),
    "ensemble": HeadWords(
        "a fitted head: `weights` of its members, whose arrays stand after `0.`, `1.` and so on, and their"
        " metadata likewise; a `bias` (K,) on the logits, where it has one",
        f"""{UNIT}
5. Compute the logits of each member by its form. The mean of the members' probabilities by `weights` are
   the probabilities of the labels. Where `of` in the metadata is `z_scores`, standardise each member's logits
   over the labels: the sum of `weights` times those are the logits.""",
    ),
    "cascade": HeadWords(
        "steps that answer one after the other, whose arrays stand after `0.`, `1.` and so on",
        f"{UNIT}\n5. Which step answers is written in `edgeproof_deploy/runtime/cascade_head.py`.",
    ),
}


def head_words(data: bytes) -> HeadWords:
    """Return what a README says of a head.

    Args:
        data: of `head.safetensors`.

    Raises:
        BundleError: it is no safetensors file.
    """
    arrays, said = read_safetensors(data, HEAD_FILE)
    return FORMS.get(said.get("form", ""), SCORES if "classes" in arrays else ZERO_SHOT)
