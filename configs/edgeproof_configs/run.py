"""Run directories: one folder a run, one sub-folder a stage, a `stage.json` where a stage has finished."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_configs.files import FileTable, explain_os_errors, read_json, write_json, write_text

STAGES = (
    "teacher",
    "curate",
    "embed",
    "baseline",
    "train",
    "sparsify",
    "quantize",
    "head",
    "export",
    "build",
    "verify",
    "bench",
    "report",
    "bundle",
)
RECORDED_PACKAGES = (
    "edgeproof",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "transformers",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt",
    "tensorrt-rtx",
    "openvino",
    "cuda-python",
    "nvidia-modelopt",
    "numpy",
    "pillow",
)


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage leaves in its `stage.json`."""

    stage: str
    inputs: str
    outputs: dict[str, dict[str, Any]]
    seconds: float
    metrics: dict[str, Any] = field(default_factory=dict)

    def intact(self, folder: Path, files: FileTable) -> bool:
        """Whether every output is still there as the stage left it; a copy with another mtime is, too.

        Args:
            folder: of the stage.
            files: keeps what is hashed where the mtime alone differs.
        """
        for name, seen in self.outputs.items():
            try:
                stat = (folder / name).stat()
            except FileNotFoundError:
                return False
            if stat.st_size != seen["size"]:
                return False
            if stat.st_mtime_ns != seen["mtime_ns"] and files.sha256(folder / name) != seen["sha256"]:
                return False
        return True


class RunDir:
    """A run on disk."""

    def __init__(self, path: Path):
        self.path = path

    def stage(self, name: str) -> Path:
        """Return the folder of a stage (which need not exist)."""
        if name not in STAGES:
            raise ValueError(f"unknown stage {name!r}, expected one of {STAGES}")
        return self.path / name

    def record(self, name: str) -> StageRecord | None:
        """Return what a finished stage wrote, or None if it has not finished."""
        file = self.stage(name) / "stage.json"
        return StageRecord(**read_json(file)) if file.exists() else None

    def finish(
        self, name: str, inputs: str, outputs: list[Path], seconds: float, metrics: dict[str, Any]
    ) -> StageRecord:
        """Write a stage's `stage.json`: from now on it counts as done.

        Args:
            name: the stage.
            inputs: digest of everything that the stage depends on.
            outputs: files inside the stage's folder that later stages or the user rely on.
            seconds: how long it took.
            metrics: figures, JSON-able, without NaN.
        """
        folder = self.stage(name)
        table = FileTable(folder / ".none")
        described = {}
        for file in sorted(outputs):
            stat = file.stat()
            described[str(file.relative_to(folder))] = {
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "sha256": table.sha256(file),
            }
        record = StageRecord(name, inputs, described, round(seconds, 3), metrics)
        write_json(folder / "stage.json", record.__dict__)
        return record

    def forget(self, name: str) -> None:
        """Make a stage count as not done; its files stay, so that it can resume."""
        (self.stage(name) / "stage.json").unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run directory for this process.

        Raises:
            UsageError: another process works in it.
            EdgeproofError: the directory cannot be written.
        """
        with explain_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                handle.seek(0)
                owner = handle.read().strip() or "unknown"
                raise UsageError(
                    f"another edgeproof process (pid {owner}) works in this run directory",
                    where=self.path,
                    fix="wait for it, or give this one another place with --run DIR",
                ) from error
            with explain_os_errors(self.path):
                handle.truncate(0)
                handle.write(str(os.getpid()))
                handle.flush()
            yield

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`. A line that a killed process left unfinished is closed first."""
        file = self.path / "metrics.jsonl"
        with explain_os_errors(file), file.open("ab+") as handle:
            size = handle.seek(0, os.SEEK_END)
            if size:
                handle.seek(size - 1)
                if handle.read(1) != b"\n":
                    handle.write(b"\n")
            handle.write(json.dumps(row, allow_nan=False).encode() + b"\n")

    def rewind_metrics(self, stage: str, step: int) -> None:
        """Drop a stage's rows of later steps: an interrupted attempt wrote them and they will come again."""
        rows = self.metrics()
        kept = [row for row in rows if row.get("stage") != stage or row.get("step", 0) <= step]
        if len(kept) < len(rows):
            text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept)
            write_text(self.path / "metrics.jsonl", text)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of `metrics.jsonl`; a line cut by a kill is left out."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        rows = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows


def require_run(path: Path) -> RunDir:
    """Return an existing run.

    Raises:
        UsageError: there is no run at this path.
    """
    if not (path / "recipe.resolved.yaml").exists():
        raise UsageError("this is not a run directory: it has no recipe.resolved.yaml", where=path)
    return RunDir(path)


def environment() -> dict[str, Any]:
    """Return the machine and the versions that a run was made with, without importing any heavy package."""
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def processor_name() -> str:
    """Return the CPU's model name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def check_free(path: Path, needed_bytes: int) -> None:
    """Refuse to start work that will not fit.

    Raises:
        EdgeproofError: fewer than `needed_bytes` are free where `path` lies.
    """
    place = path
    while not place.exists():
        place = place.parent
    stat = os.statvfs(place)
    free = stat.f_bavail * stat.f_frsize
    if free < needed_bytes:
        raise EdgeproofError(
            f"needs {needed_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            where=path,
            fix="free some space or choose another place with --run DIR",
        )
