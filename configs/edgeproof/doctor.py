"""`doctor`: this machine, line by line. OK is fine, WARN works but may surprise, FAIL has to be mended."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from edgeproof.catalogue import engine_state
from edgeproof_compress.processor import saturates_here
from edgeproof_configs.errors import MissingPackageError
from edgeproof_configs.run import processor_name

GB = 1e9
PACKAGES: dict[str, str | None] = {
    "edgeproof": None,
    "numpy": None,
    "pillow": None,
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "open_clip_torch": "train",
    "transformers": "train",
    "accelerate": "train",
    "safetensors": "train",
    "nvidia-modelopt": "compress",
    "onnx": "deploy",
    "onnxscript": "deploy",
}
"""Distribution -> the extra that brings it; None for what every command needs."""


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    status: Literal["OK", "WARN", "FAIL"]
    subject: str
    text: str
    fix: str | None = None


def examine() -> list[Finding]:
    """Return everything that is known about this machine, without importing torch."""
    return [*_python(), *_processor(), *_memory(), *_disk(), *_packages(), *_cuda(), *_engines(), *_folders()]


def failed(findings: Sequence[Finding]) -> bool:
    """Whether something has to be mended."""
    return any(finding.status == "FAIL" for finding in findings)


def render(findings: Sequence[Finding], as_json: bool) -> str:
    """Return the findings as aligned lines, or as JSON."""
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<4}  {finding.subject:<{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':<{6 + width}}  do: {finding.fix}")
    return "\n".join(lines)


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < (3, 10):  # noqa: UP036
        yield Finding("FAIL", "python", text, "use Python 3.10 or newer")
    else:
        yield Finding("OK", "python", text)


def _processor() -> Iterator[Finding]:
    cores = usable_cores()
    load = os.getloadavg()[0]
    yield Finding("OK", "processor", f"{processor_name()}, {cores:g} of {os.cpu_count()} cores usable")
    if saturates_here():
        yield Finding(
            "WARN",
            "int8",
            "this processor has no VNNI: weights for ONNX Runtime keep to 7 bits, and INT8 gains less",
        )
    if load > 0.5 * cores:
        yield Finding(
            "WARN", "load", f"{load:.1f} on {cores:g} cores: latencies measured now will be too high"
        )
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists() and (mode := governor.read_text().strip()) != "performance":
        yield Finding("WARN", "clocks", f"governor '{mode}': the clock changes while latencies are measured")


def usable_cores() -> float:
    """Return how many cores this process may use, counting a container's quota."""
    cores = (
        float(len(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else float(os.cpu_count() or 1)
    )
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        allowed, period = quota.read_text().split()
        if allowed != "max":
            cores = min(cores, int(allowed) / int(period))
    return cores


def _memory() -> Iterator[Finding]:
    total, free = memory_bytes()
    if total is None or free is None:
        yield Finding("WARN", "memory", "this system does not tell")
        return
    text = f"{total / GB:.1f} GB, {free / GB:.1f} GB free"
    if free < 3 * GB:
        yield Finding(
            "WARN", "memory", text, "training needs about 3 GB: close something, or use a small batch"
        )
    else:
        yield Finding("OK", "memory", text)


def memory_bytes() -> tuple[float | None, float | None]:
    """Return this machine's, or this container's, memory: all of it and what is free."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return None, None
    rows = dict(line.split(":", 1) for line in info.read_text().splitlines())
    total, free = (1024.0 * int(rows[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()) != "max" and float(text) < total:
        total = float(text)
        free = min(free, total - float(Path("/sys/fs/cgroup/memory.current").read_text()))
    return total, free


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GB:.1f} GB free in {Path.cwd()}"
    yield (
        Finding("OK", "disk", text)
        if free > 2 * GB
        else Finding("WARN", "disk", text, "a run of the quickstart takes up to 2 GB: use --run DIR")
    )


def _packages() -> Iterator[Finding]:
    for package, extra in PACKAGES.items():
        found = _version(package)
        if found:
            yield Finding("OK", package, found)
        else:
            wanted = f"edgeproof[{extra}]" if extra else "edgeproof"
            yield Finding("WARN", package, "not installed", f"pip install '{wanted}'")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cuda() -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("OK", "cuda", "no NVIDIA driver: everything runs on the CPU")
        return
    query = [program, "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        yield Finding("WARN", "cuda", f"nvidia-smi does not answer: {error}", "look at the NVIDIA driver")
        return
    for line in filter(None, answer.splitlines()):
        name, driver, capability, memory = (word.strip() for word in line.split(","))
        yield Finding("OK", "cuda", f"{name}, {memory}, compute capability {capability}, driver {driver}")


def _engines() -> Iterator[Finding]:
    from edgeproof_configs.registry import discover

    try:
        engines: dict[str, Any] = dict(discover("engine"))
    except MissingPackageError as error:
        yield Finding("WARN", "engines", error.what, error.fix)
        return
    for kind, engine in engines.items():
        there, state = engine_state(engine)
        yield Finding("OK" if there else "WARN", f"engine {kind}", state)


def _folders() -> Iterator[Finding]:
    data = os.environ.get("EDGEPROOF_DATA")
    if data is None:
        yield Finding("OK", "EDGEPROOF_DATA", "not set: tests that need outside data are skipped")
    elif Path(data).is_dir():
        yield Finding("OK", "EDGEPROOF_DATA", data)
    else:
        yield Finding("WARN", "EDGEPROOF_DATA", f"{data} is not a folder", "set it to a folder, or unset it")
    yield _cache_folder()


def _cache_folder() -> Finding:
    """Try to write where rendered data sets are kept."""
    folder = Path(os.environ.get("EDGEPROOF_CACHE") or Path.home() / ".cache" / "edgeproof")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("OK", "cache folder", f"{folder} can be written")
    except OSError as error:
        fix = "set EDGEPROOF_CACHE to a folder that can be written"
        return Finding("FAIL", "cache folder", f"{folder}: {error.strerror}", fix)
