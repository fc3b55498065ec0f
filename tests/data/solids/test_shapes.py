import numpy as np
import pytest

from edgeproof_data.solids.shapes import DISTANCES
from edgeproof_data.solids.spec import SHAPES


def some_points(count):
    return np.random.default_rng(0).uniform(-1.3, 1.3, (3, count)).astype(np.float32)


def test_distances__there_is_one_for_every_shape():
    assert tuple(DISTANCES) == SHAPES


@pytest.mark.parametrize("aspect", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("shape", SHAPES)
def test_distances__the_solid_lies_in_the_unit_ball(shape, aspect):
    points = some_points(50_000)
    inside = DISTANCES[shape](points, aspect) < 0
    assert inside.any()
    assert np.linalg.norm(points[:, inside], axis=0).max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_distances__never_grow_faster_than_the_way_walked(shape):
    points = some_points(20_000)
    step = np.random.default_rng(1).normal(0, 0.05, points.shape).astype(np.float32)
    change = np.abs(DISTANCES[shape](points + step, 1.1) - DISTANCES[shape](points, 1.1))
    assert (change <= np.linalg.norm(step, axis=0) + 1e-5).all()


@pytest.mark.parametrize(
    ("shape", "point", "expected"),
    [
        ("sphere", (2, 0, 0), 2 - 0.72),
        ("cube", (0, 0, 1), 1 - 0.56),
        ("cylinder", (0, 1.62, 0), 1.0),
        ("torus", (0, 0, 0), 0.95 - 2 * 0.25),
        ("capsule", (0, 0, 2), 2 - 0.98),
        ("cross", (1.9, 0, 0), 1.0),
    ],
)
def test_distances__agree_with_cases_worked_by_hand(shape, point, expected):
    points = np.array(point, np.float32)[:, None]
    assert DISTANCES[shape](points, 1.0)[0] == pytest.approx(expected, abs=1e-5)
