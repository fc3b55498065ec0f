"""CLIP's byte-pair tokens (arXiv 2103.00020, 1508.07909), in plain Python.

A text is cleaned and split into words, single digits and runs of signs. Each of them becomes bytes, each byte
a symbol; then the pair of neighbours that comes first in the table of merges is joined, again and again. The
number of a token follows from the table: 256 bytes, the same at the end of a word, one for each merge, then
the start and the end of a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from heapq import heappop, heappush

import numpy as np

from edgeproof_deploy.runtime.errors import LabelError
from edgeproof_deploy.runtime.text_cleaning import CLEANINGS

END_OF_WORD = "</w>"
MARKS = {
    "open_clip": ("<start_of_text>", "<end_of_text>"),
    "transformers": ("<|startoftext|>", "<|endoftext|>"),
}
COMBINING_IOTA = "\u0345"
SEPARATORS = "\x1c\x1d\x1e\x1f"
"""White space to Python, but not to Unicode."""
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
LARGEST_TEXT = 10_000
"""Characters of a text. A text tower reads some hundred of them."""


class Tokenizer:
    """Texts as rows of token numbers.

    Args:
        merges: pairs of symbols, the first one to be joined first.
        cleaning: whose tokenizer it stands for: `open_clip` or `transformers`.
        context_length: tokens of a row, start and end among them.
        padding: number of the token behind the end.
        known: the only tokens that there are, numbered anew by their places here. With them a text that is
            too long or has another token is refused; without, what is too long is cut.
        hints: words to name where one is refused.
    """

    def __init__(
        self,
        merges: Sequence[tuple[str, ...]],
        *,
        cleaning: str = "open_clip",
        context_length: int = 77,
        padding: int = 0,
        known: Sequence[int] | None = None,
        hints: Collection[str] = (),
    ):
        if cleaning not in CLEANINGS:
            raise ValueError(f"cleaning must be one of {', '.join(CLEANINGS)}, got {cleaning!r}")
        if context_length < 2:
            raise ValueError(f"context_length must be at least 2, got {context_length}")
        bytes_first = byte_symbols()
        symbols = [*bytes_first, *(symbol + END_OF_WORD for symbol in bytes_first)]
        symbols += ["".join(pair) for pair in merges] + list(MARKS[cleaning])
        self.numbers = {symbol: number for number, symbol in enumerate(symbols)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.start, self.end = len(symbols) - 2, len(symbols) - 1
        self.cleaning, self.context_length, self.padding = cleaning, context_length, padding
        self.known = None if known is None else {token: place for place, token in enumerate(known)}
        if self.known is not None and not {self.start, self.end, padding} <= self.known.keys():
            raise ValueError("start, end or padding is not among the known tokens")
        self.hints = hints
        self._byte_symbol = dict(zip(byte_order(), bytes_first))
        self._words: dict[str, tuple[int, ...]] = {}
        marks = "|".join(map(re.escape, MARKS[cleaning]))
        # open_clip splits without regard to case; so taken, a combining iota is neither letter nor sign.
        self._any_case = cleaning == "open_clip"
        self._special = re.compile(
            f"{marks}|{CONTRACTIONS}" if self._any_case else CONTRACTIONS,
            re.IGNORECASE if self._any_case else 0,
        )
        self._marks = re.compile(f"({marks})")

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text without start and end, however many.

        Raises:
            LabelError: the text has more than `LARGEST_TEXT` characters.
        """
        if len(text) > LARGEST_TEXT:
            raise LabelError(f"a text of {len(text)} characters, at most {LARGEST_TEXT} are read")
        tokens: list[int] = []
        for part in self._marks.split(text) if self.cleaning == "transformers" else [text]:
            words = [part] if self._marks.fullmatch(part) else self._split(CLEANINGS[self.cleaning](part))
            tokens += [token for word in words for token in self._tokens(word)]
        return tokens

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return token numbers, int64 (N, `context_length`).

        Raises:
            LabelError: there are only `known` tokens, and a text has others or is too long.
        """
        rows = np.full((len(texts), self.context_length), self._number(self.padding), np.int64)
        for row, text in zip(rows, texts):
            tokens = [self.start, *self.encode(text), self.end]
            if self.known is not None:
                self._check(text, tokens)
            tokens = [*tokens[: self.context_length - 1], self.end] if len(tokens) > len(row) else tokens
            row[: len(tokens)] = [self._number(token) for token in tokens]
        return rows

    def _number(self, token: int) -> int:
        return token if self.known is None else self.known[token]

    def _check(self, text: str, tokens: Sequence[int]) -> None:
        assert self.known is not None
        if len(tokens) > self.context_length:
            raise LabelError(
                f"'{text[:80]}' has {len(tokens)} tokens, at most {self.context_length} are read"
            )
        for word in self._split(CLEANINGS[self.cleaning](text)):
            if any(token not in self.known for token in self._tokens(word)):
                near = get_close_matches(word, self.hints, n=3, cutoff=0.5) or sorted(self.hints)[:12]
                hint = f" Words that it has read: {', '.join(near)}" if near else ""
                raise LabelError(f"the text tower has never read '{word}' (in '{text[:80]}').{hint}")

    def _split(self, text: str) -> Iterator[str]:
        """Yield marks and contractions, runs of letters, single digits, runs of other signs."""
        place = 0
        while place < len(text):
            found = self._special.match(text, place)
            stop = found.end() if found else self._end_of_run(text, place)
            if self._kind(text[place]) != "space":
                yield text[place:stop]
            place = stop

    def _end_of_run(self, text: str, place: int) -> int:
        kind, stop = self._kind(text[place]), place + 1
        if kind in ("letter", "sign"):
            while stop < len(text) and self._kind(text[stop]) == kind:
                stop += 1
        return stop

    def _kind(self, letter: str) -> str:
        return "space" if self._any_case and letter == COMBINING_IOTA else kind_of(letter)

    def _tokens(self, word: str) -> tuple[int, ...]:
        if word not in self._words:
            if word in MARKS[self.cleaning]:
                self._words[word] = (self.numbers[word],)
            else:
                symbols = [self._byte_symbol[byte] for byte in word.encode("utf-8", "replace")]
                symbols[-1] += END_OF_WORD
                self._words[word] = tuple(self.numbers[symbol] for symbol in self._merged(symbols))
        return self._words[word]

    def _merged(self, symbols: list[str]) -> list[str]:
        """Join neighbours by the table until no pair of them is in it.

        Of a pair all places are joined from left to right before the next pair is looked for. Each symbol
        stays at the place of its first byte; what was joined to the left is None.
        """
        found: list[str | None] = [*symbols]
        after, before = list(range(1, len(symbols) + 1)), list(range(-1, len(symbols) - 1))
        queue: list[tuple[int, int]] = []

        def rank(place: int) -> int | None:
            if place < 0 or found[place] is None or after[place] >= len(found):
                return None
            return self.ranks.get((found[place], found[after[place]]))  # pyright: ignore[reportArgumentType]

        def wait(places: Iterable[int]) -> None:
            for place in places:
                order = rank(place)
                if order is not None:
                    heappush(queue, (order, place))

        wait(range(len(symbols)))
        while queue:
            order, touched = queue[0][0], []
            while queue and queue[0][0] == order:
                place = heappop(queue)[1]
                if rank(place) != order:
                    continue
                second = after[place]
                found[place] = f"{found[place]}{found[second]}"
                found[second], after[place] = None, after[second]
                if after[place] < len(found):
                    before[after[place]] = place
                touched.append(place)
            wait(place for joined in touched for place in (before[joined], joined))
        return [symbol for symbol in found if symbol is not None]


def kind_of(letter: str) -> str:
    """Return whether a character is a `letter`, a `number`, `space` or another `sign`, as Unicode has it."""
    if letter.isalpha():
        return "letter"
    if letter.isspace() and letter not in SEPARATORS:
        return "space"
    return "number" if unicodedata.category(letter).startswith("N") else "sign"


def byte_order() -> list[int]:
    """Return the 256 bytes as CLIP numbers them: what Latin-1 shows as a sign of its own, then the others."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return shown + [byte for byte in range(256) if byte not in set(shown)]


def byte_symbols() -> list[str]:
    """Return the symbol of each byte, in the same order; the others are U+0100 and after."""
    order = byte_order()
    visible = 256 - 68
    return [chr(byte) for byte in order[:visible]] + [chr(256 + number) for number in range(68)]
