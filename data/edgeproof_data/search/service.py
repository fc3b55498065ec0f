"""Searching by a service that speaks clip-retrieval's protocol.

`POST URL/knn-service` takes a text or an embedding and gives ids with similarities, the first ones with their
URLs; `POST URL/metadata` gives the URLs of further ids. Nothing that a service says is believed unseen: an
answer has to be JSON of the right form, of bounded size and in bounded time, with finite cosines and http
addresses, or it is refused in words.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from edgeproof_configs.errors import EdgeproofError, UsageError

SHOWN_RESULTS = 100
"""So many results of an answer are asked for with their URLs; further ones come page by page."""
PAGE = 200
MOST_BYTES = 64 << 20
MOST_SECONDS_BETWEEN = 60.0
LONGEST_URL = 4_096
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
HIGHEST = 1.001
"""A cosine in float32 may be a little more than 1."""


class Hit(NamedTuple):
    """What a service found: the id in its index, where the image is, and how near it is."""

    id: int
    url: str
    similarity: float


class Answer(NamedTuple):
    """Hits of one query, the nearest first, and how many results had no usable address."""

    hits: list[Hit]
    without_address: int


@dataclass(frozen=True)
class ServiceOptions:
    """How a service is asked.

    Attributes:
        index_name: which of its indices; its own first one where this is empty.
        deduplicate: whether it leaves out twins.
        safety: whether it leaves out what its safety model and its violence detector find.
        timeout_seconds: for one answer.
        retries: how often a request that failed is made again.
        first_wait_seconds: before the first of these; each further wait is twice as long.
    """

    index_name: str = ""
    deduplicate: bool = True
    safety: bool = True
    timeout_seconds: float = 60.0
    retries: int = 4
    first_wait_seconds: float = 1.0


class KnnService:
    """A service at a URL."""

    def __init__(self, url: str, options: ServiceOptions | None = None):
        """Check the URL; nothing is asked yet.

        Raises:
            UsageError: it is no http address.
        """
        if not is_address(url):
            raise UsageError(f"'{url}' is no http address", fix="say http://HOST:PORT or https://HOST/PATH")
        self.url = url.rstrip("/").removesuffix("/knn-service")
        self.options = options or ServiceOptions()
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, count: int, *, text: str | None = None, embedding: Sequence[float] | None = None) -> Answer:
        """Return up to `count` hits for a text or for an embedding.

        Raises:
            EdgeproofError: the service cannot be reached, or does not answer as the protocol says.
        """
        if (text is None) == (embedding is None):
            raise ValueError("expected either a text or an embedding")
        options = self.options
        given = self._post(
            "/knn-service",
            {
                "text": text,
                "image": None,
                "image_url": None,
                "embedding_input": None if embedding is None else [float(value) for value in embedding],
                "modality": "image",
                "num_images": min(count, SHOWN_RESULTS),
                "num_result_ids": count,
                "indice_name": options.index_name,
                "use_mclip": False,
                "deduplicate": options.deduplicate,
                "use_safety_model": options.safety,
                "use_violence_detector": options.safety,
                "aesthetic_score": None,
                "aesthetic_weight": None,
            },
        )
        results = self._results(given)[:count]
        addresses = {one: url for one, _, url in results if url is not None}
        further = [one for one, _, _ in results if one not in addresses]
        for start in range(0, len(further), PAGE):
            addresses |= self._addresses(further[start : start + PAGE])
        hits = [Hit(one, addresses[one], similarity) for one, similarity, _ in results if one in addresses]
        return Answer(sorted(hits, key=lambda hit: (-hit.similarity, hit.url)), len(results) - len(hits))

    def _results(self, given: Any) -> list[tuple[int, float, str | None]]:
        """Return id, similarity and URL (None where it has no usable one) of each result, each id once."""
        if not isinstance(given, list):
            raise self._lie(f"a list of results was expected, it sent {_kind(given)}")
        found: dict[int, tuple[int, float, str | None]] = {}
        for result in given:
            if not isinstance(result, dict):
                raise self._lie(f"a result is {_kind(result)}")
            one, similarity, url = result.get("id"), result.get("similarity"), result.get("url")
            if not isinstance(one, int) or isinstance(one, bool):
                raise self._lie(f"a result has the id {one!r}")
            if isinstance(similarity, bool) or not isinstance(similarity, int | float):
                raise self._lie(f"the similarity of result {one} is {similarity!r}")
            if not math.isfinite(similarity) or abs(similarity) > HIGHEST:
                raise self._lie(f"the similarity of result {one} is {similarity}, which is no cosine")
            known = url if isinstance(url, str) and is_address(url) else None
            found.setdefault(one, (one, float(similarity), known))
        return list(found.values())

    def _addresses(self, ids: Sequence[int]) -> dict[int, str]:
        """Return the usable URLs of some ids."""
        given = self._post("/metadata", {"ids": list(ids), "indice_name": self.options.index_name})
        if not isinstance(given, list):
            raise self._lie(f"a list of metadata was expected, it sent {_kind(given)}")
        wanted, found = set(ids), {}
        for one in given:
            metadata = one.get("metadata") if isinstance(one, dict) else None
            url = metadata.get("url") if isinstance(metadata, dict) else None
            if isinstance(one, dict) and one.get("id") in wanted and isinstance(url, str) and is_address(url):
                found[one["id"]] = url
        return found

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        wait, failure = self.options.first_wait_seconds, ""
        for attempt in range(self.options.retries + 1):
            if attempt:
                time.sleep(min(wait, MOST_SECONDS_BETWEEN))
                wait *= 2
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                failure = f"HTTP {error.code} {error.reason}"
                if error.code not in TRY_AGAIN:
                    raise self._refused(error) from error
                wait = max(wait, _seconds(error.headers.get("Retry-After")))
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                failure = str(getattr(error, "reason", "") or error or type(error).__name__)
        raise EdgeproofError(
            f"the search service does not answer: {failure} ({self.options.retries + 1} times)",
            where=self.url + path,
            fix="what was found is kept: run the same command again later, or search a collection here",
        )

    def _once(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        until = time.monotonic() + self.options.timeout_seconds
        with self._opener.open(request, timeout=self.options.timeout_seconds) as response:
            chunks, size = [], 0
            while chunk := response.read1(1 << 16):
                size += len(chunk)
                if size > MOST_BYTES:
                    raise self._lie(f"an answer of more than {MOST_BYTES >> 20} MiB")
                if time.monotonic() > until:
                    raise TimeoutError(f"no whole answer in {self.options.timeout_seconds:.0f} s")
                chunks.append(chunk)
            promised = response.headers.get("Content-Length")
        if promised is not None and promised.isdigit() and size < int(promised):
            raise http.client.IncompleteRead(b"".join(chunks)[:0], int(promised) - size)
        try:
            return json.loads(b"".join(chunks))
        except (UnicodeDecodeError, ValueError, RecursionError) as error:
            start = b"".join(chunks)[:40].decode("utf-8", "replace").split("\n")[0]
            raise self._lie(f"the answer is no JSON; it starts with '{start}'") from error

    def _refused(self, error: urllib.error.HTTPError) -> EdgeproofError:
        location = error.headers.get("Location")
        to = f", which sends on to {location}" if location else ""
        return EdgeproofError(
            f"the search service refuses: HTTP {error.code} {error.reason}{to}",
            where=self.url,
            fix="look at the URL, and at --index-name",
        )

    def _lie(self, what: str) -> EdgeproofError:
        return EdgeproofError(
            f"this is no answer of a clip-retrieval service: {what}",
            where=self.url,
            fix="look at the URL: it must be that of a `clip-retrieval back`",
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A query that is sent on would arrive without its body: say so instead."""

    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        """Follow nothing; the redirection becomes an HTTPError."""
        del arguments, keywords


def is_address(url: str) -> bool:
    """Whether a text is an http or https address that could be fetched: printable, with a host."""
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _seconds(value: str | None) -> float:
    return float(value) if value is not None and value.isdigit() else 0.0


def _kind(value: Any) -> str:
    text = json.dumps(value)[:60]
    return f"{type(value).__name__} {text}"
