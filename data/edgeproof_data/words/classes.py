"""Reading classes with their names: a list, a csv, WordNet ids, or the class folders of a data set."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from edgeproof_configs.errors import DataError
from edgeproof_data.folders import class_folders
from edgeproof_data.prompts import clean_name, text_lines
from edgeproof_data.words.wordnet import SEPARATOR, is_wnid, senses_of

LABEL_COLUMNS = ("label", "class", "name")


@dataclass(frozen=True)
class ClassWords:
    """A class in words.

    Attributes:
        name: the usual word.
        synonyms: further words for the same.
        hint: what tells it from another class of the same name; empty where nobody says.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    hint: str = ""
    described: tuple[str, ...] = field(default=())

    @property
    def words(self) -> tuple[str, ...]:
        """All its names, each once."""
        return tuple(dict.fromkeys((self.name, *self.synonyms)))


def read_classes(source: Path) -> list[ClassWords]:
    """Return the classes of a source, in its order.

    A folder gives the names of its class folders (of those below `train` where there is one). A csv has a
    column `label` (or `class`, `name`), perhaps `synonyms` and `hint`. Any other file has a class a line:
    `name`, `name, synonym, synonym`, a WordNet id, or a WordNet id and names.

    Raises:
        DataError: there is no class, a file is not readable, or an id is not known.
    """
    if source.is_dir():
        top = source / "train" if (source / "train").is_dir() else source
        names = class_folders(top)
        if not names:
            raise DataError("no class folders here", where=top, fix="give a list of names")
        return _of_lines(names, split=False)
    if source.suffix.lower() == ".csv":
        return _of_csv(source)
    return _of_lines(text_lines(source), split=True)


def _of_lines(lines: list[str], split: bool) -> list[ClassWords]:
    """Return the class of each line; ids alone are looked up."""
    ids = [line for line in lines if is_wnid(line)]
    known = dict(zip(ids, senses_of(ids), strict=True))
    found = []
    for line in lines:
        if line in known:
            sense = known[line]
            found.append(_named(list(sense.names), sense.hint))
            continue
        start = re.match(r"(n\d{8})[\s,]+(.+)", line)
        text = line if start is None else start.group(2)
        found.append(_named(text.split(SEPARATOR) if split else [text], ""))
    return found


def _of_csv(source: Path) -> list[ClassWords]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or []
            label = next((name for name in LABEL_COLUMNS if name in columns), None)
            if label is None:
                raise DataError(
                    f"no column {', '.join(LABEL_COLUMNS)}; there are: {', '.join(columns) or 'none'}",
                    where=f"{source}:1",
                    fix="name the column of the classes: label",
                )
            found = []
            for row in reader:
                if not (row[label] or "").strip():
                    raise DataError(
                        "a row without a label",
                        where=f"{source}:{reader.line_num}",
                        fix="complete or delete it",
                    )
                synonyms = (row.get("synonyms") or "").split(SEPARATOR)
                found.append(_named([row[label] or "", *synonyms], row.get("hint") or ""))
    except FileNotFoundError:
        raise DataError("there is no such file", where=source, fix="correct the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a csv file in UTF-8: {error}", where=source, fix="save it as that") from error
    # The table of a data set has the label of each image: each class counts once.
    distinct = {(one.name, one.synonyms, one.hint): one for one in found}
    if not distinct:
        raise DataError("this table has no row", where=source, fix="write a class a line")
    return list(distinct.values())


def _named(names: list[str], hint: str) -> ClassWords:
    cleaned = [clean_name(name).strip(" ,") for name in names]
    cleaned = list(dict.fromkeys(name for name in cleaned if name))
    if not cleaned:
        raise DataError("a class without a name", fix="write a name, or delete the line")
    return ClassWords(cleaned[0], tuple(cleaned[1:]), clean_name(hint))
