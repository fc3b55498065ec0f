from __future__ import annotations

from typing import Any

from tests.train.test_head_trials import sets

from edgeproof.head_table import notes_of, protocol_words, table, val_words
from edgeproof_train.head_trials import Trial


def trial(kind: str, shots: int | None, **given: Any) -> Trial:
    figures = {"top1": [0.5], "mean_per_class": [0.25]}
    return Trial(kind, shots, **({"figures": figures, "seconds": [0.1]} | given))


def test_table__figures_in_percent_and_reasons() -> None:
    lines = table([trial("gda", 4), trial("auto", None, reason="needs text")])
    assert lines[1].split() == ["gda", "4", "50.00", "25.00", "0.10"]
    assert lines[2].split(maxsplit=2) == ["auto", "all", "n/a: needs text"]


def test_val_words__as_many_images_as_there_were() -> None:
    assert val_words(
        [trial("gda", 1, val_images=5), trial("gda", 4, val_images=18), trial("zero_shot", 4)]
    ) == ("settings chosen on val images, 5 with 1, 18 with 4 shots a class (zero_shot: on none)")
    assert val_words([trial("gda", 1, val_images=5)]) == "settings chosen on 5 val images"
    assert val_words([trial("zero_shot", 4)]) == "no val images were looked at"
    assert val_words([trial("gda", 4, val_images=9, reason="no")]) == "no val images were looked at"


def test_protocol_words__shots_of_which_there_is_one_draw() -> None:
    several = {"figures": {"top1": [0.5, 0.6]}, "seconds": [0.1, 0.1]}
    words = protocol_words(sets(), [trial("gda", 4, **several), trial("gda", None)], 7, True)
    assert words.startswith(
        "2 draws of shots from seed 7 on, mean ± half of the 95 % interval (all shots: one draw"
    )
    assert "no text embeddings; 150 test images of 5 classes" in words
    assert "transductive" not in words
    assert "* transductive" in protocol_words(sets(), [trial("inmap", 4, transductive=True)], 0, True)


def test_notes_of__what_was_changed_and_classes_with_fewer() -> None:
    fewer = {"classes_with_fewer": {"a": 7, "b": 3}}
    found = [
        trial("gda", 12, given=fewer),
        trial("auto", 12, given=fewer),
        trial("gda", 4, given={"images": 20}),
    ]
    assert notes_of(sets(said=("test: normalised",)), found) == [
        "test: normalised",
        "12 shots: 2 classes have fewer: a 7, b 3",
    ]
