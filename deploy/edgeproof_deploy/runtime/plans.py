"""Plans on a device: does this one fit, which of a bundle does, and building it again where none does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgeproof_deploy.runtime.bundle import ENGINES_FOLDER, Bundle
from edgeproof_deploy.runtime.cache_folder import cache_folder, keep
from edgeproof_deploy.runtime.cuda_device import CudaDevice, cuda_device
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.plan_build import BuiltPlan, build_plan
from edgeproof_deploy.runtime.plan_session import PlanSession
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar, as_json
from edgeproof_deploy.runtime.preprocess import Preprocess
from edgeproof_deploy.runtime.tensorrt_package import (
    PLAN_ENGINES,
    RTX,
    TENSORRT,
    import_package,
    system,
    why_not_here,
)

PLAN_SUFFIX, SIDECAR_SUFFIX = ".engine", ".json"
PREPROCESS_FILE = "preprocess.json"
AMPERE = 8


@dataclass(frozen=True)
class Here:
    """What a plan must fit: the package and the device of this machine."""

    engine: str
    version: str
    device: CudaDevice
    system: str

    @classmethod
    def of(cls, engine: str) -> Here:
        """Look at this machine.

        Raises:
            UnavailableError: the package, cuda-python or a device is missing.
        """
        missing = why_not_here(engine)
        if missing:
            raise UnavailableError(f"engine {engine}: {missing}")
        return cls(engine, str(import_package(engine).__version__), cuda_device(), system())

    @property
    def key(self) -> str:
        """Everything that a plan depends on, as a name of a folder."""
        number = self.device.compute_capability.replace(".", "")
        return f"{self.engine}{self.version}-sm{number}-{self.device.driver}".replace(" ", "")


def misfits(sidecar: Sidecar, here: Here, onnx_sha256: str | None = None) -> list[str]:
    """Return why a plan does not fit this machine or its model, in words; empty where it fits.

    Args:
        sidecar: of the plan.
        here: this machine.
        onnx_sha256: of the model that it should be built from, where that is known.
    """
    if sidecar.engine != here.engine:
        return [f"it is a plan of {sidecar.engine}"]
    name, found = PLAN_ENGINES[here.engine], []
    if not _version_fits(sidecar, here.version):
        found.append(f"built by {name} {sidecar.version}, this is {name} {here.version}")
    if not _device_fits(sidecar, here.device):
        built = ", ".join(sidecar.compute_capabilities)
        found.append(
            f"built for SM {built}, this device ({here.device.name}) is {here.device.compute_capability}"
        )
    if sidecar.system != here.system and here.engine == TENSORRT:
        found.append(f"built on {sidecar.system}, this is {here.system}")
    if onnx_sha256 is not None and sidecar.onnx_sha256 != onnx_sha256:
        found.append(f"built from another {sidecar.onnx} than this one")
    return found


def _version_fits(sidecar: Sidecar, version: str) -> bool:
    if sidecar.settings.version_compatible:
        return _numbers(version) >= _numbers(sidecar.version)
    return sidecar.version == version


def _device_fits(sidecar: Sidecar, device: CudaDevice) -> bool:
    if sidecar.settings.hardware_compatible == "ampere_plus":
        return int(device.compute_capability.split(".")[0]) >= AMPERE
    return device.compute_capability in sidecar.compute_capabilities


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def check_plan(plan: bytes, sidecar: Sidecar, name: str) -> None:
    """Refuse a plan that is not the one that its sidecar describes.

    Raises:
        BundleError: it was cut or changed.
    """
    if len(plan) != sidecar.plan_bytes:
        raise BundleError(name, f"was cut or changed: {len(plan)} bytes, its .json says {sidecar.plan_bytes}")
    if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
        raise BundleError(name, "was changed: its sha256 is not the one in its .json")


def open_session(plan: bytes, sidecar: Sidecar, here: Here, name: str) -> PlanSession:
    """Load a plan that fits this machine.

    Raises:
        BundleError: it was cut or changed, or the package does not load it.
        UnavailableError: the device fails.
    """
    check_plan(plan, sidecar, name)
    kernels = cache_folder("kernels", here.key, f"{sidecar.plan_sha256[:24]}.bin")
    return PlanSession(
        plan,
        here.engine,
        name=name,
        cuda_graph=sidecar.settings.cuda_graph,
        host_code=sidecar.settings.version_compatible,
        kernel_cache=kernels if here.engine == RTX else None,
    )


def open_plan_file(path: Path, engine: str) -> PlanSession:
    """Load a plan that lies beside its sidecar.

    Raises:
        BundleError: plan or sidecar are missing or damaged.
        UnavailableError: the plan does not fit this machine, or this machine has no such engine.
    """
    here = Here.of(engine)
    try:
        described, plan = path.with_suffix(SIDECAR_SUFFIX).read_bytes(), path.read_bytes()
    except OSError as error:
        raise BundleError(path.name, f"cannot be read with its .json: {error.strerror}") from error
    sidecar = Sidecar.parse(described, path.with_suffix(SIDECAR_SUFFIX).name)
    wrong = misfits(sidecar, here)
    if wrong:
        raise UnavailableError(f"{path.name} does not fit: {'; '.join(wrong)}; run the build stage here")
    return open_session(plan, sidecar, here, path.name)


def open_bundled_plan(bundle: Bundle, engine: str, model: str, *, rebuild: bool = False) -> PlanSession:
    """Load the plan of a bundle's model that fits this machine, or one that was built here before.

    Args:
        bundle: its manifest has been read.
        engine: `tensorrt` or `tensorrt_rtx`.
        model: the ONNX file whose plan is wanted; of an INT8 model, the one that TensorRT reads.
        rebuild: where none fits, build it from the ONNX file. It is kept in the cache folder, where it is
            found the next time, and the bundle stays as it is.

    Raises:
        UnavailableError: no plan fits, with the reasons and the command that builds one.
        BundleError: a file of the bundle was changed, or the model cannot be built.
    """
    here = Here.of(engine)
    reasons = []
    for name, sidecar in sidecars(bundle, engine, model):
        wrong = misfits(sidecar, here, bundle.listed[model]["sha256"])
        if not wrong:
            plan = str(PurePosixPath(name).with_name(sidecar.plan))
            return open_session(bundle.read(plan), sidecar, here, plan)
        reasons.append(f"{sidecar.plan} does not fit: {'; '.join(wrong)}")
    settings = settings_for(bundle, engine, model, here)
    kept = kept_plan(here, str(bundle.listed[model]["sha256"]), settings)
    if not is_whole(kept):
        if not rebuild:
            told = ". ".join(reasons) or f"the bundle holds no {engine} plan of {model}"
            command = f"edgeproof predict {bundle.path} IMAGE --engine {engine} --rebuild"
            raise UnavailableError(f"{told}. Build one for this device from {model}: {command}")
        built = build_plan(engine, bundle.read(model), settings, onnx_name=model, plan_name=kept.name)
        keep_plan(built, kept, {"status": "run here", "reason": None})
    return open_plan_file(kept, engine)


def is_whole(plan: Path) -> bool:
    """Whether a plan is there, and is the one that its sidecar describes."""
    described = plan.with_suffix(SIDECAR_SUFFIX)
    if not plan.is_file() or not described.is_file():
        return False
    try:
        check_plan(plan.read_bytes(), Sidecar.parse(described.read_bytes(), described.name), plan.name)
    except BundleError:
        return False
    return True


def sidecars(bundle: Bundle, engine: str, model: str) -> Iterator[tuple[str, Sidecar]]:
    """Yield the sidecars of a bundle that describe plans of an engine and a model, by their names."""
    for name in sorted(bundle.listed):
        if not name.startswith(f"{ENGINES_FOLDER}/{engine}-") or not name.endswith(SIDECAR_SUFFIX):
            continue
        if name.removesuffix(SIDECAR_SUFFIX) + PLAN_SUFFIX not in bundle.listed:
            continue
        sidecar = Sidecar.parse(bundle.read(name), name)
        if (sidecar.engine, sidecar.onnx) == (engine, model):
            yield name, sidecar


def settings_for(bundle: Bundle, engine: str, model: str, here: Here) -> PlanSettings:
    """Return how to build a model's plan here: as a plan of the bundle was built, or as the recipe says."""
    found = [sidecar for other in PLAN_ENGINES for _, sidecar in sidecars(bundle, other, model)]
    if found:
        settings = found[0].settings
    else:
        parts = model.replace("_", ".").split(".")
        precision = next((name for name in ("int8", "fp16") if name in parts), "fp32")
        settings = PlanSettings(
            batches(bundle), precision, sparse="sparse" in parts, views=view_counts(bundle)
        )
    if engine == RTX:
        return replace(
            settings,
            compute_capabilities=(here.device.compute_capability,),
            version_compatible=False,
            hardware_compatible="none",
        )
    return replace(settings, compute_capabilities=())


