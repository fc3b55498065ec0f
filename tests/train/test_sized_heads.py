"""Fitting heads that have to fit into so many bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.train.heads.few_shot_case import few_shot_case

from edgeproof_configs.errors import DataError
from edgeproof_train.heads.auto import Auto
from edgeproof_train.heads.evidence import Evidence, Rows
from edgeproof_train.heads.proker import ProKeR
from edgeproof_train.heads.tip_adapter import TipAdapter
from edgeproof_train.sized_heads import fit_to_size

UNSEEN = ("class 4",)


def case() -> Evidence:
    """Return the case with a class that has no shots, so that gamma is a row of its own."""
    evidence = few_shot_case(shots=30)
    assert evidence.shots is not None
    seen = evidence.shots.labels < 4
    return replace(evidence, shots=Rows(*(part[seen] for part in evidence.shots)))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("part", [0.9, 0.5, 0.3])
def test_fit_to_size__proker_with_as_many_keys_as_fit(part: float, half: bool) -> None:
    evidence = case()
    whole = fit_to_size(ProKeR.Config(half=half), evidence, UNSEEN)[1]
    most = int(part * len(whole.data))
    fitted, found = fit_to_size(ProKeR.Config(half=half, max_bytes=most), evidence, UNSEEN)
    assert len(found.data) <= most
    keys = fitted.chosen["keys"]
    assert found.notes[0] == f"fitted again with {keys} keys of 120 to fit {most} bytes"
    assert set(found.notes) <= set(fitted.notes)
    assert 4 < keys < 120
    assert evidence.val is not None
    right = (found.head(evidence.val.features).argmax(axis=1) == evidence.val.labels).mean()
    assert right > 0.6


def test_fit_to_size__the_smallest_size_that_is_told_is_enough() -> None:
    with pytest.raises(DataError, match=r"\d keys for 4 classes") as caught:
        fit_to_size(ProKeR.Config(max_bytes=1000), case(), UNSEEN)
    assert caught.value.fix is not None
    least = int(caught.value.fix.split()[1])
    fitted, found = fit_to_size(ProKeR.Config(max_bytes=least), case(), UNSEEN)
    assert (fitted.chosen["keys"], len(found.data) <= least) == (4, True)


def test_fit_to_size__merged_keys_are_said() -> None:
    fitted, found = fit_to_size(TipAdapter.Config(half=True, max_bytes=4000), case(), UNSEEN)
    assert fitted.notes[-2:] == found.notes
    assert found.notes[0].startswith("120 keys merged to ")
    assert found.notes[1] == "keys in half precision"
    assert np.array_equal(found.head.arrays()["keys"].shape, [int(found.notes[0].split()[4]), 16])


def test_fit_to_size__a_kind_that_chose_the_cache_itself_is_no_cache_with_such_a_setting() -> None:
    candidates = (ProKeR.Config(), ProKeR.Config(beta=1.0))
    with pytest.raises(DataError, match=r"name the kind \(head.kind: proker\)"):
        fit_to_size(Auto.Config(candidates=candidates, max_bytes=2000), few_shot_case(), ())
