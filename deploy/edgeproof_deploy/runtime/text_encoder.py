"""The text tower of a bundle, if it carries one: new words become unit vectors on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from edgeproof_deploy.runtime.bundle import Bundle
from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.session import OnnxSession, first_line
from edgeproof_deploy.runtime.text_cleaning import CLEANINGS
from edgeproof_deploy.runtime.tokenizer import Tokenizer

TEXT_MODEL, TEXT_SETTINGS, MERGES = "text/encoder.onnx", "text/encoder.json", "text/merges.txt"
LONGEST_CONTEXT = 4096
MOST_MERGES = 1_000_000
PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class TextSettings:
    """How words become the text tower's input.

    Attributes:
        cleaning: whose tokenizer it is, `open_clip` or `transformers`.
        context_length: tokens of a row.
        padding: number of the token behind the end.
        templates: sentences with `{}` in the place of the word; a label is the mean over them.
        known: the only tokens that there are, in the order of their numbers; None for all.
    """

    cleaning: str
    context_length: int
    padding: int
    templates: tuple[str, ...] = ("{}",)
    known: tuple[int, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, plain: Any) -> TextSettings:
        """Read plain data; further keys, such as figures of the export, are left to others.

        Raises:
            ValueError: a key is missing, or a value has the wrong type or range.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(plain, Mapping) or not set(names) <= set(plain):
            raise ValueError(f"expected a table with the keys {', '.join(names)}")
        cleaning, length, padding, templates, known = (plain[name] for name in names)
        if cleaning not in tuple(CLEANINGS):
            raise ValueError(f"cleaning must be one of {', '.join(CLEANINGS)}, got {cleaning!r}")
        if not _is_count(length) or not 2 <= length <= LONGEST_CONTEXT or not _is_count(padding):
            raise ValueError(f"context_length {length!r} or padding {padding!r} is no number of tokens")
        if not isinstance(templates, list) or not templates:
            raise ValueError("templates must be a list of sentences")
        if not all(isinstance(sentence, str) and "{}" in sentence for sentence in templates):
            raise ValueError("a template lacks {}, the place of the word")
        if known is not None:
            if not isinstance(known, list) or not all(map(_is_count, known)) or len(set(known)) != len(known):
                raise ValueError("known must be a list of different tokens")
            known = tuple(known)
        return cls(cleaning, length, padding, tuple(templates), known)


class TextEncoder:
    """Words to unit vectors, `mean over templates of t(prompt) / |t(prompt)|`, divided by its length.

    Args:
        session: `tokens` int64 (B, L) to `text_embedding` float32 (B, D).
        tokenizer: of this tower.
        templates: sentences with `{}`.
    """

    def __init__(self, session: OnnxSession, tokenizer: Tokenizer, templates: Sequence[str]):
        self.session = session
        self.tokenizer = tokenizer
        self.templates = tuple(templates)

    def embed(self, words: Sequence[str]) -> np.ndarray:
        """Return unit rows (K, D), float32.

        Raises:
            LabelError: a word is too long, or has tokens that the tower has never read.
            BundleError: the tower gives NaN or infinity.
        """
        prompts = [sentence.replace("{}", spoken(word)) for word in words for sentence in self.templates]
        found = self.raw(prompts)
        if not np.isfinite(found).all() or not np.linalg.norm(found, axis=1).all():
            raise BundleError(TEXT_MODEL, "gives NaN, infinity or nothing but zeros for a word")
        each = unit_rows(found).reshape(len(words), len(self.templates), -1)
        return unit_rows(each.mean(axis=1, dtype=np.float64))

    def raw(self, prompts: Sequence[str]) -> np.ndarray:
        """Return what the tower gives for texts as they stand, float32 (N, D), not normalised."""
        rows = self.tokenizer(prompts)
        starts = range(0, len(rows), PROMPTS_AT_ONCE)
        return np.concatenate([self._run(rows[start : start + PROMPTS_AT_ONCE]) for start in starts])

    def _run(self, tokens: np.ndarray) -> np.ndarray:
        try:
            return self.session.run({"tokens": tokens})["text_embedding"]
        except Exception as error:
            # onnxruntime raises its own classes: a token beyond the tower's table is one of theirs.
            raise BundleError(TEXT_MODEL, f"cannot run on {MERGES}: {first_line(error)}") from error


def read_text_encoder(bundle: Bundle, dim: int, hints: Sequence[str], threads: int | None) -> TextEncoder:
    """Load the text tower of a bundle.

    Args:
        bundle: has a text tower.
        dim: width of the embeddings that it must give.
        hints: labels whose words are named where one is refused.
        threads: threads within one operator.

    Raises:
        BundleError: its files do not fit each other or the student.
        UnavailableError: onnxruntime, which runs it whatever runs the student, is not installed.
    """
    try:
        settings = TextSettings.from_dict(bundle.read_json(TEXT_SETTINGS))
        merges = read_merges(bundle.read(MERGES))
        words = {word for label in hints for word in label.split()}
        tokenizer = Tokenizer(
            merges,
            cleaning=settings.cleaning,
            context_length=settings.context_length,
            padding=settings.padding,
            known=settings.known,
            hints=sorted(words),
        )
    except ValueError as error:
        raise BundleError(TEXT_SETTINGS, str(error)) from error
    session = OnnxSession(bundle.read(TEXT_MODEL), threads=threads, name=TEXT_MODEL)
    takes, gives = session.inputs.get("tokens", ()), session.outputs.get("text_embedding", ())
    if tuple(takes[1:]) != (settings.context_length,) or tuple(gives[1:]) != (dim,):
        wanted = f"(batch, {settings.context_length}) into (batch, {dim})"
        raise BundleError(TEXT_MODEL, f"turns tokens {takes} into {gives}, expected {wanted}")
    return TextEncoder(session, tokenizer, settings.templates)


def read_merges(data: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a table with one a line, its symbols apart by a space.

    Raises:
        BundleError: the table is not UTF-8, or a line is no pair.
    """
    try:
        lines = data.decode().removesuffix("\n").split("\n") if data else []
    except UnicodeDecodeError as error:
        raise BundleError(MERGES, f"is not UTF-8: {error}") from error
    if len(lines) > MOST_MERGES:
        raise BundleError(MERGES, f"has {len(lines)} lines, at most {MOST_MERGES} are read")
    pairs = []
    for number, line in enumerate(lines, 1):
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise BundleError(MERGES, f"line {number} is no pair of symbols: {line[:40]!r}")
        pairs.append((pair[0], pair[1]))
    return pairs


def spoken(label: str) -> str:
    """Return a label as it stands in a prompt: `stop_sign` as `stop sign`."""
    return " ".join(label.replace("_", " ").split())


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Return the rows divided by their length, float32; the norm is taken in float64."""
    wide = matrix.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
