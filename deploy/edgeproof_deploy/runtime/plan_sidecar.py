"""The JSON file beside a plan: what the plan was built from, how and for what.

A plan is written as it is, without a header, so that other tools can load it; what must be known before it
is loaded stands here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from edgeproof_deploy.runtime.errors import BundleError

SCHEMA_VERSION = 2
HARDWARE = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class PlanSettings:
    """How a plan is built; the same settings build it again elsewhere.

    Attributes:
        batch: batch sizes to serve. The plan is tuned for the first, and takes all from the smallest to the
            largest.
        precision: of the arithmetic; it lies in the ONNX file. For `fp32`, TF32 is switched off.
        compute_capabilities: what TensorRT-RTX compiles for, such as `("8.6", "8.9")`. TensorRT builds for
            the device at hand alone.
        sparse: let TensorRT choose kernels for weights of which two in four are zero.
        version_compatible: TensorRT only: later versions of TensorRT can load it; slower.
        hardware_compatible: TensorRT only, one of `HARDWARE`: devices besides the one at hand; slower.
        optimization_level: 0 to 5, how long the builder searches.
        cuda_graph: run it as one CUDA graph a batch size.
        views: of a model of views, the numbers of views of an object to serve, as `batch`.
    """

    batch: tuple[int, ...] = (1, 8)
    precision: str = "fp32"
    compute_capabilities: tuple[str, ...] = ()
    sparse: bool = False
    version_compatible: bool = False
    hardware_compatible: str = "none"
    optimization_level: int = 3
    cuda_graph: bool = False
    views: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, found: Any) -> PlanSettings:
        """Read what `asdict` gives.

        Raises:
            ValueError: a setting is missing, unknown, or has a value that makes no sense.
        """
        names = {field.name for field in fields(cls)}
        if isinstance(found, dict):
            # Plans of earlier versions, which knew no views, lack it.
            found = {"views": [], **found}
        if not isinstance(found, dict) or set(found) != names:
            raise ValueError(f"settings must have the keys {', '.join(sorted(names))}")
        batch, views, capabilities = found["batch"], found["views"], found["compute_capabilities"]
        if not isinstance(batch, list) or not batch or not all(_count(size) for size in batch):
            raise ValueError("settings.batch must be a list of whole numbers from 1 up")
        if not isinstance(views, list) or not all(_count(number) for number in views):
            raise ValueError("settings.views must be a list of whole numbers from 1 up")
        if not _strings(capabilities):
            raise ValueError("settings.compute_capabilities must be a list of strings")
        switches = [found[name] for name in ("sparse", "version_compatible", "cuda_graph")]
        if not all(isinstance(switch, bool) for switch in switches):
            raise ValueError("settings.sparse, version_compatible and cuda_graph must be true or false")
        if found["hardware_compatible"] not in HARDWARE:
            raise ValueError(f"settings.hardware_compatible must be one of {', '.join(HARDWARE)}")
        if found["precision"] not in ("fp32", "fp16", "int8") or found["optimization_level"] not in range(6):
            raise ValueError("settings.precision or settings.optimization_level makes no sense")
        lists = {"batch": tuple(batch), "views": tuple(views), "compute_capabilities": tuple(capabilities)}
        return cls(**{**found, **lists})


@dataclass(frozen=True)
class Sidecar:
    """What the JSON file says, as far as loading depends on it.

    Attributes:
        engine: `tensorrt` or `tensorrt_rtx`.
        version: of its package.
        compute_capabilities: of the devices that it is for.
        device: name of the GPU that it was built on; empty where there was none.
        system: operating system and processor that it was built on.
        onnx: name of the ONNX file.
        onnx_sha256: of that file.
        plan: name of the plan.
        plan_sha256: of the plan.
        plan_bytes: its size.
        settings: how it was built.
    """

    engine: str
    version: str
    compute_capabilities: tuple[str, ...]
    device: str
    system: str
    onnx: str
    onnx_sha256: str
    plan: str
    plan_sha256: str
    plan_bytes: int
    settings: PlanSettings

    @classmethod
    def parse(cls, data: bytes, name: str) -> Sidecar:
        """Read a sidecar.

        Args:
            data: the bytes of the file.
            name: what it is called in an error.

        Raises:
            BundleError: it is no sidecar of this version.
        """
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(name, f"is not JSON: {error}") from error
        if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
            raise BundleError(name, f"is not the description of a plan with schema version {SCHEMA_VERSION}")
        texts = [field.name for field in fields(cls) if field.type == "str"]
        wrong = [key for key in texts if not isinstance(found.get(key), str)]
        if wrong or not _count(found.get("plan_bytes")) or not _strings(found.get("compute_capabilities")):
            raise BundleError(name, f"is damaged: {(wrong or ['plan_bytes or compute_capabilities'])[0]}")
        if found["plan"] != PurePosixPath(found["plan"]).name or "\\" in found["plan"]:
            raise BundleError(name, f"names {found['plan']!r}, which is no file beside it")
        try:
            settings = PlanSettings.from_dict(found.get("settings"))
        except (TypeError, ValueError) as error:
            raise BundleError(name, f"is damaged: {error}") from error
        capabilities = tuple(found["compute_capabilities"])
        return cls(
            **{key: found[key] for key in texts},
            compute_capabilities=capabilities,
            plan_bytes=found["plan_bytes"],
            settings=settings,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `parse` reads, as plain data."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def as_json(sidecar: Sidecar, more: Mapping[str, Any]) -> bytes:
    """Return the file's bytes: the sidecar and what it says besides."""
    return json.dumps({**sidecar.to_dict(), **more}, indent=2, ensure_ascii=False).encode() + b"\n"


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
