"""Captions: every phrasing that is true of an image, so that two images share the captions that fit both."""

from __future__ import annotations

from edgeproof_data.solids.spec import Pair

FINISHES = {"matte": ("matte", "dull"), "glossy": ("glossy", "shiny"), "metal": ("metal", "metallic")}
"""Material -> the words that captions use for it."""

PHRASINGS = (
    "a photo of a {finish} {colour} {shape}.",
    "a {other_finish} {colour} {shape}",
    "a photo of a {colour} {shape}.",
    "a {colour} {shape} on the ground",
    "something {colour}",
    "a photo of a {shape}.",
    "a {finish} {shape}",
    "a {other_finish} {colour} object",
)


def captions_of(pair: Pair, material: str) -> list[str]:
    """Return the captions of an image of this class and material, most telling first."""
    finish, other_finish = FINISHES[material]
    words = {"finish": finish, "other_finish": other_finish, "colour": pair.colour, "shape": pair.shape}
    captions = (phrasing.format(**words) for phrasing in PHRASINGS)
    return [caption.replace("a orange", "an orange") for caption in captions]
