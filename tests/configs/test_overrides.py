from __future__ import annotations

from typing import Any

import pytest

from edgeproof_configs.overrides import apply_overrides


def changed(*overrides: str) -> dict[str, Any]:
    plain: dict[str, Any] = {"a": {"b": 1}, "c": [{"d": 1}, {"d": 2}], "e": None, "f": "text"}
    _, problems = apply_overrides(plain, overrides)
    assert problems == []
    return plain


def test_apply_overrides__values_are_yaml() -> None:
    plain = changed("a.b=1e-3", "f=[1, x]", "a.new={k: v}", "e=", "c.1.d=no")
    assert plain == {
        "a": {"b": 1e-3, "new": {"k": "v"}},
        "c": [{"d": 1}, {"d": "no"}],
        "e": None,
        "f": [1, "x"],
    }


def test_apply_overrides__an_equals_sign_in_the_value() -> None:
    assert changed("f=a=b")["f"] == "a=b"


def test_apply_overrides__a_list_grows_by_one() -> None:
    assert changed("c.2={d: 3}")["c"][2] == {"d": 3}
    assert changed("c.2.d=3")["c"][2] == {"d": 3}


def test_apply_overrides__missing_and_null_parents_become_mappings() -> None:
    plain = changed("x.y.z=1", "e.k=2")
    assert plain["x"] == {"y": {"z": 1}}
    assert plain["e"] == {"k": 2}


def test_apply_overrides__the_last_one_wins() -> None:
    assert changed("a.b=2", "a.b=3")["a"]["b"] == 3


def test_apply_overrides__returns_the_paths() -> None:
    paths, _ = apply_overrides({"c": [{}]}, ["c.0.d=1", "x=2"])
    assert paths == [("c", 0, "d"), ("x",)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "--set: a.b: expected key=value, for example train.epochs=3"),
        ("=3", "--set: =3: expected key=value, for example train.epochs=3"),
        ("a..b=3", "--set: a..b=3: expected key=value, for example train.epochs=3"),
        ("f.x=1", "--set: f.x: f is 'text' and has no key 'x'"),
        ("c.x=1", "--set: c.x: c is a list: expected an index from 0 to 2, got 'x'"),
        ("c.9=1", "--set: c.9: c is a list: expected an index from 0 to 2, got '9'"),
        ("c.-1=1", "--set: c.-1: c is a list: expected an index from 0 to 2, got '-1'"),
        ("a.b={", "--set: a.b: not YAML: a value is missing"),
    ],
)
def test_apply_overrides__what_cannot_be_set(override: str, message: str) -> None:
    plain = {"a": {"b": 1}, "c": [{"d": 1}, {"d": 2}], "f": "text"}
    _, problems = apply_overrides(plain, [override])
    assert [str(problem) for problem in problems] == [message]
