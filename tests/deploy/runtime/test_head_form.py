from __future__ import annotations

import numpy as np
import pytest
from tests.deploy.runtime.fitted_heads import FORMS, LENGTHS, embeddings, make_head, unit

from edgeproof_deploy.runtime.errors import LabelError
from edgeproof_deploy.runtime.head_form import checked, checked_number, unit_rows


@pytest.mark.parametrize("dim", [1, 2, 64, 512])
def test_unit_rows__of_any_length(dim: int) -> None:
    rows = embeddings(dim)
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    expected = np.divide(3 * wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    np.testing.assert_allclose(unit_rows(rows, 3.0), expected, rtol=1e-6, atol=1e-7)
    for row, want in zip(rows, expected, strict=True):
        np.testing.assert_allclose(unit_rows(row[None], 3.0)[0], want, rtol=1e-6, atol=1e-7)


def test_unit_rows__leaves_its_input_alone() -> None:
    rows = embeddings(4)
    before = rows.copy()
    unit_rows(rows)
    unit_rows(rows[5:6])
    assert np.array_equal(rows, before)


def test_unit_rows__nan_stays_nan_and_no_rows_stay_none() -> None:
    rows = np.array([[np.nan, 1.0], [3.0, 4.0]], np.float32)
    assert np.isnan(unit_rows(rows)[0]).all()
    assert np.isnan(unit_rows(rows[:1])).all()
    np.testing.assert_allclose(unit_rows(rows)[1], [0.6, 0.8], rtol=1e-6)
    assert unit_rows(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("form", FORMS)
def test_logits__no_rows(form: str) -> None:
    head = make_head(form)
    assert head(np.zeros((0, head.dim), np.float32)).shape == (0, 5)


@pytest.mark.parametrize("form", ["zero_shot", "linear", "tip", "proker", "ensemble", "logit_ensemble"])
def test_logits__do_not_depend_on_the_length_of_an_embedding(form: str) -> None:
    head, direction = make_head(form), unit(np.ones((1, 8)))
    lengths = [length for length in LENGTHS if length > 1e-35]
    rows = np.concatenate([direction * np.float32(length) for length in lengths])
    np.testing.assert_allclose(head(rows), np.repeat(head(direction), len(rows), axis=0), atol=2e-4)


@pytest.mark.parametrize("form", FORMS)
def test_only__fewer_labels_in_another_order(form: str) -> None:
    head = make_head(form)
    some = head.only(["label 4", "label 1"])
    assert some.labels == ("label 4", "label 1")
    assert some.dim == head.dim
    assert some(np.ones((3, head.dim), np.float32)).shape == (3, 2)
    again = some.only(["label 1"])
    np.testing.assert_allclose(again.probabilities(np.ones((1, head.dim), np.float32)), [[1.0]])


@pytest.mark.parametrize(
    "form", ["zero_shot", "linear", "linear_plain", "tip", "votes_alone", "some_classes"]
)
def test_take__keeps_the_logits_of_the_labels_that_stay(form: str) -> None:
    head = make_head(form)
    rows = np.random.default_rng(3).standard_normal((6, head.dim)).astype(np.float32)
    np.testing.assert_allclose(head.take([3, 0])(rows), head(rows)[:, [3, 0]], rtol=1e-5, atol=1e-5)


def test_only__words_that_it_does_not_know() -> None:
    with pytest.raises(LabelError, match=r"Did you mean 'label 1'.*text_encoder, or set_text_embeddings"):
        make_head("zero_shot").only(["label1"])
    with pytest.raises(LabelError, match=r"'x' is not among the 5 .*fitted on its labels.*zero_shot does"):
        make_head("tip").only(["x"])
    with pytest.raises(LabelError, match="scores the classes it was trained on"):
        make_head("classifier").only(["x"])


@pytest.mark.parametrize(
    ("array", "shape", "words"),
    [
        (np.zeros((2, 3)), (2, 4), r"x has the shape \(2, 3\), expected \(2, 4\)"),
        (np.zeros(2), (None, None), r"shape \(2,\), expected \(any, any\)"),
        (np.array(["a"]), (1,), "expected numbers"),
        (np.array([np.nan, 0]), (2,), "NaN"),
        (np.array([0, np.inf]), (2,), "beyond 1e"),
        (np.array([-2e9]), (1,), "beyond 1e"),
    ],
)
def test_checked__what_is_refused(array: np.ndarray, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked("x", array, *shape)


def test_checked__any_numbers_become_float32() -> None:
    for dtype in (np.float16, np.float64, np.int8, np.int64):
        found = checked("x", np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype), 2, None)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    for value in (np.nan, np.inf, -2e9):
        with pytest.raises(ValueError, match="beta is"):
            checked_number("beta", value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["__call__", "probabilities"])
def test_call__rows_that_cannot_be_scored(way: str, form: str) -> None:
    head = make_head(form)
    ask, dim = getattr(head, way), head.dim
    with pytest.raises(ValueError, match=rf"shape \({dim},\), expected \(N, {dim}\); a single one is"):
        ask(np.ones(dim, np.float32))
    with pytest.raises(ValueError, match=rf"shape \(2, {dim + 1}\), expected \(N, {dim}\)$"):
        ask(np.ones((2, dim + 1), np.float32))
    for number in (np.nan, np.inf):
        rows = np.ones((3, dim), np.float32)
        rows[1, 2] = number
        with pytest.raises(ValueError, match="embedding 1 is NaN or infinite"):
            ask(rows)
    with pytest.raises(ValueError, match="of type <U1, expected numbers"):
        ask(np.full((1, dim), "a"))
    assert ask([[1.0] * dim]).shape == (1, len(head.labels))
    assert ask(np.ones((0, dim), np.float32)).shape == (0, len(head.labels))
