"""What a WordNet id means: from WordNet where nltk has its data, else from tables that are at hand.

Without WordNet the tables of synset names and definitions that timm brings for ImageNet are read (as files;
timm itself is not imported), and without timm a small built-in list.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from edgeproof_configs.errors import DataError
from edgeproof_data.paths import counted, some_of
from edgeproof_data.words.builtin import BUILT_IN

WNID = re.compile(r"n\d{8}")
SEPARATOR = ", "


class Sense(NamedTuple):
    """What an id stands for.

    Attributes:
        names: its words, the usual one first.
        hint: a few words that tell it from other senses of the same word: what it is, or is a kind of.
        source: where this is from.
    """

    names: tuple[str, ...]
    hint: str
    source: str


def is_wnid(text: str) -> bool:
    """Whether a text is a WordNet id of a noun, such as n02012849."""
    return WNID.fullmatch(text) is not None


def sense_of(wnid: str) -> Sense | None:
    """Return what an id stands for; None where no source knows it."""
    return _from_wordnet(wnid) or _from_timm(wnid) or _from_list(wnid)


def senses_of(wnids: list[str]) -> list[Sense]:
    """Return what ids stand for.

    Raises:
        DataError: some are not known here.
    """
    found = [sense_of(wnid) for wnid in wnids]
    unknown = [wnid for wnid, sense in zip(wnids, found, strict=True) if sense is None]
    if unknown:
        raise DataError(
            f"{counted(len(unknown), 'WordNet id')} not known here: {some_of(unknown)}",
            fix="correct, or fetch WordNet: pip install 'edgeproof[data]'; python -m nltk.downloader wordnet",
        )
    return [sense for sense in found if sense is not None]


def _from_wordnet(wnid: str) -> Sense | None:
    wordnet = _wordnet()
    if wordnet is None:
        return None
    from nltk.corpus.reader.wordnet import WordNetError

    try:
        synset = wordnet.synset_from_pos_and_offset("n", int(wnid[1:]))
    except (WordNetError, ValueError, KeyError, IndexError):
        # Offsets are those of WordNet 3.0: another version has nothing, or something else, there.
        return None
    if synset is None:
        return None
    parents = synset.hypernyms()
    hint = _words(parents[0].lemma_names()[0]) if parents else _start_of(synset.definition())
    return Sense(tuple(_words(name) for name in synset.lemma_names()), hint, "WordNet")


@cache
def _wordnet() -> Any:
    """Return nltk's WordNet, or None where nltk or its data is not here."""
    if find_spec("nltk") is None:
        return None
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None
    return wordnet


def _from_timm(wnid: str) -> Sense | None:
    names, definitions = _timm_tables()
    if wnid not in names:
        return None
    return Sense(tuple(names[wnid].split(SEPARATOR)), _start_of(definitions.get(wnid, "")), "timm's table")


@cache
def _timm_tables() -> tuple[dict[str, str], dict[str, str]]:
    """Return names and definitions by id; empty where timm is not installed or has no such tables."""
    found = find_spec("timm")
    places = [] if found is None else list(found.submodule_search_locations or ())
    tables = []
    for name in ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt"):
        files = [file for place in places if (file := Path(place) / "data" / "_info" / name).is_file()]
        lines = files[0].read_text(encoding="utf-8").splitlines() if files else []
        tables.append(dict(line.split("\t", 1) for line in lines if "\t" in line))
    return tables[0], tables[1]


def _from_list(wnid: str) -> Sense | None:
    if wnid not in BUILT_IN:
        return None
    names, hint = BUILT_IN[wnid]
    return Sense(tuple(names.split(SEPARATOR)), hint, "the built-in list")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _start_of(definition: str) -> str:
    """Return a definition up to its first clause."""
    return re.split(r"[;:(]| that | which | having | with | of | used ", definition, maxsplit=1)[0].strip(
        " ,"
    )
