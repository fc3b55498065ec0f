"""Heads for those who have arrays: one function, and a classifier as scikit-learn knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from edgeproof_configs.errors import DataError
from edgeproof_configs.schema import HeadConfig
from edgeproof_deploy.runtime.head import Head
from edgeproof_train.heads.evidence import evidence_of
from edgeproof_train.heads.fitting import config_of, fit_kind

validated: Any = validate_data
"""Without the types that a checker reads from the text that stands for no value in its signature."""


def fit_head(
    kind: str | HeadConfig,
    features: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    text: np.ndarray | None = None,
    unlabelled: np.ndarray | None = None,
    val_features: np.ndarray | None = None,
    val_labels: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    views: int = 1,
    logit_scale: float = 100.0,
    **settings: Any,
) -> Head:
    """Fit a head of any kind on arrays: `fit_head("gda", x, y, text=t)(new_features)` are class scores.

    What was chosen, and what is to be said of it, `fit_kind(config_of(kind), evidence_of(names, ...))` tells;
    what was changed in the arrays, as rows that were normalised, `evidence_of(names, ...).said`.

    Args:
        kind: name of a head, or its config.
        features: (N, D) embeddings of the labelled images.
        labels: (N,) integers from 0, the class of each.
        text: (K, D) text embeddings of the classes.
        unlabelled: (U, D) images that a transductive head adapts to, without their labels.
        val_features: (M, D) embeddings to choose hyper-parameters on; without them defaults are taken.
        val_labels: (M,) the class of each.
        names: K class names; their numbers if not given.
        views: rows in a row that come from one photo.
        logit_scale: factor on cosines between image and text, as the model was trained with.
        **settings: of the kind, where `kind` is a name.

    Returns:
        A head of the runtime, numpy only: `head(features)` are scores (N, K), `head.probabilities(features)`
        their softmax; both raise ValueError for rows of another width, NaN or infinite.

    Raises:
        DataError: arrays are not usable, do not fit each other, or lack what the kind needs.
        ValueError: a setting has no effect on arrays.
    """
    evidence = evidence_of(
        names if names is not None else numbered(text, labels),
        features=features,
        labels=labels,
        views=views,
        text=text,
        unlabelled=unlabelled,
        val_features=val_features,
        val_labels=val_labels,
        logit_scale=logit_scale,
    )
    return fit_kind(config_of(kind, **settings), evidence).head


def numbered(text: np.ndarray | None, labels: np.ndarray | None) -> list[str]:
    """Return the classes' numbers as their names.

    Raises:
        DataError: there is neither text nor a label to count them by.
    """
    if text is not None:
        return [str(number) for number in range(len(text))]
    if labels is None or not np.size(labels) or np.asarray(labels).dtype.kind not in "iu":
        raise DataError("how many classes there are is not known", fix="give names, text or integer labels")
    return [str(number) for number in range(int(np.max(labels)) + 1)]


class HeadClassifier(ClassifierMixin, BaseEstimator):
    """A head of any kind as a scikit-learn classifier of embeddings.

    Only the direction of an embedding counts: rows are normalised, and one of zeros is refused. Text is in
    the order of `classes`, or of the sorted labels if that is not given.

    Args:
        kind: name of a head.
        settings: of the kind, by name.
        text: (K, D) text embeddings of the classes.
        classes: K labels in the order of `text`; the sorted labels of `fit` if not given.
        unlabelled: (U, D) images that a transductive head adapts to.
        val: features (M, D) and labels (M,) to choose hyper-parameters on.
        views: rows in a row that come from one photo.
        logit_scale: factor on cosines between image and text.

    Attributes:
        classes_: (K,) labels.
        head_: the fitted head of the runtime.
        chosen_: its hyper-parameters by name.
        notes_: what is to be said of it, in words.
        n_features_in_: D.
    """

    def __init__(
        self,
        kind: str = "gda",
        *,
        settings: Mapping[str, Any] | None = None,
        text: np.ndarray | None = None,
        classes: Sequence[Any] | None = None,
        unlabelled: np.ndarray | None = None,
        val: tuple[np.ndarray, np.ndarray] | None = None,
        views: int = 1,
        logit_scale: float = 100.0,
    ):
        self.kind = kind
        self.settings = settings
        self.text = text
        self.classes = classes
        self.unlabelled = unlabelled
        self.val = val
        self.views = views
        self.logit_scale = logit_scale

    def fit(self, X: np.ndarray, y: np.ndarray) -> HeadClassifier:
        """Fit the head on features (N, D) and labels (N,).

        Raises:
            ValueError: they are not usable, or a label is not among the classes.
        """
        rows, labels = validated(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_ = np.unique(labels) if self.classes is None else np.asarray(self.classes)
        val_features, val_labels = (None, None) if self.val is None else self.val
        try:
            evidence = evidence_of(
                [str(label) for label in self.classes_],
                features=rows,
                labels=positions(labels, self.classes_),
                views=self.views,
                text=self.text,
                unlabelled=self.unlabelled,
                val_features=val_features,
                val_labels=None if val_labels is None else positions(val_labels, self.classes_),
                logit_scale=self.logit_scale,
            )
            fitted = fit_kind(config_of(self.kind, **(self.settings or {})), evidence)
        except DataError as error:
            raise ValueError(error.what if error.fix is None else f"{error.what}: {error.fix}") from error
        self.head_, self.chosen_ = fitted.head, fitted.chosen
        self.notes_ = (*evidence.said, *fitted.notes)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the label (N,) with the highest score.

        Raises:
            ValueError: a row is zero, NaN or infinite, or of another width than those of `fit`.
        """
        places = self._scores(X).argmax(axis=1)
        return self.classes_[places]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the softmax of the scores, (N, K) float32."""
        check_is_fitted(self)
        return self.head_.probabilities(self._checked(X))

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return scores (N, K); of two classes the second's lead over the first, (N,)."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def _scores(self, features: np.ndarray) -> np.ndarray:
        check_is_fitted(self)
        return self.head_(self._checked(features))

    def _checked(self, features: np.ndarray) -> np.ndarray:
        rows = validated(self, features, dtype=[np.float64, np.float32], reset=False)
        lacking = ~rows.any(axis=1)
        if lacking.any():
            raise ValueError(f"row {int(np.argmax(lacking))} is zero: it has no direction to be scored by")
        return rows


def positions(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return where each label stands among the classes, int64 (N,).

    Raises:
        ValueError: one is not among them.
    """
    found = {label: place for place, label in enumerate(classes.tolist())}
    given = np.asarray(labels).tolist()
    unknown = sorted({str(label) for label in given if label not in found})
    if unknown:
        raise ValueError(f"label {unknown[0]} is not among the {len(found)} classes")
    return np.array([found[label] for label in given], np.int64)
