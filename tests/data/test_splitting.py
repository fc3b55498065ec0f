from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.splitting import stratified_split


def names(count: int) -> list[str]:
    return [f"class/{number:04d}.jpg" for number in range(count)]


def test_stratified_split__shares_of_each_class():
    labels = np.repeat([0, 1, 2], [100, 40, 10])
    stay, out = stratified_split(names(150), labels, 0.1, seed=0)
    assert np.bincount(labels[out]).tolist() == [10, 4, 1]
    assert np.array_equal(np.sort(np.concatenate([stay, out])), np.arange(150))
    assert np.all(np.diff(out) > 0)


def test_stratified_split__small_classes_add_up_to_the_fraction_and_keep_one():
    labels = np.repeat(np.arange(100), 4)
    stay, out = stratified_split(names(400), labels, 0.1, seed=0)
    assert len(out) == 40
    assert np.bincount(labels[out]).max() == 1
    labels = np.array([0, 0, 1])
    stay, out = stratified_split(names(3), labels, 0.9, seed=0)
    assert sorted(labels[stay]) == [0, 1]


def test_stratified_split__at_least_one_image():
    assert len(stratified_split(names(6), np.zeros(6, np.int64), 0.01, seed=0)[1]) == 1


def test_stratified_split__seeded_and_independent_of_order():
    labels = np.repeat([0, 1], 50)
    paths = names(100)
    chosen = {paths[index] for index in stratified_split(paths, labels, 0.2, seed=3)[1]}
    again = {paths[index] for index in stratified_split(paths, labels, 0.2, seed=3)[1]}
    backwards = {paths[::-1][index] for index in stratified_split(paths[::-1], labels[::-1], 0.2, seed=3)[1]}
    other = {paths[index] for index in stratified_split(paths, labels, 0.2, seed=4)[1]}
    assert chosen == again == backwards
    assert chosen != other


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_stratified_split__fraction_out_of_range(fraction: float):
    with pytest.raises(ValueError, match="fraction"):
        stratified_split(names(4), np.zeros(4, np.int64), fraction, seed=0)
