from __future__ import annotations

import pytest

from edgeproof_benchmarks.svg import Scale, padded, round_step, same_decimals, shortened


@pytest.mark.parametrize(
    ("rough", "step"), [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (0.021, 0.025), (37.0, 50.0)]
)
def test_round_step__first_round_number_not_below(rough: float, step: float):
    assert round_step(rough) == pytest.approx(step)


def test_scale__maps_ends_to_ends_and_ticks_lie_inside():
    scale = Scale(0.13, 0.97, 40, 400)
    assert (scale(0.13), scale(0.97)) == (40, 400)
    assert scale.ticks(4) == pytest.approx([0.25, 0.5, 0.75])


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1.0, 2.0]])
def test_padded__is_never_empty(values: list[float]):
    low, high = padded(values)
    assert low < min(values)
    assert high > max(values)


def test_padded__starts_at_zero_where_asked():
    assert padded([0.4, 2.0], zero=True)[0] == 0.0


def test_same_decimals__all_ticks_alike():
    show = same_decimals([0.0, 0.25, 0.5])
    assert [show(tick) for tick in (0.0, 0.25, 0.5)] == ["0.00", "0.25", "0.50"]


def test_shortened__says_that_it_cut():
    assert shortened("octahedron", 10) == "octahedron"
    assert shortened("octahedrons", 10) == "octahedro…"
