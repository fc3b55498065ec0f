"""Fetching one image from a stranger.

Bounded in bytes, in time from the first connection to the last byte, in redirections and in pixels; only http
and https; what calls itself something else than an image is not read; what its owner keeps out of collections
(robots.txt by RFC 9309, `X-Robots-Tag`, `TDM-Reservation`) is not taken.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
import urllib.error
import urllib.request
import urllib.robotparser
from collections.abc import Collection
from dataclasses import dataclass, replace
from email.message import Message
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, UnidentifiedImageError

from edgeproof_data.search.service import is_address
from edgeproof_deploy.runtime.image import quiet

OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""Directives of `X-Robots-Tag` with which an owner keeps an image out."""
WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives that a colon and a value follow."""
IMAGE_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
ROBOTS_BYTES = 512 << 10
MOST_REDIRECTIONS = 5
CHUNK = 1 << 16


class NotTakenError(Exception):
    """Why an image was not taken, in a few words that do not contain the address."""


@dataclass(frozen=True)
class Limits:
    """What is put up with for one image.

    Attributes:
        most_bytes: of the body.
        seconds: for all of it.
        connect_seconds: for each wait on the network.
        most_pixels: width times height, as its header says.
        agent: the name that is given, and looked for in robots.txt.
        robots: whether robots.txt is asked.
        opt_out: directives of `X-Robots-Tag` that are obeyed.
    """

    most_bytes: int = 20 << 20
    seconds: float = 30.0
    connect_seconds: float = 10.0
    most_pixels: int = 50_000_000
    agent: str = "edgeproof"
    robots: bool = True
    opt_out: frozenset[str] = OPT_OUT


def fetch_image(url: str, limits: Limits, robots: Robots | None = None) -> bytes:
    """Return the bytes of an image, whose header has been looked at.

    Raises:
        NotTakenError: it cannot be had within the limits, is no image, or its owner does not want it taken.
    """
    asked = robots or Robots(limits)
    data, headers = _read(url, limits, asked if limits.robots else None, IMAGE_TYPES)
    if opted_out(headers, limits.agent, limits.opt_out):
        raise NotTakenError("its owner opts out (X-Robots-Tag or TDM-Reservation)")
    _check_header(data, limits)
    return data


def opted_out(headers: Message, agent: str, directives: Collection[str] = OPT_OUT) -> bool:
    """Whether headers keep an image out of collections, for everybody or for this agent."""
    if (headers.get("TDM-Reservation") or "").strip() == "1":
        return True
    for value in headers.get_all("X-Robots-Tag", []):
        first, colon, rest = value.lower().partition(":")
        # `agent: rules`; a colon may also stand within a rule, such as `unavailable_after: 1 Jan 2027 12:00`.
        named = colon and "," not in first and first.strip() not in WITH_VALUES
        if named and first.strip() != agent.lower():
            continue
        if {word.strip() for word in (rest if named else value.lower()).split(",")} & set(directives):
            return True
    return False


class Robots:
    """What robots.txt of each host allows; each is asked once. Threads may share it."""

    def __init__(self, limits: Limits):
        self._limits = replace(
            limits, most_bytes=ROBOTS_BYTES, seconds=min(limits.seconds, 10.0), robots=False
        )
        self._known: dict[str, urllib.robotparser.RobotFileParser] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def allow(self, url: str) -> bool:
        """Whether an address may be fetched."""
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            lock = self._locks.setdefault(site, threading.Lock())
        with lock:
            if site not in self._known:
                self._known[site] = self._ask(site)
        return self._known[site].can_fetch(self._limits.agent, url)

    def _ask(self, site: str) -> urllib.robotparser.RobotFileParser:
        """Return the rules: without a file all is allowed, of a broken server nothing (RFC 9309, 2.3.1)."""
        rules = urllib.robotparser.RobotFileParser()
        try:
            text, _ = _read(f"{site}/robots.txt", self._limits, None, ())
        except _StatusError as error:
            rules.parse([] if 400 <= error.status < 500 else ["User-agent: *", "Disallow: /"])
        except NotTakenError:
            rules.parse(["User-agent: *", "Disallow: /"])
        else:
            rules.parse(text.decode("utf-8", "replace").splitlines())
        return rules


class _StatusError(NotTakenError):
    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


def _read(url: str, limits: Limits, robots: Robots | None, types: tuple[str, ...]) -> tuple[bytes, Message]:
    """Return body and headers of an address, after any redirections."""
    if not is_address(url):
        raise NotTakenError("no http address")
    if robots is not None and not robots.allow(url):
        raise NotTakenError("robots.txt does not allow it")
    watch = _Watch(limits.seconds)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(robots),
        _Http(watch),
        _Https(watch),
    ):
        opener.add_handler(handler)
    agent = f"Mozilla/5.0 (compatible; {limits.agent})"
    request = urllib.request.Request(url, headers={"User-Agent": agent, "Accept": "image/*,*/*;q=0.1"})
    try:
        with watch, opener.open(request, timeout=limits.connect_seconds) as response:
            data = _body(response, limits, types)
            if watch.late:
                raise NotTakenError(f"not there after {limits.seconds:g} s")
            return data, response.headers
    except urllib.error.HTTPError as error:
        error.close()
        raise _StatusError(error.code, f"HTTP {error.code}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        if watch.late:
            raise NotTakenError(f"not there after {limits.seconds:g} s") from error
        raise NotTakenError(_words(error)) from error


def _body(response: Any, limits: Limits, types: tuple[str, ...]) -> bytes:
    kind = (response.headers.get_content_type() or "").lower() if "Content-Type" in response.headers else ""
    if types and kind and not kind.startswith(types):
        raise NotTakenError(f"no image but {kind[:40]}")
    promised = response.headers.get("Content-Length", "")
    if promised.isdigit() and int(promised) > limits.most_bytes:
        raise NotTakenError(f"more than {limits.most_bytes} bytes")
    parts, size = [], 0
    until = time.monotonic() + limits.seconds
    while chunk := response.read1(CHUNK):
        size += len(chunk)
        parts.append(chunk)
        if size > limits.most_bytes:
            raise NotTakenError(f"more than {limits.most_bytes} bytes")
        if time.monotonic() > until:
            raise NotTakenError(f"not there after {limits.seconds:g} s")
    if promised.isdigit() and size < int(promised):
        raise NotTakenError("cut off")
    return b"".join(parts)


def _check_header(data: bytes, limits: Limits) -> None:
    """Refuse what is no image, or has more pixels than its bytes should be able to ask for."""
    try:
        with quiet(), Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise NotTakenError(f"more than {limits.most_pixels} pixels") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise NotTakenError("no image") from error
    if width * height > limits.most_pixels:
        raise NotTakenError(f"more than {limits.most_pixels} pixels")


class _Watch:
    """Closes the connections of a fetch when its time is over: a server may send a byte an hour."""

    def __init__(self, seconds: float):
        self.late = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def add(self, connection: socket.socket) -> None:
        self._sockets.append(connection)

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.late = True
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                # Closed already: that is what was wanted.
                continue


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, watch: _Watch, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._watch = watch

    def connect(self) -> None:
        super().connect()
        self._watch.add(self.sock)


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, watch: _Watch, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._watch = watch

    def connect(self) -> None:
        super().connect()
        self._watch.add(self.sock)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch):
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection: Any = partial(_Connection, watch=self._watch)
        return self.do_open(connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch):
        super().__init__()
        self._watch = watch

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection: Any = partial(_SecureConnection, watch=self._watch)
        return self.do_open(connection, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, to http addresses that robots.txt allows."""

    max_redirections = MOST_REDIRECTIONS
    max_repeats = 1

    def __init__(self, robots: Robots | None):
        self._robots = robots

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        refused = None if is_address(newurl) else "sent on to something that is no http address"
        if refused is None and self._robots is not None and not self._robots.allow(newurl):
            refused = "sent on to what robots.txt does not allow"
        if refused is not None:
            fp.close()
            raise NotTakenError(refused)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}"[:120]
