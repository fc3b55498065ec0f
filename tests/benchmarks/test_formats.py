from __future__ import annotations

import math

import pytest

from edgeproof_benchmarks import formats


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.9149, "1.91"),
        (143.4, "143"),
        (52_300.0, "52,300"),
        (-0.5, "\N{MINUS SIGN}0.500"),
    ],
)
def test_significant__three_digits_without_exponent(value: float, words: str):
    assert formats.significant(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(-0.003, "\N{MINUS SIGN}0.3"), (0.0041, "+0.4"), (-0.0001, "±0.0"), (None, formats.MISSING)],
)
def test_points__signed_with_a_real_minus(value: float | None, words: str):
    assert formats.points(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.9999987, "0.9999987"), (1.0, "1.0000000"), (0.99995, "0.999950"), (0.887, "0.887")],
)
def test_cosine__shows_where_the_nines_end(value: float, words: str):
    assert formats.cosine(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (9.97, "10 s"), (59.7, "1 min 00 s"), (302.0, "5 min 02 s"), (4800.0, "1 h 20 min")],
)
def test_duration__units_change_at_full_minutes_and_hours(seconds: float, words: str):
    assert formats.duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(812, "812 B"), (19_700_000, "19.7 MB"), (1_500, "1.50 kB")])
def test_size__powers_of_ten(count: int, words: str):
    assert formats.size(count) == words


@pytest.mark.parametrize(
    "show",
    [formats.percent, formats.milliseconds, formats.size, formats.integer, formats.duration, formats.small],
)
@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_every_format__a_missing_figure_is_a_dash(show, missing: float | None):
    assert show(missing) == formats.MISSING


def test_unbroken__keeps_numbers_with_their_units():
    shown = formats.unbroken("96.9 % top-1, 0.3 points below, 1.91 ms, 7 gates")
    assert shown == "96.9\u00a0% top-1, 0.3\u00a0points below, 1.91\u00a0ms, 7 gates"


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "100 %"), (0.99998, "99.99 %"), (0.9999, "99.99 %"), (0.998, "99.80 %")]
)
def test_agreement__is_never_rounded_up_to_all(share: float, words: str):
    assert formats.agreement(share) == words
