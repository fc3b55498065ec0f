"""Does an embedding depend on the images beside it in a batch, or on the order of an object's views?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeproof_deploy.gates import GateResult, at_least
from edgeproof_deploy.numerics import cosines
from edgeproof_deploy.runtime.session import Session

COSINE_LIMIT = 0.99999


def batch_gate(session: Session, inputs: np.ndarray, batches: Sequence[int]) -> GateResult:
    """Return the gate `batch_cosine`: the smallest cosine of an image's embedding alone and in a batch.

    Args:
        session: takes `image` or `views`, gives `embedding`.
        inputs: (N, 3, H, W), or (N, V, 3, H, W), float32, normalised.
        batches: batch sizes; one that does not divide N gives a smaller last batch, which is wanted.
    """
    alone = np.concatenate([session.run({session.input_name: one[None]})["embedding"] for one in inputs])
    found = []
    for batch in batches:
        chunks = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
        together = np.concatenate([session.run({session.input_name: chunk})["embedding"] for chunk in chunks])
        found.append(cosines(alone, together).min())
    return at_least("batch_cosine", float(np.min(found)), COSINE_LIMIT)


def order_gates(session: Session, inputs: np.ndarray) -> list[GateResult]:
    """Return the gate `order_cosine`: the smallest cosine of an object's embeddings, its views once reversed.

    Every pooling that a student has takes views in any order. There is no such gate for single images, or for
    objects with one view.

    Args:
        session: takes `image` or `views`, gives `embedding`.
        inputs: (N, 3, H, W), or (N, V, 3, H, W), float32, normalised.
    """
    if session.input_name != "views" or inputs.shape[1] < 2:
        return []
    name = session.input_name
    plain, turned = (
        np.concatenate([session.run({name: np.ascontiguousarray(one[None])})["embedding"] for one in some])
        for some in (inputs, inputs[:, ::-1])
    )
    return [at_least("order_cosine", float(cosines(plain, turned).min()), COSINE_LIMIT)]
