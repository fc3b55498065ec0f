"""The package of a plan engine, TensorRT or TensorRT-RTX: whether it is here, and what it complains of.

Both have the same classes. What only one of them does stands in `plan_build`, `plan_session` under `RTX`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from edgeproof_deploy.runtime.cuda_device import why_no_cuda
from edgeproof_deploy.runtime.errors import UnavailableError

TENSORRT, RTX = "tensorrt", "tensorrt_rtx"
PLAN_ENGINES = {TENSORRT: "TensorRT", RTX: "TensorRT-RTX"}
"""Engine, which is also the name of its module -> what it is called."""

INSTALL = {
    TENSORRT: "it comes with JetPack on a Jetson (make the venv with --system-site-packages),"
    " elsewhere from NVIDIA's package index: see NVIDIA's TensorRT installation guide",
    RTX: "pip install tensorrt-rtx",
}
CUDA_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Where cuda-python keeps CUDA's runtime: since 12.8, and before, as for the CUDA 12.6 of JetPack 6."""

CUDA_INSTALL = "pip install 'cuda-bindings==13.*', ==12.* for CUDA 12, or 'cuda-python==12.6.*' on JetPack 6"

_logs: dict[str, Any] = {}


def why_not_installed(engine: str) -> str | None:
    """Return that the engine's package is missing and how to get it, or None."""
    if find_spec(engine) is None:
        return f"package {engine} is not installed: {INSTALL[engine]}"
    return None


def why_not_here(engine: str) -> str | None:
    """Return why no plan of an engine can be run on this machine, or None."""
    missing = why_not_installed(engine) or why_no_cuda()
    if missing is None and not has_cuda_python():
        missing = f"cuda-python is not installed: {CUDA_INSTALL}"
    return missing


def has_cuda_python() -> bool:
    """Whether CUDA's runtime can be found in one of the places where cuda-python keeps it."""
    return any(found(module) for module in CUDA_MODULES)


def found(module: str) -> bool:
    """Whether a module and the packages that it lies in can be found."""
    parts = module.split(".")
    return all(find_spec(".".join(parts[:end])) for end in range(1, len(parts) + 1))


def import_package(engine: str) -> Any:
    """Return the module of an engine.

    Raises:
        UnavailableError: it is not installed, or its libraries are missing.
    """
    missing = why_not_installed(engine)
    if missing:
        raise UnavailableError(missing)
    try:
        return importlib.import_module(engine)
    except (ImportError, OSError) as error:
        raise UnavailableError(
            f"package {engine} is installed and cannot be loaded: {error}; {INSTALL[engine]}"
        ) from error


def log_of(package: ModuleType | Any) -> Any:
    """Return the one logger of a package: it prints nothing, and keeps what is an error.

    A process has one: the package goes on with the first that it was given, whatever comes later.
    """
    name = package.__name__
    if name not in _logs:

        class Log(package.ILogger):
            def __init__(self) -> None:
                package.ILogger.__init__(self)
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (package.ILogger.INTERNAL_ERROR, package.ILogger.ERROR):
                    self.errors.append(message)

        _logs[name] = Log()
    return _logs[name]


@contextmanager
def complaints_of(package: ModuleType | Any) -> Iterator[list[str]]:
    """Give a list that holds, in order, the errors that a package logs within the block."""
    log = log_of(package)
    log.errors.clear()
    yield log.errors


def first_of(complaints: list[str]) -> str:
    """Return the first line of the first complaint: those after it are mostly its consequences."""
    return complaints[0].strip().splitlines()[0][:300] if complaints else "no reason was given"


def system() -> str:
    """Return operating system and processor, such as `linux aarch64`: a plan serves no other."""
    import platform

    return f"{sys.platform} {platform.machine().lower()}"
