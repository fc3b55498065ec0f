"""A teacher's text tower by itself, with all that its tokenizer knows: it can be shipped beside a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

BYTES, MARKS = 256, 2


@dataclass(frozen=True)
class TextTower:
    """From CLIP's byte-pair tokens to text embeddings.

    Attributes:
        module: tokens int64 (N, L) to embeddings (N, D).
        merges: pairs of symbols, the first one to be joined first; the numbers of all tokens follow from it.
        cleaning: whose tokenizer it is.
        context_length: L.
        padding: number of the token behind the end of a text.
        known: the only tokens that there are, in the order of their numbers; None for all.
    """

    module: nn.Module
    merges: Sequence[tuple[str, ...]]
    cleaning: Literal["open_clip", "transformers"]
    context_length: int
    padding: int
    known: Sequence[int] | None = None

    @property
    def tokens(self) -> int:
        """How many different tokens the merges make: bytes within and at the end of a word, merges, marks."""
        return 2 * BYTES + len(self.merges) + MARKS


class TextOnly(nn.Module):
    """A two-tower model as a module from tokens to text embeddings.

    Args:
        model: both towers.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `model.encode_text(tokens)`, (N, D)."""
        return self.model.encode_text(tokens)  # pyright: ignore[reportCallIssue]


class TextFeatures(TextOnly):
    """The same for a model of transformers."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the pooled text features (N, D)."""
        found = self.model.get_text_features(input_ids=tokens)  # pyright: ignore[reportCallIssue]
        return found if isinstance(found, Tensor) else found.pooler_output
