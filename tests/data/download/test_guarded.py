from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from email.message import Message

import pytest
from tests.data.download.misbehaving import bomb, picture, stranger

from edgeproof_data.download.guarded import Limits, NotTakenError, Robots, fetch_image, opted_out

SHORT = Limits(most_bytes=200_000, seconds=1.0, connect_seconds=1.0, most_pixels=1_000_000)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Counter[str]]]:
    bomb()
    with stranger() as running:
        yield running


def test_fetch_image__good_ones(server: tuple[str, Counter[str]]) -> None:
    url, _ = server
    assert fetch_image(f"{url}/good3.jpg", SHORT) == picture(3)
    assert fetch_image(f"{url}/moved", SHORT) == picture(7)
    assert fetch_image(f"{url}/otherbot", SHORT) == picture(93)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nowhere", "HTTP 404"),
        ("broken", "HTTP 500"),
        ("page", "no image but text/html"),
        ("fake", "no image"),
        ("empty", "no image"),
        ("cut", "cut off"),
        ("boast", "more than 200000 bytes"),
        ("flood", "more than 200000 bytes"),
        ("drip", "not there after 1 s"),
        ("dripheader", "not there after 1 s"),
        ("loop", "HTTP 302"),
        ("chain", "HTTP 302"),
        ("bomb", "more than 1000000 pixels"),
        ("private", "robots.txt does not allow it"),
        ("sneaky", "sent on to what robots.txt does not allow"),
        ("local", "HTTP 302"),
        ("ftp", "sent on to something that is no http address"),
        ("noai", "its owner opts out"),
        ("reserved", "its owner opts out"),
    ],
)
def test_fetch_image__strangers(server: tuple[str, Counter[str]], path: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(NotTakenError, match=reason):
        fetch_image(f"{server[0]}/{path}", SHORT)
    assert time.monotonic() - started < 8


def test_fetch_image__nobody_there() -> None:
    with stranger() as (url, _):
        gone = url
    with pytest.raises(NotTakenError, match="refused"):
        fetch_image(f"{gone}/good1", Limits(robots=False, seconds=1.0, connect_seconds=1.0))


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.jpg", "http://", "//a/b.jpg"])
def test_fetch_image__other_addresses(url: str) -> None:
    with pytest.raises(NotTakenError, match="no http address"):
        fetch_image(url, SHORT)


def test_robots__each_site_is_asked_once() -> None:
    with stranger() as (url, asked):
        robots = Robots(SHORT)
        for _ in range(3):
            assert robots.allow(f"{url}/good1")
            assert not robots.allow(f"{url}/private/a.jpg")
        assert asked["robots.txt"] == 1


@pytest.mark.parametrize(("status", "allowed"), [(404, True), (403, True), (500, False)])
def test_robots__without_a_file(status: int, allowed: bool) -> None:
    with stranger(status) as (url, _):
        assert Robots(SHORT).allow(f"{url}/private") is allowed


@pytest.mark.parametrize(
    ("value", "out"),
    [
        ("noai", True),
        ("max-snippet, NoImageAI", True),
        ("edgeproof: noindex", True),
        ("someoneelse: noai", False),
        ("noai, unavailable_after: 25 Jun 2010 15:00:00 PST", True),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST, noindex", True),
        ("someoneelse: max-snippet:5, noai", False),
        ("nofollow", False),
        ("", False),
    ],
)
def test_opted_out__x_robots_tag(value: str, out: bool) -> None:
    headers = Message()
    headers["X-Robots-Tag"] = value
    assert opted_out(headers, "edgeproof") is out
