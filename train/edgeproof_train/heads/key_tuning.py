"""Training the keys of a cache, Tip-Adapter-F."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from edgeproof_train.heads.class_votes import ClassVotes
from edgeproof_train.heads.evidence import Evidence, Rows
from edgeproof_train.heads.selection import choose, mean_nll
from edgeproof_train.metrics import topk_accuracy

EPS = 1e-4


class Vote(Protocol):
    """How the keys vote while they are trained."""

    @property
    def alpha(self) -> float:
        """What a vote counts."""
        ...

    @property
    def beta(self) -> float:
        """How narrow the neighbourhood of a key is."""
        ...


class Epoch(NamedTuple):
    """The keys after some epochs."""

    number: int
    keys: np.ndarray


def tuned_keys(keys: Rows, evidence: Evidence, vote: Vote, config: Any) -> tuple[np.ndarray, int]:
    """Return keys (N, D), trained by cross-entropy on the shots and all their views, and after which epoch.

    AdamW with a cosine to 0 (arXiv 2111.03930). The epoch is the one that is right most often on validation,
    likelihood breaking ties, and 0, the untrained keys, is among them; without validation it is the last.
    """
    epochs = trained(keys, evidence, vote, config)
    if evidence.val is None:
        last = list(epochs)[-1]
        return last.keys, last.number
    assert evidence.text is not None
    features, labels = evidence.val
    base = np.float32(evidence.logit_scale) * (features @ evidence.text.T)

    def score(epoch: Epoch) -> tuple[float, float]:
        cache = ClassVotes(Rows(epoch.keys, keys.labels), len(evidence.names))
        votes = cache.of(features, vote.beta)
        accuracy = topk_accuracy(base + np.float32(vote.alpha) * votes, labels)
        return accuracy, -mean_nll(base, votes, labels, vote.alpha)

    best = choose(epochs, score).value
    return best.keys, best.number


def trained(keys: Rows, evidence: Evidence, vote: Vote, config: Any) -> Iterator[Epoch]:
    """Yield the keys as they are, then after each epoch."""
    assert evidence.shots is not None
    assert evidence.text is not None
    rows, wanted = torch.from_numpy(evidence.shots.features), torch.from_numpy(evidence.shots.labels)
    text, classes = torch.from_numpy(evidence.text), torch.from_numpy(keys.labels)
    weight = torch.nn.Parameter(torch.from_numpy(keys.features.copy()))
    random = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW([weight], lr=config.learning_rate, eps=EPS)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    yield Epoch(0, keys.features)
    for number in range(1, config.epochs + 1):
        for batch in torch.randperm(len(rows), generator=random).split(config.batch_size):
            images = rows[batch]
            near = torch.exp(vote.beta * (images @ weight.T - 1))
            votes = near.new_zeros(len(batch), len(text)).index_add(1, classes, near)
            loss = cross_entropy(evidence.logit_scale * images @ text.T + vote.alpha * votes, wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield Epoch(number, weight.detach().numpy().copy())
