"""img2dataset's downloader, with our own way of fetching one image.

img2dataset reads an answer to its end however long it is, and decodes whatever its header promises; it does
not ask robots.txt. All else (shards, re-encoding, processes, logs) is its own. Only the process that fetches
imports this module: img2dataset is an extra.
"""

from __future__ import annotations

import io
from typing import Any

from img2dataset import downloader

from edgeproof_data.download.guarded import Limits, NotTakenError, Robots, fetch_image


class GuardedDownloader(downloader.Downloader):
    """Fetches the images of a shard; made anew in each process from its pickled settings."""

    limits = Limits()

    def download_shard(self, row: Any) -> None:
        """Fetch a shard, one image after the other by `fetch_image`."""
        robots = Robots(self.limits)

        def fetch(item: tuple[int, str], *_: object) -> tuple[int, io.BytesIO | None, str | None]:
            key, url = item
            try:
                return key, io.BytesIO(fetch_image(url, self.limits, robots)), None
            except NotTakenError as error:
                return key, None, str(error)

        # img2dataset looks this name up in its module for every image; there is no other way in.
        downloader.download_image_with_retry = _repeated(fetch, self.retries)
        super().download_shard(row)


def _repeated(fetch: Any, retries: int) -> Any:
    """Return a function that tries again, but not what would only be refused again."""
    lasting = ("robots.txt", "its owner", "no image", "no http", "more than", "HTTP 3", "HTTP 4", "sent on")

    def attempt(item: tuple[int, str], **_: object) -> tuple[int, io.BytesIO | None, str | None]:
        found = fetch(item)
        for _again in range(retries):
            if found[1] is not None or str(found[2]).startswith(lasting):
                break
            found = fetch(item)
        return found

    return attempt
