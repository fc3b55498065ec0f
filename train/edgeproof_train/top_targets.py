"""Class probabilities of which only the k largest are known, and learning from them without the rest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeproof_train.outputs import TopProbabilities


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest probabilities (B, k), float32, the largest first, and their classes, int64.

    Args:
        scores: of all classes, (B, K); their softmax is taken at temperature 1.
        k: of 1 to K.
    """
    values, ids = scores.float().softmax(dim=1).topk(k, dim=1)
    return values, ids


def kl_from_top(logits: Tensor, top: TopProbabilities) -> Tensor:
    """Return `KL(p || softmax(z))`, mean over the batch, where p is known by its k largest values.

    Every other class has the same share r of what is left, so that with q the softmax

        `sum_top p log p + (K - k) r log r - sum_top p log q - r (sum_all log q - sum_top log q)`

    (arXiv 2207.10666): nothing of the teacher's is as wide as K. With k = K it is the ordinary divergence.

    Args:
        logits: the student's class scores z, (B, K).
        top: of the teacher.

    Raises:
        ValueError: the teacher told other classes apart.
    """
    if logits.shape[1] != top.num_classes:
        raise ValueError(f"student {tuple(logits.shape)} and teacher (B, {top.num_classes}) differ")
    known, rest = top.values.detach(), top.rest().detach()
    others = top.num_classes - known.shape[1]
    log_all = F.log_softmax(logits, dim=1)
    log_top = log_all.gather(1, top.ids)
    certainty = torch.xlogy(known, known).sum(dim=1) + others * torch.xlogy(rest, rest)
    agreement = (known * log_top).sum(dim=1) + rest * (log_all.sum(dim=1) - log_top.sum(dim=1))
    return (certainty - agreement).mean()
