"""The process that fetches: `python -m edgeproof_data.download.fetch_process SETTINGS`.

img2dataset takes over a process (signals, output, workers), so it gets one of its own, which leads a group:
it and its workers end with whoever started it, even if that one is killed. Else they would go on fetching
into a folder that the next command works in.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


def main(settings_file: str) -> None:
    """Fetch the shards that are missing, as the settings say."""
    settings: dict[str, Any] = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    # The package's name `main` is a function that hides the module of that name.
    img2dataset: Any = importlib.import_module("img2dataset.main")
    from edgeproof_data.download.guarded import Limits
    from edgeproof_data.download.guarded_downloader import GuardedDownloader

    limits = Limits(**{**settings["limits"], "opt_out": frozenset(settings["limits"]["opt_out"])})

    def made(*arguments: Any, **keywords: Any) -> GuardedDownloader:
        downloader = GuardedDownloader(*arguments, **keywords)
        downloader.limits = limits
        return downloader

    img2dataset.Downloader = made
    img2dataset.download(**settings["img2dataset"])


def end_with_parent(pipe: int = 0) -> None:
    """End this group of processes as soon as nobody holds the other end of a pipe any more."""

    def watch() -> None:
        while os.read(pipe, 1):
            continue
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    main(sys.argv[1])
