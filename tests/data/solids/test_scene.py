from colorsys import rgb_to_hsv
from itertools import pairwise

import numpy as np
import pytest

from edgeproof_data.solids.scene import GAMMA, PAINTS, draw_solid, draw_view, linear
from edgeproof_data.solids.spec import COLOURS, MATERIALS, Pair


def generator(seed=0):
    return np.random.default_rng(seed)


def lean_degrees(view):
    return np.degrees(np.arccos(np.clip(view.pose[2, 2], -1, 1)))


def test_draw_solid__shades_of_two_colours_never_meet():
    assert tuple(PAINTS) == COLOURS
    hues = {}
    for colour in COLOURS:
        solids = [draw_solid(Pair(colour, "cube"), "matte", generator(seed)) for seed in range(60)]
        shades = np.array([rgb_to_hsv(*(solid.albedo[:, 0] ** (1 / GAMMA))) for solid in solids])
        assert (shades[:, 1] < 0.1).all() if colour == "white" else (shades[:, 1] > 0.5).all()
        hues[colour] = (shades[:, 0] * 360 + 60) % 360
    ends = sorted((values.min(), values.max()) for colour, values in hues.items() if colour != "white")
    assert all(right[0] - left[1] > 10 for left, right in pairwise(ends))


def test_draw_solid__unknown_material_is_refused():
    with pytest.raises(ValueError, match="wooden"):
        draw_solid(Pair("red", "cube"), "wooden", generator())


def test_draw_solid__is_the_same_for_the_same_stream():
    first, second = (draw_solid(Pair("red", "cube"), MATERIALS[0], generator(3)) for _ in range(2))
    assert first.aspect == second.aspect
    np.testing.assert_array_equal(first.albedo, second.albedo)


def test_draw_view__rotations_are_rotations():
    view = draw_view(180.0, generator())
    for rotation in (view.pose, view.look):
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(view.pose) == pytest.approx(1, abs=1e-5)


def test_draw_view__leans_no_further_than_asked():
    leans = [lean_degrees(draw_view(40.0, generator(i))) for i in range(200)]
    assert max(leans) <= 40.1
    assert max(leans) > 35
    assert lean_degrees(draw_view(0.0, generator())) == pytest.approx(0, abs=0.1)


def test_draw_view__camera_and_lamp_are_above_the_ground():
    views = [draw_view(40.0, generator(i)) for i in range(50)]
    assert all(view.eye[2, 0] > 0 and view.light[2, 0] > 0 for view in views)
    assert all(np.linalg.norm(view.light) == pytest.approx(1, abs=1e-5) for view in views)


def test_linear__black_and_white_stay():
    np.testing.assert_array_equal(linear(np.array([0.0, 1.0, 2.0])), [0, 1, 1])
