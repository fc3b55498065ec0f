from __future__ import annotations

import pytest

from edgeproof.head_kinds import heads_of, split_outside
from edgeproof_configs.errors import UsageError


def test_heads_of__all_are_those_that_need_no_settings() -> None:
    found = heads_of("all")
    assert {"zero_shot", "gda", "nearest_mean"} <= set(found)
    assert "ensemble" not in found
    assert heads_of("gda:use_text=false")["gda:use_text=false"].model_dump()["use_text"] is False


def test_heads_of__members_in_brackets() -> None:
    found = heads_of("ensemble:members=[{kind: gda, use_text: false}, {kind: logistic}]:use_text=false, gda")
    ensemble, other = found.values()
    assert [one["kind"] for one in ensemble.model_dump()["members"]] == ["gda", "logistic"]
    assert ensemble.model_dump()["use_text"] is False
    assert (other.kind, list(found)[1]) == ("gda", "gda")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gda:alpha=[", "head gda: a value cannot be read"),
        ("gda:shots=1", "head gda: shots has no effect here: it is for recipes"),
        ("gda:views=10", "head gda: views has no effect here"),
        ("zero_shot:templates=clip80", "head zero_shot: templates has no effect here"),
        ("ensemble:members=[{kind: gda, views: 3}, {kind: logistic}]", "head ensemble: views is for recipes"),
        ("ensemble:members=[{kind: gdaa}, {kind: logistic}]", "gdaa"),
        ("ensemble:members=[{kind: gda, 1: 2}, {kind: logistic}]", "head ensemble: "),
        ("gda:use_text=2024-13-45", "head gda: "),
    ],
)
def test_heads_of__refused_in_words(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        heads_of(words)


def test_split_outside__brackets_hold_together() -> None:
    assert split_outside("a, b:c=[1,{d: 2}],e", ",") == ["a", "b:c=[1,{d: 2}]", "e"]
    assert split_outside("b:c={d: 2}:e", ":") == ["b", "c={d: 2}", "e"]
