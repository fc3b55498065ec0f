"""Which captions are true of which image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeproof_configs.errors import DataError


@dataclass(frozen=True)
class CaptionBank:
    """All different captions of a set of images.

    Attributes:
        texts: T captions, sorted.
        member: bool (N, T), whether a caption is true of an image.
    """

    texts: tuple[str, ...]
    member: Tensor

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]]) -> CaptionBank:
        """Return the bank of each image's captions.

        Raises:
            DataError: an image has none.
        """
        lacking = [index for index, own in enumerate(captions) if not own]
        if lacking:
            raise DataError(f"{len(lacking)} of {len(captions)} training images have no caption")
        texts = tuple(sorted({text for own in captions for text in own}))
        column = {text: index for index, text in enumerate(texts)}
        member = torch.zeros(len(captions), len(texts), dtype=torch.bool)
        for row, own in zip(member, captions, strict=True):
            row[[column[text] for text in own]] = True
        return cls(texts, member)

    def without(self, words: Sequence[str]) -> Tensor:
        """Return which captions have none of these words, bool (T,).

        Raises:
            DataError: an image has no such caption.
        """
        avoided = set(words)
        free = torch.tensor([avoided.isdisjoint(text.split()) for text in self.texts])
        if words and not (self.member & free).any(dim=1).all():
            raise DataError(
                f"some training images have no caption without {', '.join(words)}",
                fix="set teacher.recolour: 0, or give captions that name no colour",
            )
        return free
