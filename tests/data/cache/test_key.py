from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeproof_data.cache import CacheKey

KEY = CacheKey(
    {"kind": "open_clip", "model": "ViT-B-32", "sha256": "ab" * 32}, {"size": 224, "mean": (0.5, 0.5)}
)


def test_differences__none_after_json():
    assert KEY.differences(CacheKey.from_dict(KEY.to_dict())) == []
    assert KEY.digest() == CacheKey.from_dict(KEY.to_dict()).digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"teacher": {"kind": "open_clip", "model": "RN50", "sha256": "ab" * 32}},
            "teacher.model is 'ViT-B-32', expected 'RN50'",
        ),
        ({"preprocess": {"size": 256, "mean": (0.5, 0.5)}}, "preprocess.size is 224, expected 256"),
        ({"augmentation": "flip"}, "augmentation is 'none', expected 'flip'"),
        ({"output": "tokens"}, "output is 'embedding', expected 'tokens'"),
        ({"dtype": "float32"}, "dtype is 'float16', expected 'float32'"),
        ({"normalised": False}, "normalised is True, expected False"),
    ],
)
def test_differences__says_what_in_words(change: dict[str, Any], words: str):
    other = replace(KEY, **change)
    assert KEY.differences(other) == [words]
    assert KEY.digest() != other.digest()


def test_differences__a_part_that_only_one_has():
    other = replace(KEY, preprocess=None)
    assert KEY.differences(other) == [
        "preprocess.size is 224, expected none",
        "preprocess.mean is [0.5, 0.5], expected none",
    ]
