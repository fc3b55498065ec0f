"""Weights by name, from the model hub that `huggingface_hub` is set up for (HF_ENDPOINT, HF_HOME, HF_TOKEN).

A hub that cannot be reached is noticed in seconds, before its client starts to retry: then only files that
were fetched earlier are used, and if they are not there the error names the key that takes a local path. Only
safetensors and plain text are ever fetched.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from ssl import SSLCertVerificationError
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from edgeproof_configs.errors import EdgeproofError

PROBE_SECONDS = 4.0
PLAIN_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


def hub_file(repo: str, names: Sequence[str], key: str) -> Path:
    """Return a local copy of the first of `names` that a repository has.

    Args:
        repo: `owner/name` on the hub.
        names: file names, the preferred one first.
        key: the recipe's key that takes a local path instead, for the error.

    Raises:
        EdgeproofError: the hub cannot be reached and no copy is here; no such repository; none of the files.
    """
    with hub(repo, f"{key}: /path/to/model.safetensors"):
        for name in names:
            file = _download(repo, name)
            if file is not None:
                return file
        if constants.HF_HUB_OFFLINE:
            raise LocalEntryNotFoundError(f"none of {', '.join(names)}")
    raise EdgeproofError(
        f"the hub has no safetensors weights of {repo} (looked for {', '.join(names)})",
        fix=f"convert the weights where you trust them, then set {key}: /path/to/model.safetensors",
    )


def hub_folder(repo: str, key: str) -> Path:
    """Return a local copy of a repository's safetensors, configurations and tokenizer files.

    Raises:
        EdgeproofError: the hub cannot be reached and no copy is here; no such repository.
    """
    with hub(repo, f"{key}: /path/to/folder (config.json and model.safetensors)"):
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(PLAIN_FILES)))


def _download(repo: str, name: str) -> Path | None:
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name))
    except EntryNotFoundError:
        # The hub has no such file, or it is out of reach and there is no copy here.
        return None


@contextmanager
def hub(repo: str, fix: str) -> Iterator[None]:
    """Run the hub's client offline where the hub is out of reach, and turn its failures into one sentence.

    Args:
        repo: what is fetched.
        fix: the key and the kind of local path that would make the hub unnecessary.
    """
    online = not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not online
    try:
        yield
    except EdgeproofError:
        raise
    except RepositoryNotFoundError as error:
        raise EdgeproofError(
            f"the hub has no model '{repo}', or it is private or gated", fix=f"check the name, or set {fix}"
        ) from error
    except Exception as error:
        # The client's own errors share no base class across its versions; all of them mean: no file.
        state = "failed" if online else "cannot be reached"
        raise EdgeproofError(
            f"the model hub {state}, and '{repo}' is not on this machine ({type(error).__name__})",
            fix=f"set {fix}",
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the server of a URL answers anything at all within some seconds, through a proxy if one is set.

    A proxy that takes the connection and then says nothing is the slow case: the hub's client tries that for
    minutes.
    """
    answer: list[bool] = []
    # Looking up a name has no time limit of its own, so the whole attempt runs beside and is left behind.
    attempt = threading.Thread(target=_knock, args=(url, seconds, answer), daemon=True)
    attempt.start()
    attempt.join(seconds)
    return bool(answer)


class _StayHere(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> None:
        """Follow nothing: a redirection is an answer."""


def _knock(url: str, seconds: float, answer: list[bool]) -> None:
    try:
        with build_opener(_StayHere).open(Request(url, method="HEAD"), timeout=seconds):
            answer.append(True)
    except HTTPError as error:
        error.close()
        answer.append(True)
    except URLError as error:
        # The client may trust other certificates than Python does; that somebody answered is all that counts.
        if isinstance(error.reason, SSLCertVerificationError):
            answer.append(True)
    except OSError:
        return
