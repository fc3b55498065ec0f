"""What the embeddings of an image depend on, beside the image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeproof_configs.errors import DataError
from edgeproof_configs.files import digest_of

SHOWN_CHARACTERS = 40


class StaleCacheError(DataError):
    """An embedding cache was made with something else than what is asked for now."""


@dataclass(frozen=True)
class CacheKey:
    """Rows are used only where every part of this is the same.

    Attributes:
        teacher: who the teacher is, with the sha256 of its weights.
        preprocess: how an image becomes the teacher's input; None where the embeddings came from elsewhere.
        augmentation: which view of an image was embedded.
        output: which output of the teacher is stored: its name, or what tells it from others like it.
        dtype: of the stored rows.
        normalised: whether rows are unit vectors with their norm beside them.
    """

    teacher: dict[str, Any]
    preprocess: dict[str, Any] | None
    augmentation: str = "none"
    output: str | dict[str, Any] = "embedding"
    dtype: str = "float16"
    normalised: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON would give it back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CacheKey:
        """Read plain data."""
        return cls(**plain)

    def digest(self) -> str:
        """Return the sha256 of all parts."""
        return digest_of(self.to_dict())

    def differences(self, other: CacheKey) -> list[str]:
        """Return what is different here from what `other` expects: `teacher.model is 'a', expected 'b'`."""
        mine, theirs = dict(_leaves("", self.to_dict())), dict(_leaves("", other.to_dict()))
        return [
            f"{name} is {_shown(mine.get(name))}, expected {_shown(theirs.get(name))}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else key, item)
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
