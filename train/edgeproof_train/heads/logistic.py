"""Logistic regression on the features."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from edgeproof_configs.registry import register
from edgeproof_configs.schema import PositiveFloat, PositiveInt
from edgeproof_deploy.runtime.linear_head import LinearHead
from edgeproof_train.heads.evidence import Evidence, Part, Rows, require
from edgeproof_train.heads.fitted import Fitted, FittedConfig, FittedKind
from edgeproof_train.heads.selection import choose, mean_nll
from edgeproof_train.metrics import topk_accuracy

GRID = (1.0, 10.0, 100.0, 1000.0, 10000.0)
DEFAULT_C = 100.0


@register("head")
class Logistic(FittedKind):
    """`logits = e/|e| W' + b` with the least `C sum_i -log p_y + |W|^2 / 2` (a linear probe).

    It knows images only. Views of a photo count as rows of their own.
    """

    class Config(FittedConfig):
        """How freely it follows the shots.

        Attributes:
            c: C, of which a larger one shrinks W less; chosen on validation if not given.
            max_iterations: of the solver, for each C.
        """

        kind: Literal["logistic"] = "logistic"
        c: PositiveFloat | None = None
        max_iterations: PositiveInt = 300

    is_matrix: ClassVar[bool] = True
    needs: ClassVar[frozenset[Part]] = frozenset({"shots"})
    uses: ClassVar[frozenset[Part]] = frozenset({"val"})

    @staticmethod
    def fit(config: Any, evidence: Evidence) -> Fitted:
        """Return the regression of the C that is right most often on validation, likelihood breaking ties.

        Raises:
            DataError: there are no shots, or a class has none.
        """
        require(evidence, "shots", kind="logistic")
        assert evidence.shots is not None
        chosen_c, how = (config.c, "given") if config.c else (DEFAULT_C, "by default: there is no validation")
        if config.c or evidence.val is None:
            head, done = regression(evidence.names, evidence.shots, (chosen_c,), config.max_iterations)[0]
        else:
            found = regression(evidence.names, evidence.shots, GRID, config.max_iterations)
            rows, how = evidence.val, "chosen on validation"
            place = choose(range(len(GRID)), lambda at: score(found[at][0], rows)).value
            chosen_c, (head, done) = GRID[place], found[place]
        stopped = () if done else (f"the solver stopped after {config.max_iterations} iterations",)
        return Fitted(head, {"c": chosen_c}, (f"c {how}", *stopped))


def score(head: LinearHead, rows: Rows) -> tuple[float, float]:
    """Return accuracy and mean log-likelihood on some rows."""
    logits = head(rows.features)
    return topk_accuracy(logits, rows.labels), -mean_nll(logits, np.zeros_like(logits), rows.labels, 0.0)


def regression(
    names: tuple[str, ...], shots: Rows, grid: tuple[float, ...], iterations: int
) -> list[tuple[LinearHead, bool]]:
    """Return for each C the head and whether the solver arrived; each starts from the one before."""
    model = LogisticRegression(max_iter=iterations, warm_start=True)
    features, found = shots.features.astype(np.float64), []
    for c in grid:
        model.set_params(C=c)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConvergenceWarning)
            # A shot a class is what is asked for.
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            model.fit(features, shots.labels)
        weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
        if len(names) == 2:
            weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        head = LinearHead(names, weight.astype(np.float32), bias.astype(np.float32))
        found.append((head, not any(issubclass(one.category, ConvergenceWarning) for one in said)))
    return found
