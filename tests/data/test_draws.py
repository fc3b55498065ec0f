from __future__ import annotations

import numpy as np
import pytest

from edgeproof_data.draws import COLUMNS, permutation, uniforms


def splitmix64(state: int, steps: int) -> int:
    """The generator as published: the output after `steps` more steps."""
    mask = (1 << 64) - 1
    value = 0
    for _ in range(steps):
        state = (state + 0x9E3779B97F4A7C15) & mask
        value = state
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        value ^= value >> 31
    return value


def test_uniforms__are_splitmix64_at_a_counter():
    # 0xe220a8397b1dcdaf is the published first output for the seed 0.
    assert splitmix64(0, 1) == 0xE220A8397B1DCDAF
    seed, epoch, image, column = 5, 3, 7, 2
    stream = splitmix64(splitmix64(seed, 1) + epoch, 1)
    expected = (splitmix64(stream, image * COLUMNS + column) >> 11) * 2.0**-53
    assert uniforms(seed, epoch, np.array([image]), 4)[0, column] == expected


def test_uniforms__depend_on_seed_epoch_image_and_column_only():
    whole = uniforms(1, 2, np.arange(50), 8)
    some = np.array([44, 3, 17])
    assert np.array_equal(uniforms(1, 2, some, 3), whole[some, :3])
    assert np.array_equal(uniforms(1, 2, some, 3, first=4), whole[some, 4:7])
    assert len(np.unique(whole)) == 400
    assert not np.any(whole == uniforms(1, 3, np.arange(50), 8))
    assert not np.any(whole == uniforms(2, 2, np.arange(50), 8))


def test_uniforms__look_uniform():
    drawn = uniforms(0, 0, np.arange(20_000), 4)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.all(np.abs(drawn.mean(axis=0) - 0.5) < 0.01)
    assert np.all(np.abs(np.corrcoef(drawn.T) - np.eye(4)) < 0.03)


def test_uniforms__too_many_columns():
    for columns, first in ((COLUMNS + 1, 0), (0, 0), (2, COLUMNS - 1), (1, -1)):
        with pytest.raises(ValueError, match="columns"):
            uniforms(0, 0, np.arange(2), columns, first=first)


def test_permutation__of_everything_and_new_each_epoch():
    first, second = permutation(0, 0, 1000), permutation(0, 1, 1000)
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, permutation(0, 0, 1000))
    assert np.array_equal(first, np.argsort(uniforms(0, 0, np.arange(1000), COLUMNS)[:, -1]))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
