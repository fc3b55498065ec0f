"""The whole way with img2dataset, from a list of strangers' addresses to a set of images."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.download.misbehaving import bomb, stranger

from edgeproof.__main__ import main
from edgeproof_data.check import scan
from edgeproof_data.download.fetching import alone
from edgeproof_data.folders import list_images
from edgeproof_data.sets import unlabelled

pytest.importorskip("img2dataset")
Run = Callable[..., tuple[int, str, str]]

BAD = {
    "nowhere": "HTTP 404",
    "broken": "HTTP 500",
    "page": "no image but text/html",
    "fake": "no image",
    "cut": "cut off",
    "flood": "more than 100000 bytes",
    "drip": "not there after 2 s",
    "loop": "HTTP 302",
    "bomb": "more than 50000000 pixels",
    "private": "robots.txt does not allow it",
    "noai": "its owner opts out",
    "tiny": "image too small",
    "halved": "",
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.slow
@pytest.mark.integration
def test_download__strangers(tmp_path: Path, run: Run) -> None:
    bomb()
    out, listed = tmp_path / "out", tmp_path / "list.csv"
    with stranger() as (url, asked):
        good = [f"{url}/good{number}.jpg" for number in range(6)]
        # The same picture at another address, the same address again, and what is no address.
        lines = [
            *good,
            f"{url}/good01.jpg?b",
            good[0],
            "javascript:alert(1)",
            *(f"{url}/{name}" for name in BAD),
        ]
        lines.append(f"{url}/flaky")
        listed.write_text("url,prompt,licence\n" + "".join(f"{line},a é_b,CC0\n" for line in lines), "utf-8")
        options = ("--max-mb", 0.1, "--timeout", 2, "--shard-size", 8, "--threads", 4)
        code, told, err = run("data", "download", listed, out, *options, "--json")
        assert code == 0, err
        count = sum(asked.values())
        again = run("data", "download", listed, out, *options)
        assert again[0] == 0
        assert sum(asked.values()) == count
    found = json.loads(told)
    assert (found["images"], found["unusable"], found["repeated"]) == (7, 1, 1)
    images, failed = rows(out / "images.csv"), rows(out / "failed.csv")
    reasons = {row["url"].rpartition("/")[2]: row["status"] for row in failed}
    assert all(reasons[name].startswith(reason) for name, reason in BAD.items() if name in reasons), reasons
    assert set(BAD) - set(reasons) <= {"halved"}
    assert reasons["good01.jpg?b"] == "the same image again"
    assert {(row["prompt"], row["licence"]) for row in images} == {("a é b", "CC0")}
    paths = list_images(out / "images")
    assert sorted(f"images/{path}" for path in paths) == sorted(row["path"] for row in images)
    assert scan(unlabelled(out / "images", paths)).clean
    assert not (out / ".incoming").exists()


@pytest.mark.slow
@pytest.mark.integration
def test_download__stopped_and_other_lists(tmp_path: Path, run: Run) -> None:
    out, listed = tmp_path / "out", tmp_path / "list.txt"
    with stranger() as (url, asked):
        listed.write_text("".join(f"{url}/good{number}\n" for number in range(1, 6)))
        options = ("--shard-size", 2, "--format", "webdataset", "--timeout", 5)
        assert run("data", "download", listed, out, *options)[0] == 0
        # As if it had been stopped before the table of all shards was written, or while it cleared away.
        whole = (out / "images.csv").read_bytes()
        (out / "images.csv").unlink()
        before = sum(asked.values())
        assert run("data", "download", listed, out, *options)[0] == 0
        assert (out / "images.csv").read_bytes() == whole
        (out / ".incoming").mkdir()
        assert run("data", "download", listed, out, *options)[0] == 0
        assert not (out / ".incoming").exists()
        assert sum(asked.values()) == before
        with alone(out):
            code, _, err = run("data", "download", listed, out, *options)
        assert (code, "another download works" in err) == (2, True)
        listed.write_text(f"{url}/good9\n")
        code, _, err = run("data", "download", listed, out, *options)
        assert code == 2
        assert "of another download" in err
    names = []
    for shard in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(shard) as archive:
            names += archive.getnames()
    assert sorted(names) == sorted(
        f"{row['sha256']}.{end}" for row in rows(out / "images.csv") for end in ("jpg", "json")
    )


def test_download__bad_lists(tmp_path: Path, run: Run) -> None:
    listed = tmp_path / "list.csv"
    code, _, err = run("data", "download", listed, tmp_path / "out")
    assert (code, "no such list" in err) == (1, True)
    listed.write_text("address\nhttp://127.0.0.1/a.jpg\n")
    code, _, err = run("data", "download", listed, tmp_path / "out")
    assert (code, "no column url; there are: address" in err) == (1, True)
    listed.write_text("url\nfile:///etc/passwd\n")
    code, _, err = run("data", "download", listed, tmp_path / "out")
    assert (code, "no http address in this list" in err) == (1, True)
    listed.write_text("url\nhttp://127.0.0.1/a.jpg\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = run("data", "download", listed, tmp_path / "out")
    assert (code, "this folder is not empty" in err) == (2, True)
    code, _, err = run("data", "download", listed, tmp_path / "out" / "mine.txt")
    assert (code, "this is a file" in err) == (2, True)
