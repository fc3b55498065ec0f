from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.prompts import TEMPLATES, clean_name, prompts_for, read_labels, read_templates


@pytest.mark.parametrize(
    ("name", "words"),
    [("stop_sign", "stop sign"), ("_a__b_", "a b"), (" red  cube ", "red cube"), ("Leopards", "Leopards")],
)
def test_clean_name__words(name: str, words: str):
    assert clean_name(name) == words


def test_prompts_for__braces_in_a_name_are_left_alone():
    assert prompts_for("{0} sign", ["a {}.", "the {} {}"]) == ["a {0} sign.", "the {0} sign {0} sign"]


def test_templates__are_those_of_clip():
    from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    assert list(prompts_for("dog", TEMPLATES["imagenet80"])) == [
        make("dog") for make in OPENAI_IMAGENET_TEMPLATES
    ]
    assert list(prompts_for("dog", TEMPLATES["imagenet7"])) == [
        make("dog") for make in SIMPLE_IMAGENET_TEMPLATES
    ]
    assert TEMPLATES["imagenet"] is TEMPLATES["imagenet80"]


def test_read_templates__by_name_or_from_a_file(tmp_path: Path):
    assert read_templates("plain") == ["a photo of a {}."]
    (tmp_path / "mine.txt").write_text("a {} seen from above\nthe {}\n")
    assert read_templates("mine.txt", tmp_path) == ["a {} seen from above", "the {}"]


def test_read_templates__unknown_or_without_a_place(tmp_path: Path):
    with pytest.raises(DataError, match=r"neither a template set nor a file\. Did you mean 'imagenet7'"):
        read_templates("imagnet7", tmp_path)
    (tmp_path / "mine.txt").write_text("the {}\na photo\n")
    with pytest.raises(DataError, match="class name: line 2"):
        read_templates("mine.txt", tmp_path)


def test_read_labels__cleaned_in_order(tmp_path: Path):
    (tmp_path / "labels.txt").write_bytes("\ufeffstop_sign\r\nred cube\r\nÄpfel\r\n".encode())
    assert read_labels(tmp_path / "labels.txt") == ["stop sign", "red cube", "Äpfel"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\nb\n", "blank lines: line 2"),
        (b"a b\nc\na_b\n", r"the same class twice: 'a b' \(lines 1 and 3\)"),
        (b"", "empty"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
    ],
)
def test_read_labels__says_what_is_wrong_and_where(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.txt")


def test_read_labels__missing(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_labels(tmp_path / "gone.txt")
