import numpy as np
import pytest

from edgeproof_data.solids.shapes import distance_of
from edgeproof_data.solids.trace import light_reaching, normals, trace, turn

BALL = distance_of("sphere", 1.0)
RADIUS = 0.72


def columns(*vectors):
    return np.array(vectors, np.float32).T


def test_trace__meets_a_ball_where_the_quadratic_formula_says():
    offsets = np.linspace(0, 0.6, 7, dtype=np.float32)
    origins = np.stack([np.full(7, -3, np.float32), offsets, np.zeros(7, np.float32)])
    reach = trace(BALL, origins, np.repeat(columns((1, 0, 0)), 7, axis=1))
    assert reach == pytest.approx(3 - np.sqrt(RADIUS**2 - offsets**2), abs=0.012)


def test_trace__a_miss_is_infinitely_far():
    rays = columns((1, 0, 0), (-1, 0, 0))
    assert np.isinf(trace(BALL, columns((-3, 0.9, 0), (-3, 0, 0)), rays)).all()


def test_light_reaching__none_behind_the_ball_all_beside_it():
    points = columns((-2, 0, 0), (-2, 1.5, 0), (2, 0, 0))
    assert light_reaching(BALL, points, columns((1, 0, 0))) == pytest.approx([0, 1, 1], abs=1e-6)


def test_normals__point_away_from_the_centre_of_a_ball():
    directions = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    np.testing.assert_allclose(normals(BALL, directions * np.float32(RADIUS)), directions, atol=2e-3)


def test_turn__is_the_matrix_product():
    random = np.random.default_rng(0)
    matrix, vectors = (
        random.normal(size=(3, 3)).astype(np.float32),
        random.normal(size=(3, 9)).astype(np.float32),
    )
    np.testing.assert_allclose(turn(matrix, vectors), matrix @ vectors, rtol=1e-5, atol=1e-6)
