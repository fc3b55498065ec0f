from __future__ import annotations

from typing import Any

import pytest
from tests.train.heads.few_shot_case import few_shot_case

from edgeproof_train.head_evidence import Gathered
from edgeproof_train.head_stage import described, head_line, shots_line
from edgeproof_train.heads.fitting import config_of, fit_kind

FEWER = {"classes_with_fewer": {"cat": 7}}


@pytest.mark.parametrize(
    ("shots", "words"),
    [
        ({"per_class": 4, "fewest": 4, "most": 4}, "4"),
        ({"per_class": 4, "most": 4, "classes_with_fewer": {"held out": 0}}, "4"),
        ({"per_class": 12, "fewest": 7, "most": 12, **FEWER}, "7 to 12 (12 asked for)"),
        ({"per_class": 100_000, "fewest": 7, "most": 7, **FEWER}, "7 (100000 asked for)"),
    ],
)
def test_shots_line__what_there_is(shots: dict[str, Any], words: str) -> None:
    assert shots_line(shots) == words


def test_head_line__says_the_shots_that_there_are() -> None:
    shots = {"split": "train", "seed": 1, "views": 1, "per_class": 100_000, "fewest": 7, "most": 60, **FEWER}
    seen = {"on": "student", "shots": shots, "text": False}
    told = {"kind": "gda", "evidence": seen, "chosen": {}, "transductive": False}
    assert head_line(told).startswith("gda on 7 to 60 (100000 asked for) shots a class (seed 1)")


@pytest.mark.parametrize("kind", ["gda", "zero_shot", "auto"])
def test_described__changed_features_are_said_once(kind: str) -> None:
    evidence = few_shot_case()
    fitted = fit_kind(config_of(kind), evidence)
    notes = described(Gathered(evidence, {}), fitted)["notes"]
    assert [note for note in notes if "normalised" in note] == list(evidence.said)
    assert len(evidence.said) == 3


def test_head_line__merged_keys_and_half_precision() -> None:
    notes = ["576 keys merged to 251 to fit 100000 bytes", "keys in half precision"]
    told: dict[str, Any] = {
        "kind": "tip_adapter",
        "evidence": {"on": "student", "text": True},
        "chosen": {"alpha": 0.5},
        "transductive": False,
    }
    before = "tip_adapter of the student's embeddings and its words (alpha 0.5)"
    assert head_line(told) == before
    assert head_line(told | {"stored": {"bytes": 99912, "notes": []}}) == before
    stored = {"bytes": 99912, "notes": notes}
    assert head_line(told | {"stored": stored}) == f"{before} [{', '.join(notes)}]"
