from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproof_data.prompts import read_labels, read_prompts

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    file = tmp_path / "names.csv"
    file.write_text("label,synonyms,hint\ncrane,grus,wading bird\ncrane,,lifting machine\nsea_lion,,\n")
    return file


def test_prompts__labels_and_sentences_that_other_commands_read(
    names: Path, tmp_path: Path, edgeproof: Run
) -> None:
    out = tmp_path / "words.txt"
    code, told, err = edgeproof("data", "prompts", names, out)
    assert (code, err) == (0, "")
    assert "3 classes, 4 sentences" in told
    assert "'crane' is several classes: crane (wading bird), crane (lifting machine)" in told
    assert read_labels(out) == ["crane (wading bird)", "crane (lifting machine)", "sea lion"]
    assert read_prompts(out.with_suffix(".csv")) == {
        "crane (wading bird)": ["a photo of a crane (wading bird).", "a photo of a grus."],
        "crane (lifting machine)": ["a photo of a crane (lifting machine)."],
        "sea lion": ["a photo of a sea lion."],
    }
    assert read_prompts(out)["sea lion"] == ["sea lion"]


def test_prompts__options_and_json(names: Path, tmp_path: Path, edgeproof: Run) -> None:
    out = tmp_path / "words.txt"
    code, told, _ = edgeproof(
        "data", "prompts", names, out, "--templates", "imagenet7", "--no-synonyms", "--json"
    )
    assert code == 0
    assert json.loads(told)["sentences"] == 21
    code, _, err = edgeproof("data", "prompts", names, out)
    assert (code, "exists and is not overwritten" in err) == (2, True)
    code, _, err = edgeproof("data", "prompts", names, tmp_path / "words.csv")
    assert (code, "labels are written as .txt" in err) == (2, True)
    code, _, err = edgeproof("data", "prompts", tmp_path / "nothing", tmp_path / "w.txt")
    assert (code, "no such file or folder" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label\na\n", "no column prompt"),
        ("label,prompt\n", "this file is empty"),
        ("label,prompt\na,\n", "a row without label or prompt"),
        ("label,prompt\na,x\na,x\n", "the same prompt again"),
    ],
)
def test_read_prompts__unusable(text: str, words: str, tmp_path: Path) -> None:
    from edgeproof_configs.errors import DataError

    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        read_prompts(file)
