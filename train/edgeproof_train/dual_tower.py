"""An image tower and a text tower into one space: a small CLIP (arXiv 2103.00020)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import timm
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from edgeproof_configs.errors import UsageError

LARGEST_SCALE = 100.0
FIRST_SCALE = 14.3
START, END, PADDING = 49406, 49407, 0


class Vocabulary:
    """CLIP's byte-pair tokens, numbered anew: only those that the training captions have.

    Args:
        known: CLIP's ids of the tokens, in the order of their new numbers.
        context_length: tokens a text, start and end included.
    """

    def __init__(self, known: Sequence[int], context_length: int):
        self.known = list(known)
        self.context_length = context_length
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._number = {token: number for number, token in enumerate(self.known)}

    @property
    def merges(self) -> list[tuple[str, ...]]:
        """CLIP's table of merges, the first one to be joined first."""
        return list(self._tokenizer.bpe_ranks)

    @classmethod
    def of(cls, texts: Iterable[str], context_length: int) -> Vocabulary:
        """Return the vocabulary of some texts."""
        tokenizer = SimpleTokenizer(context_length=context_length)
        ids = {PADDING, START, END}.union(*(tokenizer.encode(text) for text in texts))
        return cls(sorted(ids), context_length)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token numbers, int64 (N, L), padded with the number of the padding token.

        Raises:
            UsageError: a text has a word that no training caption had, or is too long.
        """
        rows = torch.full((len(texts), self.context_length), self._number[PADDING])
        for row, text in zip(rows, texts, strict=True):
            tokens = [START, *self._tokenizer.encode(text), END]
            if len(tokens) > self.context_length:
                raise UsageError(f"'{text}' has {len(tokens)} tokens, at most {self.context_length} are read")
            unknown = [token for token in tokens if token not in self._number]
            if unknown:
                word = self._tokenizer.decode(unknown).strip()
                raise UsageError(
                    f"this teacher has never read '{word}' (in '{text}')",
                    fix="use words of its training captions, or a teacher that was trained on more",
                )
            row[: len(tokens)] = torch.tensor([self._number[token] for token in tokens])
        return rows


class DualTower(nn.Module):
    """`image(x) -> (B, D)` by a timm network, `text(tokens) -> (N, D)` by a causal transformer.

    Args:
        model: a name that timm knows.
        kwargs: arguments for it.
        embedding_dim: D.
        vocabulary: how many different tokens there are; the last one ends a text.
        context_length: tokens a text.
        text_width: of the text transformer.
        text_layers: of the text transformer.
    """

    def __init__(
        self,
        *,
        model: str,
        kwargs: dict[str, Any],
        embedding_dim: int,
        vocabulary: int,
        context_length: int,
        text_width: int,
        text_layers: int,
    ):
        super().__init__()
        self.image = timm.create_model(model, num_classes=embedding_dim, **kwargs)
        self.text = TextTransformer(
            context_length=context_length,
            vocab_size=vocabulary,
            width=text_width,
            heads=max(text_width // 32, 1),
            layers=text_layers,
            output_dim=embedding_dim,
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def logit_scale(self) -> Tensor:
        """What cosines are multiplied by, at most 100."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)


def contrastive_loss(image_BD: Tensor, text_BD: Tensor, match_BB: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric cross-entropy between images and captions of a batch, where several may match.

    `L = (CE(rows of s v u', M / rows of M) + CE(columns)) / 2` with unit embeddings v, u. With the identity
    as M it is CLIP's loss. In a small vocabulary a caption is true of many images of a batch; with one
    positive each, the others would be pushed away.

    Args:
        image_BD: image embeddings.
        text_BD: embeddings of one caption for each image.
        match_BB: whether caption j is true of image i; the diagonal is true.
        scale: s.
    """
    with torch.autocast(image_BD.device.type, enabled=False):
        logits = (
            scale.float() * F.normalize(image_BD.float(), dim=-1) @ F.normalize(text_BD.float(), dim=-1).T
        )
        match = match_BB.to(logits.dtype)
        rows = (match / match.sum(dim=1, keepdim=True) * logits.log_softmax(dim=1)).sum(dim=1)
        columns = (match / match.sum(dim=0, keepdim=True) * logits.log_softmax(dim=0)).sum(dim=0)
        return -(rows.mean() + columns.mean()) / 2
