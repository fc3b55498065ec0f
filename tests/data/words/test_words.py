from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.words import wordnet
from edgeproof_data.words.builtin import BUILT_IN
from edgeproof_data.words.classes import ClassWords, read_classes
from edgeproof_data.words.sentences import sentences, told_apart, too_long, with_descriptions
from edgeproof_data.words.wordnet import is_wnid, sense_of, senses_of


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget what WordNet and tables said, before and after."""
    for table in (wordnet._wordnet, wordnet._timm_tables):
        table.cache_clear()
    return monkeypatch


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_sense_of__the_built_in_list(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(wordnet, "find_spec", lambda name: None)
    found = sense_of("n01443537")
    assert found is not None
    assert found == (("goldfish", "Carassius auratus"), "freshwater fish", "the built-in list")
    assert sense_of("n00000001") is None
    with pytest.raises(DataError, match="1 WordNet id not known here: n00000001"):
        senses_of(["n01443537", "n00000001"])
    for table in (wordnet._wordnet, wordnet._timm_tables):
        table.cache_clear()


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_built_in__agrees_with_the_tables_of_imagenet() -> None:
    for wnid, (names, _) in BUILT_IN.items():
        told = wordnet._from_timm(wnid)
        assert told is not None, wnid
        assert {name.lower() for name in told.names} & {name.lower() for name in names.split(", ")}, wnid


def tiny_wordnet(folder: Path) -> dict[str, str]:
    """Write a WordNet of four nouns in its own format, and return their ids: a synset's id is its offset."""
    folder.mkdir(parents=True)
    lines, ids, offset = [], {}, 0
    for name, words, gloss in (
        ("bird", ["wading_bird"], "a bird that wades"),
        ("machine", ["lifting_device"], "a device for lifting"),
        ("crane_b", ["crane", "grus"], "large bird"),
        ("crane_m", ["crane"], "lifts and moves heavy objects"),
    ):
        parent = {"crane_b": "bird", "crane_m": "machine"}.get(name)
        pointer = f"001 @ {ids[parent][1:]} n 0000" if parent else "000"
        listed = " ".join(f"{word} 0" for word in words)
        line = f"{offset:08d} 05 n {len(words):02x} {listed} {pointer} | {gloss}  \n"
        ids[name] = f"n{offset:08d}"
        lines.append(line)
        offset += len(line.encode())
    (folder / "data.noun").write_text("".join(lines))
    (folder / "lexnames").write_text("".join(f"{place:02d}\tnoun.{place}\t1\n" for place in range(45)))
    index = []
    for word in ("wading_bird", "lifting_device", "crane", "grus"):
        places = [line[:8] for line in lines if f" {word} 0 " in line]
        index.append(f"{word} n {len(places)} 1 @ {len(places)} 0 {' '.join(places)}  \n")
    (folder / "index.noun").write_text("".join(index))
    for kind in ("noun", "verb", "adj", "adv"):
        for stem in ("index", "data"):
            if not (folder / f"{stem}.{kind}").exists():
                (folder / f"{stem}.{kind}").write_text("")
        (folder / f"{kind}.exc").write_text("")
    for name in ("cntlist.rev", "index.sense"):
        (folder / name).write_text("")
    return ids


