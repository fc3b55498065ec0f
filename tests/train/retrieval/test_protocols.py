from __future__ import annotations

import numpy as np
import pytest

from edgeproof_train.retrieval.figures import retrieval_figures
from edgeproof_train.retrieval.protocols import Search, parts_of

NAMES = ("cup", "dog", "car", "pear")


def objects(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    return np.eye(len(NAMES), 12)[labels] + 0.7 * random.normal(size=(count, 12)), labels


def test_parts_of__unseen_classes_search_among_themselves() -> None:
    rows, labels = objects(0)
    parts = parts_of(Search.among(rows, labels), NAMES, ("dog", "pear"))
    assert list(parts) == ["all", "seen", "unseen"]
    hidden = np.isin(labels, [1, 3])
    for name, chosen in (("all", np.ones(60, bool)), ("seen", ~hidden), ("unseen", hidden)):
        alone = retrieval_figures(
            rows[chosen], labels[chosen], rows[chosen], labels[chosen], np.arange(chosen.sum())
        )
        assert parts[name].figures() == pytest.approx(alone)
    # Fewer classes can be mistaken for one another: the parts are easier than the whole.
    assert parts["unseen"].figures()["map"] > parts["all"].figures()["map"]


def test_parts_of__a_gallery_of_its_own() -> None:
    (queries, asked), (gallery, labels) = objects(1, 8), objects(2, 40)
    parts = parts_of(Search(queries, asked, gallery, labels), NAMES, ("cup",))
    unseen = parts["unseen"]
    assert (len(unseen.queries), len(unseen.gallery), unseen.own) == (2, 10, None)
    assert unseen.figures()["map"] == 1
    assert parts["seen"].figures()["queries"] == 6


def test_parts_of__only_those_that_can_be_answered() -> None:
    rows, labels = objects(3)
    assert list(parts_of(Search.among(rows, labels), NAMES, ())) == ["all"]
    only = Search.among(rows[labels == 1], labels[labels == 1])
    assert list(parts_of(only, NAMES, ("dog",))) == ["all"]
    lonely = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:1]])
    found = parts_of(Search.among(rows[lonely], labels[lonely]), NAMES, ("car",))
    assert list(found) == ["all", "seen"]
    assert found["all"].figures()["excluded"] == 1


def test_search__leaves_out_what_has_no_label() -> None:
    rows, labels = objects(4)
    some = np.where(np.arange(60) % 5, labels, -1)
    kept = some >= 0
    expected = Search.among(rows[kept], labels[kept]).figures()
    assert Search.among(rows, some).figures() == expected


def test_search__asked_by_other_embeddings() -> None:
    rows, labels = objects(5)
    noisy = rows + np.random.default_rng(9).normal(size=rows.shape)
    search = Search.among(rows, labels)
    few = search.asked_by(noisy)
    assert few.figures()["map"] == retrieval_figures(noisy, labels, rows, labels, np.arange(60))["map"]
    assert few.figures()["map"] < search.figures()["map"]
    assert np.nanmean(few.measures()["map"]) == few.figures()["map"]
