"""An archive with every bad name there is, through all that reads archives: nothing is written outside."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.shards.conftest import picture

from edgeproof.__main__ import main
from edgeproof.data_index import images_below
from edgeproof_data.exchange.parts import parts_of_source
from edgeproof_data.exchange.shards import write_shards
from edgeproof_data.kinds.webdataset import WebDataset

GOOD = [
    "猫/é f.jpg",
    "a b  c.jpg",
    "x.y/z.jpg",
    "\N{SNOWMAN}.jpg",
    "a" * 180 + ".jpg",
    "-rf.jpg",
    "%2e%2e.jpg",
]
BAD = [
    "../up.jpg",
    "a/../../up.jpg",
    "{root}/absolute.jpg",
    "C:drive.jpg",
    "a\\b.jpg",
    "a\nb.jpg",
    "/etc/x.jpg",
]


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def listed(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(file), file.lstat().st_mtime_ns) for file in folder.rglob("*") if file.is_file())


def test_shards__names_that_lead_out_write_nothing_there(
    write_shard: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    outside, inside = tmp_path / "outside", tmp_path / "work" / "shards"
    outside.mkdir()
    (outside / "precious.jpg").write_bytes(b"mine")
    bad = [name.replace("{root}", str(outside)) for name in BAD]
    entries = [(name, picture(place)) for place, name in enumerate([*GOOD, *bad])]
    # What would be written through a link that an archive brings along.
    links = [
        link("out", str(outside), tarfile.SYMTYPE),
        link("hard.jpg", f"{outside}/precious.jpg", tarfile.LNKTYPE),
        link("soft.jpg", "../../outside/precious.jpg", tarfile.SYMTYPE),
    ]
    write_shard("train-000.tar", [*links, *entries], inside)
    write_shard("test-000.tar", [("t.jpg", picture(50))], inside)
    before = listed(outside), sorted(Path("/etc").glob("x.jpg")), sorted(tmp_path.glob("*"))
    assert main(["data", "check", str(inside)]) == 1
    assert "members left out" in capsys.readouterr().out
    found = images_below(inside)
    assert len(found) == len(GOOD) + 1
    data = WebDataset(
        WebDataset.Config(root=str(inside), labels="none", val=0.2, cache=str(tmp_path / "work" / "cache"))
    )
    data.prepare()
    assert len(data.split("train")) + len(data.split("val")) == len(GOOD)
    told = " ".join(data.remarks())
    assert f"{len(BAD)} members left out" in told
    assert "3 members left out" in told
    written = write_shards(tmp_path / "work" / "again", parts_of_source(data), 3)
    names = []
    for file in written:
        with tarfile.open(file) as archive:
            names += archive.getnames()
    assert not [name for name in names if "/" in name or ".." in name]
    assert (listed(outside), sorted(Path("/etc").glob("x.jpg")), sorted(tmp_path.glob("*"))) == before
