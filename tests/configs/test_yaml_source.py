from __future__ import annotations

import time
from typing import Any

import pytest

from edgeproof_configs.yaml_source import MAX_BYTES, dotted, entry, holds, parse_value, parse_yaml


def only_problem(text: str | bytes) -> str:
    document = parse_yaml(text if isinstance(text, bytes) else text.encode(), "r.yaml")
    assert len(document.problems) == 1, document.problems
    return str(document.problems[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("0x10", 16),
        ("012", 12),
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        ("-.inf", "-.inf"),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("/photos/my set", "/photos/my set"),
    ],
)
def test_parse_value__core_schema(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["{", "a: b: c", "[1", "!!python/name:os.system ''", "{a: 1, a: 2}"])
def test_parse_value__not_a_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_value(text)


def test_parse_yaml__lines_of_keys_and_items() -> None:
    document = parse_yaml(b"# head\na: 1\nb:\n  c:\n    - x\n    - {d: 2}\n", "r.yaml")
    assert document.plain == {"a": 1, "b": {"c": ["x", {"d": 2}]}}
    assert document.problems == []
    lines = {dotted(path): line for path, line in document.lines.items()}
    assert lines == {"": 2, "a": 2, "b": 3, "b.c": 4, "b.c.0": 5, "b.c.1": 6, "b.c.1.d": 6}


def test_parse_yaml__every_duplicate_key_is_told() -> None:
    document = parse_yaml(b"a: 1\nb: {c: 1, c: 2}\na: 3\n", "r.yaml")
    assert [str(problem) for problem in document.problems] == [
        "r.yaml:2: b.c: duplicate key: it stands on line 2 already",
        "r.yaml:3: a: duplicate key: it stands on line 1 already",
    ]
    assert document.plain == {"a": 1, "b": {"c": 1}}


def test_parse_yaml__aliases_are_plain_copies() -> None:
    document = parse_yaml(b"a: &x {b: [1]}\nc: *x\n", "r.yaml")
    assert document.plain == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert document.plain["a"] is not document.plain["c"]


def test_parse_yaml__byte_order_mark_is_read_over() -> None:
    assert parse_yaml("a: é\n".encode("utf-8-sig"), "r.yaml").plain == {"a": "é"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml:1: the recipe is empty"),
        ("# only a comment\n", "r.yaml:1: the recipe is empty"),
        ("- a\n", "r.yaml:1: a recipe is a mapping of keys to values at its top level"),
        ("just words", "r.yaml:1: a recipe is a mapping of keys to values at its top level"),
        ("a: 1\nb: [1, 2\nc: 3\n", "r.yaml:3: not YAML: a ',' or the closing bracket is missing"),
        ("a: 1\nb: c: d\n", "r.yaml:2: not YAML: unexpected ':', a value that contains ': ' needs quotes"),
        ("a:\n\tb: 1\n", "r.yaml:2: not YAML: a tab cannot indent"),
        ("a:\n  b: 1\n c: 2\n", "r.yaml:3: not YAML: the indentation does not fit the lines above"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: not YAML: a recipe is one document"),
        ("a: *missing\n", "r.yaml:1: not YAML: found undefined alias 'missing'"),
        (
            "a: 1\nb: !!python/name:os.system ''\n",
            "r.yaml:2: the tag 'tag:yaml.org,2002:python/name:os.system'",
        ),
        ("a: 1\nb: \x07\n", "r.yaml:2: not text: the control character 0x07"),
        ("a: &x\n  - *x\n", "r.yaml:1: an alias contains itself"),
        ("? [a]\n: 1\n", "r.yaml:1: a key is a word, not a list or a mapping"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "r.yaml:3: c: merge keys (<<) are not allowed: write the keys out"),
        ("[" * 5000, "r.yaml:1: nested deeper than 50 levels"),
    ],
)
def test_parse_yaml__refused_with_its_line(text: str, message: str) -> None:
    assert only_problem(text).startswith(message)


def test_parse_yaml__not_utf8() -> None:
    assert only_problem("a: 1\nname: caf\xe9\n".encode("latin-1")) == (
        "r.yaml:2: not UTF-8 text: byte 0xe9 cannot stand there; save the file as UTF-8"
    )
    assert "not UTF-8" in only_problem("a: 1\n".encode("utf-16"))


def test_parse_yaml__huge_file() -> None:
    assert "larger than 256 KB" in only_problem(b"#" * (MAX_BYTES + 1))


def test_parse_yaml__aliases_that_explode() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 10)]
    started = time.monotonic()
    problem = only_problem("\n".join(["l0: &l0 [x, x]", *levels]))
    assert "aliases expand to more than a recipe can hold" in problem
    assert time.monotonic() - started < 30, "the expansion was not cut"


def test_parse_yaml__long_text_repeated_by_aliases() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 100)}]\n"
    assert "aliases expand to more than a recipe can hold" in only_problem(text)


@pytest.mark.parametrize(
    ("data", "key", "there"),
    [
        ({"a": 1}, "a", True),
        ({"a": 1}, "b", False),
        ([7], 0, True),
        ([7], 1, False),
        ([7], "0", False),
        ("a", 0, False),
    ],
)
def test_holds__keys_and_indices(data: Any, key: object, there: bool) -> None:
    assert holds(data, key) is there
    if there:
        assert entry(data, key) == data[key]