def test_sense_of__wordnet_where_its_data_is(tmp_path: Path) -> None:
    """In a process of its own: nltk looks once for its data."""
    pytest.importorskip("nltk")
    ids = tiny_wordnet(tmp_path / "corpora" / "wordnet")
    listed = write(tmp_path / "ids.txt", f"{ids['crane_b']}\n{ids['crane_m']}\n")
    code = (
        "import sys, pathlib; from edgeproof_data.words.classes import read_classes;"
        "from edgeproof_data.words.sentences import told_apart;"
        "from edgeproof_data.words.wordnet import sense_of;"
        "print(told_apart(read_classes(pathlib.Path(sys.argv[1]))).classes, sense_of(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(listed), ids["crane_b"]],
        env={**os.environ, "NLTK_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "crane (wading bird)" in done.stdout, done.stderr
    assert "crane (lifting device)" in done.stdout
    assert "Sense(names=('crane', 'grus'), hint='wading bird', source='WordNet')" in done.stdout


def test_read_classes__every_kind_of_source(tmp_path: Path) -> None:
    plain = read_classes(write(tmp_path / "a.txt", "sea lion\nstop_sign, traffic sign\nn02391049 zebra\n"))
    assert plain == [
        ClassWords("sea lion"),
        ClassWords("stop sign", ("traffic sign",)),
        ClassWords("zebra"),
    ]
    table = read_classes(write(tmp_path / "a.csv", 'label,synonyms,hint\ncrane,"grus, x",bird\nhen,,\n'))
    assert table == [ClassWords("crane", ("grus", "x"), "bird"), ClassWords("hen")]
    images = read_classes(write(tmp_path / "b.csv", "path,label\n1.jpg,hen\n2.jpg,hen\n3.jpg,cock\n"))
    assert [one.name for one in images] == ["hen", "cock"]
    for name in ("Straßenbahn", "big_dog, small"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
    folders = read_classes(tmp_path / "data")
    assert [one.words for one in folders] == [("Straßenbahn",), ("big dog, small",)]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "this file is empty"),
        ("a.txt", "a\n\nb\n", "blank lines: line 2"),
        ("a.txt", ", \n", "a class without a name"),
        ("a.csv", "x,y\n1,2\n", "no column label, class, name"),
        ("a.csv", "label\n", "this table has no row"),
        ("a.csv", "label,hint\n ,bird\n", "a row without a label"),
    ],
)
def test_read_classes__unusable(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read_classes(write(tmp_path / name, text))


def test_told_apart__hints_synonyms_and_what_cannot_be() -> None:
    cranes = [ClassWords("crane", ("bird",), "wading bird"), ClassWords("crane", ("derrick", "lift"))]
    found = told_apart([*cranes, ClassWords("elevator", ("lift",))])
    assert [one.name for one in found.classes] == ["crane (wading bird)", "crane (derrick)", "elevator"]
    assert found.renamed == [("crane", "crane (wading bird)"), ("crane", "crane (derrick)")]
    assert found.shared == ["lift"]
    assert found.classes[2].synonyms == ()
    with pytest.raises(DataError, match="nothing tells them apart: crane"):
        told_apart([ClassWords("crane"), ClassWords("crane")])


def test_sentences__synonyms_articles_and_descriptions(tmp_path: Path) -> None:
    classes = [ClassWords("airliner", ("jet",)), ClassWords("hen")]
    assert sentences(classes, ["a photo of a {}.", "A {}"], articles=True) == {
        "airliner": ["a photo of an airliner.", "An airliner", "a photo of a jet.", "A jet"],
        "hen": ["a photo of a hen.", "A hen"],
    }
    assert sentences(classes, ["{}"], synonyms=False)["airliner"] == ["airliner"]
    described = write(tmp_path / "d.json", json.dumps({"hen": ["A hen has feathers."]}))
    assert sentences(with_descriptions(classes, described), ["{}"])["hen"] == ["hen", "A hen has feathers."]
    for text, words in (("[]", "expected"), ('{"cat": ["x"]}', "classes that there are not"), ("{", "JSON")):
        with pytest.raises(DataError, match=words):
            with_descriptions(classes, write(described, text))


def test_too_long__counts_words_and_marks() -> None:
    fits, over = "word " * 74 + ".", "word " * 75 + "."
    assert too_long({"a": [fits], "b": [over]}) == [over]


@pytest.mark.parametrize(("text", "is_one"), [("n02012849", True), ("n0201284", False), ("v02012849", False)])
def test_is_wnid__nouns_with_eight_digits(text: str, is_one: bool) -> None:
    assert is_wnid(text) is is_one
