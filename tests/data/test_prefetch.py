from __future__ import annotations

import threading
import time

import pytest

from edgeproof_data.prefetch import in_order


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_in_order__results_in_the_order_of_the_items(workers: int):
    def slow_for_even(item: int) -> int:
        time.sleep(0.002 * (item % 2 == 0))
        return item * item

    assert list(in_order(slow_for_even, range(40), workers)) == [item * item for item in range(40)]
    assert list(in_order(slow_for_even, [], workers)) == []


def test_in_order__runs_no_further_ahead_than_asked():
    begun = []
    results = in_order(begun.append, range(100), workers=2, ahead=3)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 2 * 3 + 1


@pytest.mark.parametrize("workers", [0, 2])
def test_in_order__an_error_reaches_the_reader_in_its_turn(workers: int):
    def fails_at_five(item: int) -> int:
        if item == 5:
            raise ValueError("five")
        return item

    results = in_order(fails_at_five, range(50), workers)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="five"):
        next(results)


def test_in_order__leaves_no_thread_behind():
    results = in_order(lambda item: item, range(1000), workers=3)
    next(results)
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeproof-data")]
