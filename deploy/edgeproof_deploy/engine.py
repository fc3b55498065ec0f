"""What every engine has: whether it can be used, how it is built from a file, how it is opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgeproof_configs.errors import EdgeproofError, MissingPackageError
from edgeproof_configs.registry import component_class, kind_of
from edgeproof_configs.schema import Config
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.model_interface import Session, check_tensors
from edgeproof_deploy.runtime.session import OnnxSession

__all__ = ["BuildOptions", "Engine", "EngineConfig", "Session", "explained", "make_engine", "open_onnx"]

RUN_HERE = "run here"
NOT_RUN_HERE = "built, not run here"


class EngineConfig(Config):
    """Base of the engine kinds; each declares its `kind`."""


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built.

    Attributes:
        batch: batch sizes to serve. The plan is tuned for the first, and takes all from the smallest to the
            largest.
        views: of a student of views, the numbers of views of an object to serve, likewise.
        compute_capability: of the devices that TensorRT-RTX builds for, such as `8.6`, or several.
        precision: of the arithmetic; it lies in the ONNX file, and is named here for the plan's name.
        label: what the plan is called in place of its precision.
        sparse: whether two in four weights are zero.
        version_compatible: TensorRT: later versions of it can load the plan.
        hardware_compatible: TensorRT: `none`, `ampere_plus` or `same_compute_capability`.
        optimization_level: 0 to 5, how long the builder searches.
        cuda_graph: run the plan as a CUDA graph.
    """

    batch: tuple[int, ...] = (1, 8)
    compute_capability: str | tuple[str, ...] = "8.6"
    precision: str = "fp32"
    label: str = ""
    sparse: bool = False
    version_compatible: bool = False
    hardware_compatible: str = "none"
    optimization_level: int = 3
    cuda_graph: bool = False
    views: tuple[int, ...] = ()

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities, of which there may be one."""
        if isinstance(self.compute_capability, str):
            return (self.compute_capability,)
        return self.compute_capability


class Engine(ABC):
    """Base of the engine kinds.

    Attributes:
        source: what it runs: the `onnx` file, or the folder of the `student`.
        file_suffix: of what `build` writes; empty where the source is run as it is.
        install: how to get its package.
        builds_anywhere: whether it builds for a device that this machine need not have.
    """

    Config: ClassVar[type[EngineConfig]]
    source: ClassVar[Literal["onnx", "student"]] = "onnx"
    file_suffix: ClassVar[str] = ""
    install: ClassVar[str] = "pip install 'edgeproof[deploy]'"
    builds_anywhere: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The name in a recipe."""
        return kind_of(type(self))

    @classmethod
    @abstractmethod
    def available(cls) -> str | None:
        """Return why it can neither build nor run here, or None."""

    @abstractmethod
    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return why it does not run on this machine, or None.

        Args:
            built: what `build` returned, where that may fit some machines and others not; None asks of the
                engine alone.
        """

    @property
    def runs_here(self) -> bool:
        """Whether `open` works on this machine, of files that fit it."""
        return self.why_not_here() is None

    @property
    def status(self) -> str:
        """`run here`, or `built, not run here`."""
        return RUN_HERE if self.runs_here else NOT_RUN_HERE

    def check_can_build(self) -> None:
        """Refuse to build where that needs a device that is not here.

        Raises:
            MissingPackageError: there is none.
        """

    def build(self, source: Path, folder: Path, options: BuildOptions) -> Path:
        """Make what this engine runs and return where it lies; the source itself if nothing is to be made.

        Args:
            source: the ONNX file, or the student's folder where `self.source` says so.
            folder: where to write.
            options: batch sizes and device.
        """
        return source

    @abstractmethod
    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load what `build` returned.

        Args:
            path: the file or folder.
            threads: threads within one operator; None leaves the choice to the engine.

        Raises:
            MissingPackageError: it cannot run on this machine.
        """

    def files(self, built: Path) -> list[Path]:
        """Return what to ship of this engine: nothing where it runs the ONNX file."""
        return []


def make_engine(kind: str) -> Engine:
    """Return an engine that can be used here.

    Raises:
        UsageError: there is no such engine.
        MissingPackageError: a package that it needs is not installed.
    """
    engine: Any = component_class("engine", kind)
    reason = engine.available()
    if reason is not None:
        what = reason.removesuffix(f": {engine.install}")
        raise MissingPackageError(f"engine {kind}: {what}", fix=engine.install)
    return engine()


def why_not_usable(kind: str) -> str | None:
    """Return why an engine can not be built and run on this machine, or None.

    Raises:
        UsageError: there is no such engine.
    """
    engine: Any = component_class("engine", kind)
    return engine.available() or engine().why_not_here()


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turn errors of the runtime within the block into those of the command line.

    Args:
        where: the file that is worked on.

    Raises:
        MissingPackageError: a package or a device cannot be used here.
        EdgeproofError: a file is no model, or was changed.
    """
    try:
        yield
    except UnavailableError as error:
        raise MissingPackageError(str(error), where=where, fix="see `edgeproof ls engines`") from error
    except BundleError as error:
        fix = "run the stage that makes it again, or choose another engine"
        raise EdgeproofError(f"the model {error.reason}", where=where, fix=fix) from error


def open_onnx(path: Path, *, device: str = "cpu", threads: int | None = None) -> OnnxSession:
    """Open an ONNX file in ONNX Runtime.

    Raises:
        MissingPackageError: onnxruntime is not installed or cannot use the device.
        EdgeproofError: the file is no model that it can load.
    """
    with explained(path):
        session = OnnxSession(path, device=device, threads=threads, name=path.name)
        check_tensors(session.inputs, session.outputs, path.name)
        return session
