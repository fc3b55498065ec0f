"""Texts as CLIP's tokenizers see them: what open_clip and transformers do to a text before they split it.

open_clip repairs a text with ftfy, resolves HTML entities twice, collapses white space and lowers it. What of
ftfy concerns well-formed Unicode is done here, to the same characters: entities, C1 controls, ligatures, full
and half width, curled quotes, line breaks, surrogates, terminal escapes, controls and NFC. Left out is its
guess that a text was once decoded with the wrong encoding (as in `cafÃ©`): such a text is read as it stands.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from html.entities import html5

ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
TERMINAL_ESCAPE = re.compile("\x1b\\[[\\d;]*[a-zA-Z]")
C1_CONTROL = re.compile("[\x80-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")
SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
WHITE_SPACE = re.compile(r"[^\S\x1c-\x1f]+")

LIGATURES = (0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07))
LONG_S_T, FULL_AND_HALF_WIDTH = 0xFB05, range(0xFF01, 0xFFF0)
CONTROLS = (
    *range(0x09),
    0x0B,
    *range(0x0E, 0x20),
    0x7F,
    *range(0x206A, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFD),
)
SINGLE_QUOTES, DOUBLE_QUOTES = (0x2BC, *range(0x2018, 0x201C)), range(0x201C, 0x2020)


def clean_open_clip(text: str) -> str:
    """Return a text as open_clip's `SimpleTokenizer` splits it."""
    repaired, entities = [], True
    for line in text.split("\n"):
        # What has a tag is the source of a page: from there on its entities are left to the last step.
        entities = entities and "<" not in line
        repaired.append(_repaired(line, entities))
    plain = html.unescape(html.unescape("\n".join(repaired)))
    return " ".join(plain.split()).lower()


def clean_transformers(text: str) -> str:
    """Return a text as the CLIP tokenizer of transformers splits it.

    Each letter is lowered by itself, so that a sigma at the end of a word is lowered as one within it.
    """
    spaced = WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(letter.lower() for letter in spaced)


CLEANINGS: dict[str, Callable[[str], str]] = {
    "open_clip": clean_open_clip,
    "transformers": clean_transformers,
}


def _repaired(line: str, entities: bool) -> str:
    """Return a line after all repairs, which are made until none of them changes it."""
    if line.isascii() and line.isprintable() and "&" not in line:
        return line
    ligatures, widths, quotes, controls = _tables()
    while True:
        before = line
        if entities:
            line = ENTITY.sub(_entity, line)
        line = C1_CONTROL.sub(
            lambda found: found[0].encode("latin-1").decode("cp1252", "ignore") or found[0], line
        )
        line = line.translate(ligatures).translate(widths).translate(quotes)
        line = line.replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n").replace("\x85", "\n")
        line = SURROGATE_PAIR.sub(lambda found: _joined(found[0]), line)
        line = SURROGATE.sub("\ufffd", line)
        line = TERMINAL_ESCAPE.sub("", line).translate(controls)
        line = unicodedata.normalize("NFC", line)
        if line == before:
            return line


def _entity(found: re.Match[str]) -> str:
    """Return the character of an entity that ends with a semicolon; unknown ones as they stand."""
    written = found[0]
    if written in _entities():
        return _entities()[written]
    plain = html.unescape(written) if written.startswith("&#") else written
    return written if ";" in plain else plain


def _joined(pair: str) -> str:
    """Return the character of two surrogates."""
    return pair.encode("utf-16", "surrogatepass").decode("utf-16")


@cache
def _entities() -> dict[str, str]:
    """Return HTML's entities; names in small letters in capitals, too, where those mean nothing else."""
    known = {f"&{name}": text for name, text in html5.items() if name.endswith(";")}
    for name, text in html5.items():
        capitals = f"&{name.upper()}"
        if name.endswith(";") and name == name.lower() and html.unescape(capitals) == capitals:
            known[capitals] = text.upper()
    return known


@cache
def _tables() -> tuple[dict[int, str], ...]:
    """Return what `str.translate` exchanges: ligatures, widths, quotes, and controls, which vanish."""
    ligatures = {code: unicodedata.normalize("NFKC", chr(code)) for code in LIGATURES}
    ligatures[LONG_S_T] = "\u017ft"
    widths = {code: unicodedata.normalize("NFKC", chr(code)) for code in FULL_AND_HALF_WIDTH}
    quotes = dict.fromkeys(SINGLE_QUOTES, "'") | dict.fromkeys(DOUBLE_QUOTES, '"')
    return ligatures, widths | {0x3000: " "}, quotes, dict.fromkeys(CONTROLS, "")
