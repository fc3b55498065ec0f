from edgeproof_data.solids.captions import captions_of
from edgeproof_data.solids.spec import MATERIALS, PAIRS, Pair


def test_captions_of__names_colour_shape_and_finish():
    assert captions_of(Pair("red", "cube"), "glossy")[0] == "a photo of a glossy red cube."
    assert "a shiny red cube" in captions_of(Pair("red", "cube"), "glossy")


def test_captions_of__has_the_right_article():
    captions = captions_of(Pair("orange", "cone"), "matte")
    assert "a photo of an orange cone." in captions
    assert not any("a orange" in caption for caption in captions)


def test_captions_of__are_distinct_and_colour_alone_and_shape_alone_are_shared():
    for material in MATERIALS:
        captions = captions_of(Pair("blue", "cone"), material)
        assert len(set(captions)) == len(captions)
    same_colour = set(captions_of(Pair("blue", "cone"), "matte")) & set(
        captions_of(Pair("blue", "cube"), "glossy")
    )
    same_shape = set(captions_of(Pair("blue", "cone"), "matte")) & set(
        captions_of(Pair("red", "cone"), "glossy")
    )
    assert same_colour == {"something blue"}
    assert same_shape == {"a photo of a cone."}


def test_captions_of__no_seen_pair_is_told_by_a_caption_of_another():
    told = [
        caption for pair in PAIRS if not pair.held_out for m in MATERIALS for caption in captions_of(pair, m)
    ]
    for pair in PAIRS:
        assert any(pair.name in caption for caption in told) != pair.held_out
