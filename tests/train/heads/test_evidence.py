from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.evidence import Evidence, evidence_of


def made(**changes: Any) -> Evidence:
    """Return evidence of three classes, two unit rows of each, with some parts changed."""
    rows = np.eye(6, 4) + np.eye(6, 4, -2)
    given: dict[str, Any] = {
        "names": ["a", "b", "c"],
        "features": rows / np.linalg.norm(rows, axis=1, keepdims=True),
        "labels": np.repeat(np.arange(3), 2),
        "text": np.eye(3, 4),
    }
    given |= changes
    return evidence_of(given.pop("names"), **given)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"names": ["a", "a", "b"]}, "labels that are there twice: a"),
        ({"names": "abc"}, "labels are a list of texts"),
        ({"names": ["a", " ", "c"]}, "none of them empty"),
        ({"names": [1, 2, 3]}, "labels are a list of texts"),
        ({"names": ["a"]}, "1 class: a head decides between two or more"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, "shots: label 3 is outside of the 3 classes"),
        ({"labels": np.arange(6) / 2}, "labels of type float64"),
        ({"labels": np.arange(5) % 3}, "6 rows of features and 5 labels"),
        ({"features": np.full((6, 4), np.nan)}, "6 rows are NaN, infinite or zero, the first is row 0"),
        ({"features": np.full((6, 4), 1e200)}, "6 rows are NaN, infinite or zero"),
        ({"text": np.eye(3, 5)}, "features of different widths: text 5, shots 4"),
        ({"text": np.eye(2, 4)}, "3 labels and 2 text embeddings"),
        ({"views": 4}, "6 rows are no multiple of 4 views a photo"),
        ({"views": 3}, "2 photos have views of different labels, the first is photo 0"),
        ({"labels": np.array([0, 0, 1, 2, 2, 1]), "views": 2}, "the first is photo 1"),
    ],
)
def test_evidence_of__refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as caught:
        made(**changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("changes", [{"views": 0}, {"logit_scale": 0.0}, {"logit_scale": float("nan")}])
def test_evidence_of__numbers_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected views >= 1 and a logit_scale above 0"):
        made(**changes)


def test_evidence_of__rows_are_made_of_unit_length_and_it_is_said() -> None:
    assert made().said == ()
    found = made(text=3 * np.eye(3, 4))
    assert found.said == ("text: rows were not of unit length and have been normalised",)
    assert found.text is not None
    np.testing.assert_array_equal(found.text, np.eye(3, 4))


def test_photos__views_of_a_photo_become_one_row() -> None:
    found = made(views=2).photos()
    np.testing.assert_array_equal(found.labels, [0, 1, 2])
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, rtol=1e-6)
