from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError, UsageError
from edgeproof_data.shards.listing import expand, list_shards


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.tar", ["a.tar"]),
        ("t-{08..11}.tar", ["t-08.tar", "t-09.tar", "t-10.tar", "t-11.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
    ],
)
def test_expand__braces(pattern: str, found: list[str]):
    assert expand(pattern) == found


@pytest.mark.parametrize(
    "pattern", ["{0..9999999}.tar", "{0..999}-{0..9999}.tar", "{3..1}.tar", "a{.tar", "{x}"]
)
def test_expand__what_is_no_range_is_refused(pattern: str):
    with pytest.raises(UsageError):
        expand(pattern)


def test_list_shards__wildcards_are_sorted(three_shards: Path):
    found = list_shards("train-*.tar", str(three_shards))
    assert found == [str(three_shards / f"train-00{n}.tar") for n in range(2)]
    assert list_shards("train-{000..001}.tar", str(three_shards)) == found


@pytest.mark.parametrize(
    ("pattern", "error", "words"),
    [
        ("train-{000..002}.tar", DataError, "missing"),
        ("other-*.tar", DataError, "no shard is named like"),
        ("../train-000.tar", UsageError, "inside data.root"),
        ("{train-000,train-000}.tar", UsageError, "twice"),
    ],
)
def test_list_shards__errors(three_shards: Path, pattern: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        list_shards(pattern, str(three_shards))


def test_list_shards__addresses():
    assert list_shards("a-{0..1}.tar", "https://host/x") == [
        "https://host/x/a-0.tar",
        "https://host/x/a-1.tar",
    ]
    assert list_shards("s3://bucket/a.tar", "/somewhere") == ["s3://bucket/a.tar"]
    with pytest.raises(UsageError, match="does not list"):
        list_shards("a-*.tar", "https://host/x")


def test_list_shards__wildcards_in_storage():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name in ("b.tar", "a.tar", "a.txt"):
        system.pipe_file(f"/listed/{name}", b"x")
    assert list_shards("*.tar", "memory://listed") == ["memory:///listed/a.tar", "memory:///listed/b.tar"]
    with pytest.raises(DataError, match="no shard"):
        list_shards("*.gz", "memory://listed")
    with pytest.raises(UsageError, match="unknown kind of address"):
        list_shards("*.tar", "nonsense://x")
