"""The process that fetches: `python -m edgeproof_data.download.fetch_process SETTINGS`.

img2dataset takes over a process (signals, output, workers), so it gets one of its own.
"""

from __future__ import annotations

import importlib
import json
import sys
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


if __name__ == "__main__":
    main(sys.argv[1])
