"""What a stage is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeproof_configs.files import FileTable
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import Recipe


@dataclass(frozen=True)
class StageContext:
    """Everything that a stage may look at: the recipe, the run's other stages, the device."""

    recipe: Recipe
    run: RunDir
    device: str
    strict: bool
    files: FileTable

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage, made if need be."""
        folder = self.run.stage(stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def metrics(self, stage: str) -> dict[str, Any]:
        """Return the figures of a stage that has finished, or an empty dict."""
        record = self.run.record(stage)
        return record.metrics if record else {}


@dataclass(frozen=True)
class StageOutcome:
    """The files that a finished stage leaves, its figures, and one line for the terminal."""

    outputs: list[Path]
    metrics: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
