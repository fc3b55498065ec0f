from __future__ import annotations

import re
from typing import Any

import numpy as np

from edgeproof_benchmarks.answer_data import Space, read_space
from edgeproof_benchmarks.space_chart import COLOURS, SIDE, coloured, placed, space_chart, space_legend


def shown(made_up: Any, classes: int, images: int) -> Space:
    return read_space(made_up.embedding(classes, images))


def test_coloured__all_where_there_are_few(made_up: Any):
    assert coloured(shown(made_up, 12, 60)) == list(range(12))


def test_coloured__the_largest_then_an_even_part_of_the_others():
    labels = tuple(f"c{index:02d}" for index in range(40))
    label = np.concatenate([np.arange(40), [7, 7, 30]])
    found = coloured(Space("embeddings", 8, 43, labels, label, frozenset(), ()))
    assert len(found) == COLOURS
    assert {0, 7, 30, 39} <= set(found)


def test_coloured__images_without_a_label_have_no_colour():
    assert coloured(Space("embeddings", 8, 3, (None, "a"), np.array([0, 0, 1]), frozenset(), ())) == [1]


def test_placed__keeps_proportions_and_the_direction_of_the_axes():
    points = placed(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    assert points.min() >= 0
    assert points.max() <= SIDE
    right, up = points[1] - points[0], points[2] - points[0]
    assert right[0] > 0 > up[1]
    np.testing.assert_allclose(right[0], -2 * up[1])


def test_placed__a_single_place():
    np.testing.assert_allclose(placed(np.zeros((3, 2))), SIDE / 2)


def test_space_chart__every_image_once_and_held_out_ones_as_triangles(made_up: Any):
    found = shown(made_up, 20, 200)
    source = space_chart(found, found.pictures[0])
    paths = re.findall(r'<path d="([^"]*)"[^>]* class="(\w+) (\w+)"', source)
    assert len(paths) == 20
    assert sum(d.count("M") for d, _, _ in paths) == 200
    assert sum(d.count("z") for d, kind, _ in paths if kind == "tri") == 4 * 10
    assert len({style for _, _, style in paths}) == COLOURS + 1


def test_space_legend__names_the_colours_and_counts_the_others(made_up: Any):
    source = space_legend(shown(made_up, 20, 200))
    assert "8 other classes" in source
    assert source.count("<em>") == sum("tri" in part for part in source.split("<path")[1:])
    assert "other" not in space_legend(shown(made_up, 6, 60))


def test_space_legend__images_without_labels():
    source = space_legend(Space("embeddings", 8, 2, (None,), np.array([0, 0]), frozenset(), ()))
    assert "no label" in source