def batches(bundle: Bundle) -> tuple[int, ...]:
    """Return the batch sizes of the bundle's recipe."""
    try:
        sizes = tuple(int(size) for size in bundle.manifest["recipe"]["deploy"]["batch"])
    except (KeyError, TypeError, ValueError):
        sizes = ()
    return sizes if sizes and min(sizes) > 0 else PlanSettings().batch


def view_counts(bundle: Bundle) -> tuple[int, ...]:
    """Return the numbers of views of an object that a bundle's plans serve; none where it takes images.

    They are those of the recipe, or any up to that of its evaluation, for which a plan is tuned.

    Raises:
        BundleError: `preprocess.json` is damaged.
    """
    try:
        views = Preprocess.from_dict(bundle.read_json(PREPROCESS_FILE)).views
    except (TypeError, ValueError) as error:
        raise BundleError(PREPROCESS_FILE, str(error)) from error
    if views is None:
        return ()
    try:
        told = tuple(int(count) for count in bundle.manifest["recipe"]["deploy"]["views"])
    except (KeyError, TypeError, ValueError):
        told = ()
    return told if told and min(told) > 0 else (views, 1)


def kept_plan(here: Here, onnx_sha256: str, settings: PlanSettings) -> Path:
    """Return where a plan that is built on this machine is kept."""
    told = json.dumps([onnx_sha256, asdict(settings)], sort_keys=True).encode()
    return cache_folder("plans", here.key, hashlib.sha256(told).hexdigest()[:24] + PLAN_SUFFIX)


def keep_plan(built: BuiltPlan, plan: Path, said: Mapping[str, Any]) -> None:
    """Write a plan, and beside it its sidecar.

    Args:
        built: the plan in memory.
        plan: the file to write.
        said: what the sidecar says besides, such as whether the plan could be run.
    """
    keep(plan, built.plan)
    keep(plan.with_suffix(SIDECAR_SUFFIX), as_json(built.sidecar, {**said, **built.more}))
