from __future__ import annotations

import pytest

from edgeproof_benchmarks.gains import bought_nothing, gain, is_faster, over_rounds, surely, times
from edgeproof_benchmarks.report_data import FormRow


def row(p50: float | None, *rounds: float) -> FormRow:
    measured = {} if p50 is None else {1: {"p50": p50} | ({"rounds_p50_ms": list(rounds)} if rounds else {})}
    return FormRow("student", "onnxruntime", latency_ms=measured)


def test_gain__is_the_median_over_rounds_and_not_the_ratio_of_the_medians():
    assert gain(row(1.0, 1.0, 2.0, 4.0), row(9.0, 1.5, 3.0, 8.0)) == pytest.approx(1.5)


def test_gain__without_the_same_rounds_the_ratio_of_p50():
    assert gain(row(0.5), row(1.0)) == pytest.approx(2.0)
    assert gain(row(0.5, 0.5, 0.5), row(1.0, 1.0)) == pytest.approx(2.0)
    assert surely(row(0.5), row(1.0)) == pytest.approx(2.0)
    assert over_rounds(row(0.5), row(1.0)) == ""


def test_gain__unknown_where_one_was_not_timed():
    assert gain(row(None), row(1.0)) is None
    assert surely(row(1.0), None) is None
    assert not is_faster(row(None), row(1.0))


@pytest.mark.parametrize(("rounds", "lowest"), [(1, 1), (4, 1), (5, 1), (8, 1), (9, 2), (11, 2), (12, 3)])
def test_surely__the_lower_end_of_the_sign_test(rounds: int, lowest: int):
    base = row(1.0, *[float(place) for place in range(rounds, 0, -1)])
    assert surely(row(1.0, *[1.0] * rounds), base) == lowest


def test_is_faster__one_disturbed_round_of_nine_is_forgiven_and_two_are_not():
    steady = row(1.0, *[1.0] * 9)
    assert is_faster(steady, row(1.3, 0.8, *[1.3] * 8))
    assert not is_faster(steady, row(1.3, 0.8, 1.04, *[1.3] * 7))
    assert not is_faster(row(1.0, *[1.0] * 5), row(1.3, 0.8, *[1.3] * 4))


def test_bought_nothing__says_noise_only_of_what_looks_faster():
    steady, noisy = row(1.0, *[1.0] * 5), row(1.3, 1.3, 1.6, 0.9, 1.5, 1.2)
    assert bought_nothing(steady, noisy) == "bought nothing that can be told from noise here"
    assert over_rounds(steady, noisy) == "0.9 to 1.6 over 5 rounds"
    assert bought_nothing(noisy, steady) == "bought nothing here"
    assert over_rounds(noisy, steady) == ""


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.43, "0.4"), (0.96, "0.96"), (1.0, "1.00"), (1.3, "1.3"), (3.14, "3.1"), (14.2, "14")],
)
def test_times__enough_digits_to_tell_it_from_one(ratio: float, words: str):
    assert times(ratio) == words
