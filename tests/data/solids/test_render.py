from colorsys import rgb_to_hsv
from dataclasses import replace

import numpy as np
import pytest

from edgeproof_data.solids.render import render
from edgeproof_data.solids.scene import draw_solid, draw_view
from edgeproof_data.solids.spec import MATERIALS, SHAPES, Pair


def scene(pair, material="matte", seed=0):
    random = np.random.default_rng(seed)
    return draw_solid(pair, material, random), draw_view(20.0, random)


def object_mask(solid, view, size):
    """Where the image changes with the object's paint."""
    black = replace(solid, albedo=np.zeros((3, 1), np.float32))
    return np.abs(render(solid, view, size).astype(int) - render(black, view, size)).max(axis=2) > 8


@pytest.mark.parametrize("shape", SHAPES)
def test_render__the_object_is_in_the_picture_and_does_not_fill_it(shape):
    solid, view = scene(Pair("red", shape))
    assert 0.02 < object_mask(solid, view, 48).mean() < 0.6


def test_render__is_an_rgb_image_of_the_size_asked():
    solid, view = scene(Pair("red", "cube"))
    image = render(solid, view, 40)
    assert image.shape == (40, 40, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize(("colour", "hue"), [("red", 0), ("green", 125), ("blue", 225)])
def test_render__the_paint_shows(colour, hue, material):
    solid, view = scene(Pair(colour, "sphere"), material)
    pixels = render(solid, view, 48)[object_mask(solid, view, 48)]
    seen = rgb_to_hsv(*np.median(pixels, axis=0) / 255)[0] * 360
    assert abs((seen - hue + 180) % 360 - 180) < 20


def test_render__materials_differ_in_highlights_only_on_the_object():
    solid, view = scene(Pair("blue", "sphere"))
    matte, glossy = (render(replace(solid, material=material), view, 48) for material in ("matte", "glossy"))
    beside = ~object_mask(solid, view, 48)
    beside[1:] &= beside[:-1]
    assert glossy.max() > matte[object_mask(solid, view, 48)].max()
    assert (np.abs(matte.astype(int) - glossy).max(axis=2) > 8)[~object_mask(solid, view, 48)].sum() < 40


def test_render__the_object_throws_a_shadow():
    solid, view = scene(Pair("white", "cube"))
    shadowless = replace(view, light=view.light * np.array([[-1], [-1], [1]], np.float32))
    ground = ~object_mask(solid, view, 48) & ~object_mask(solid, shadowless, 48)
    there, moved = (render(solid, v, 48).astype(int).sum(axis=2) for v in (view, shadowless))
    assert (np.abs(there - moved)[ground] > 60).sum() > 20


def test_render__a_ball_does_not_care_how_it_is_turned():
    solid, view = scene(Pair("cyan", "sphere"))
    turned = replace(view, pose=draw_view(180.0, np.random.default_rng(9)).pose)
    difference = np.abs(render(solid, view, 48).astype(int) - render(solid, turned, 48))
    assert np.quantile(difference, 0.99) <= 4


def test_render__twice_the_size_is_the_same_picture():
    solid, view = scene(Pair("yellow", "torus"))
    large = render(solid, view, 96).astype(float).reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(large - render(solid, view, 48)).mean() < 4
