from __future__ import annotations

import pytest

from edgeproof_deploy.runtime.errors import BundleError
from edgeproof_deploy.runtime.labels import labels_of


@pytest.mark.parametrize("data", ["käse\na, b\n", "käse\na, b"])
def test_labels_of__one_a_line(data: str) -> None:
    assert labels_of(data.encode()) == ("käse", "a, b")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has no labels: there is nothing to choose between"),
        (b"\n", "has no labels"),
        (b"a\n\nb\n", "line 2 is empty, expected a label on each"),
        (b"a\n \t\n", "line 2 is empty"),
        (b"a\nb\n\n", "line 3 is empty"),
        (b"a\n\xff\n", "is not UTF-8"),
    ],
)
def test_labels_of__what_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=rf"labels\.txt: {words}"):
        labels_of(data)
