"""Tip-Adapter: examples that vote beside the text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.cache_head import LARGEST_EXPONENT, CacheHead
from edgeproof_deploy.runtime.class_values import ClassValues
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.class_votes import ClassVotes
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.key_tuning import tuned_keys
from edgeproof_train.heads.selection import TIE, choose, counts_right, likeliest

BETAS, DOUBLINGS = (0.125, 0.1768), 10
"""The grid of beta: 0.125 to 90, each about 1.41 times the one before."""
ALPHAS = np.concatenate([[0.0], np.logspace(-2, 2, 81)])
DEFAULT_ALPHA, DEFAULT_BETA = 1.17, 1.0
MOST_TIED, MOST_SCORES = 5, 1 << 20
TUNING = ("epochs", "learning_rate", "batch_size")


class Votes(NamedTuple):
    """How much the examples count, and how narrow the neighbourhood of each is."""

    alpha: float
    beta: float


@register("head")
class TipAdapter(FittedKind):
    """`logits = s e/|e| T' + alpha exp(-beta (1 - e/|e| X')) Y` (arXiv 2111.03930).

    X are the shots, the views of each averaged to one unit row, Y their classes one-hot. alpha = 0 is
    zero-shot exactly, and on the grid that is tried on validation. With `fine_tune` (Tip-Adapter-F) X is
    trained by cross-entropy and the epoch chosen on validation, none among them.
    """

    class Config(FittedConfig):
        """How the examples vote.

        Attributes:
            alpha: what a vote counts; chosen on validation if not given.
            beta: how narrow the neighbourhood of an example is; chosen on validation if not given.
            fine_tune: whether the examples are trained.
            epochs: of the training.
            learning_rate: of its first step; it falls to 0 along a cosine.
            batch_size: of the training.
        """

        kind: Literal["tip_adapter"] = "tip_adapter"
        alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
        beta: PositiveFloat | None = None
        fine_tune: bool = False
        epochs: PositiveInt = 20
        learning_rate: PositiveFloat = 1e-3
        batch_size: PositiveInt = 256

        @model_validator(mode="after")
        def _settings_have_an_effect(self) -> TipAdapter.Config:
            idle = [name for name in TUNING if name in self.model_fields_set]
            if idle and not self.fine_tune:
                raise ValueError(f"{idle[0]} has no effect without fine_tune: true")
            if self.fine_tune and self.alpha == 0:
                raise ValueError("fine_tune has no effect where alpha is 0")
            return self

    needs: ClassVar[frozenset[Part]] = frozenset({"shots", "text"})
    uses: ClassVar[frozenset[Part]] = frozenset({"val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the shots as a cache beside the text.

        Raises:
            DataError: there are no shots or no text, or a class has no shot.
        """
        require(evidence, "shots", "text", kind="tip_adapter")
        assert evidence.text is not None
        keys, chosen, notes = evidence.photos(), {}, ()
        if config.fine_tune:
            start = Votes(config.alpha or DEFAULT_ALPHA, config.beta or DEFAULT_BETA)
            tuned, epoch = tuned_keys(keys, evidence, start, config)
            keys, chosen = Rows(tuned, keys.labels), {"epoch": epoch}
            how = "chosen on validation" if evidence.val else "the last: there is no validation"
            notes = (f"epoch {how}",)
        votes, how = choose_votes(config, evidence, keys)
        base = LinearHead(evidence.names, evidence.text, None, evidence.logit_scale)
        heights = np.full(len(keys.labels), votes.alpha, np.float32)
        values = ClassValues(keys.labels, heights, len(evidence.names))
        head = CacheHead(evidence.names, keys.features, values, votes.beta, base)
        return Fitted(head, {**votes._asdict(), **chosen}, (*notes, f"alpha and beta {how}"))


def choose_votes(config: Any, evidence: Evidence, keys: Rows) -> tuple[Votes, str]:
    """Return alpha and beta, and how they were found."""
    if config.alpha is not None and config.beta is not None:
        return Votes(config.alpha, config.beta), "given"
    if evidence.val is None:
        given = Votes(DEFAULT_ALPHA if config.alpha is None else config.alpha, config.beta or DEFAULT_BETA)
        return given, "by default where not given: there is no validation"
    alphas = ALPHAS if config.alpha is None else np.array([config.alpha])
    starts, doublings = (BETAS, DOUBLINGS) if config.beta is None else ((config.beta,), 1)
    longest = float(np.linalg.norm(keys.features, axis=1).max())
    while doublings > 1 and starts[-1] * 2 ** (doublings - 1) * (longest - 1) > LARGEST_EXPONENT / 2:
        doublings -= 1
    cache = ClassVotes(keys, len(evidence.names))
    return best_votes(evidence, cache, alphas, starts, doublings), "chosen on validation"


def best_votes(
    evidence: Evidence, cache: ClassVotes, alphas: np.ndarray, starts: tuple[float, ...], doublings: int
) -> Votes:
    """Return the pair that is right most often on validation; of equal ones the likeliest, then the smallest.

    All of the grid is counted in one pass over the images, in blocks. Only where several pairs are equally
    good are votes computed again: for five beta at most, over the range of those that are, and for part of
    the images where there are many.
    """
    assert evidence.val is not None
    assert evidence.text is not None
    features, labels = evidence.val
    base = np.float32(evidence.logit_scale) * (features @ evidence.text.T)
    betas = np.array([start * 2**number for start in starts for number in range(doublings)])

    def counted(block: slice) -> np.ndarray:
        right = np.zeros((len(betas), len(alphas)), np.int64)
        for part, found in cache.on_grid(features[block], starts, doublings):
            for row, votes in enumerate(found):
                right[row] += counts_right(base[block][part], votes, labels[block][part], alphas)
        return right

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        right = np.sum(list(pool.map(counted, cache.parts(len(labels)))), axis=0)
    shares = right / len(labels)
    best = float(shares.max())
    tied = {float(betas[row]): alphas[shares[row] >= best - TIE] for row in np.argsort(betas)}
    widths = [beta for beta, some in tied.items() if len(some)]
    if len(widths) == 1 and len(tied[widths[0]]) == 1:
        return Votes(float(tied[widths[0]][0]), widths[0])
    rows = slice(None, None, -(-base.size // MOST_SCORES))
    tried = widths[:: -(-len(widths) // MOST_TIED)]
    votes = cache.of_each(features[rows], tuple(tried))
    found = {
        beta: likeliest(base[rows], votes[place], labels[rows], tied[beta], best)
        for place, beta in enumerate(tried)
    }
    beta = choose(found, lambda width: found[width].score).value
    return Votes(found[beta].value, beta)
