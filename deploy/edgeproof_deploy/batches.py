"""Does an image's embedding depend on the images beside it in a batch?"""

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
        session: takes `image`, gives `embedding`.
        inputs: (N, 3, H, W) float32, normalised.
        batches: batch sizes; one that does not divide N gives a smaller last batch, which is wanted.
    """
    alone = np.concatenate([session.run({"image": one[None]})["embedding"] for one in inputs])
    found = []
    for batch in batches:
        chunks = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
        together = np.concatenate([session.run({"image": chunk})["embedding"] for chunk in chunks])
        found.append(cosines(alone, together).min())
    return at_least("batch_cosine", float(np.min(found)), COSINE_LIMIT)
