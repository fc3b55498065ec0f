from __future__ import annotations

import numpy as np
import pytest

from edgeproof_deploy.answers import spread
from edgeproof_deploy.examples import MOST_MAPS, choose, with_map


def test_spread__takes_the_ends_and_what_lies_between():
    assert spread(np.arange(101), 5).tolist() == [0, 25, 50, 75, 100]
    assert spread(np.arange(3), 5).tolist() == [0, 1, 2]


def test_choose__wrong_ones_beside_right_ones():
    right = np.arange(100) % 10 != 0
    chosen = choose(right, np.ones(100, bool))
    assert (~right[chosen]).sum() == 10
    assert right[chosen].sum() == 12


def test_choose__unlabelled_images_are_spread():
    assert len(choose(np.zeros(100, bool), np.zeros(100, bool))) == 24


@pytest.mark.parametrize(("wrong", "shown"), [(0, 0), (2, 2), (12, 3)])
def test_with_map__half_of_them_wrong_where_there_are_so_many(wrong: int, shown: int):
    right = np.arange(24) >= wrong
    chosen = with_map(right, np.ones(24, bool))
    assert len(set(chosen.tolist())) == MOST_MAPS
    assert (~right[chosen]).sum() == shown


def test_with_map__every_example_where_there_are_few():
    assert with_map(np.array([True, False]), np.ones(2, bool)).tolist() == [0, 1]


def test_with_map__all_wrong():
    assert len(with_map(np.zeros(12, bool), np.ones(12, bool))) == MOST_MAPS // 2
