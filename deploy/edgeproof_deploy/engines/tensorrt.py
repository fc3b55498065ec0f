"""TensorRT and TensorRT-RTX: plans that are built from the ONNX file, and run through cuda-python.

One implementation serves both. TensorRT builds for the GPU at hand; TensorRT-RTX builds on any machine, for
the compute capabilities that it is told.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from edgeproof_configs import __version__
from edgeproof_configs.errors import MissingPackageError
from edgeproof_configs.files import write_bytes
from edgeproof_configs.registry import register
from edgeproof_deploy.engine import (
    NOT_RUN_HERE,
    RUN_HERE,
    BuildOptions,
    Engine,
    EngineConfig,
    Session,
    explained,
)
from edgeproof_deploy.runtime.cuda_device import cuda_device
from edgeproof_deploy.runtime.errors import UnavailableError
from edgeproof_deploy.runtime.plan_build import build_plan
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar
from edgeproof_deploy.runtime.plans import (
    PLAN_SUFFIX,
    SIDECAR_SUFFIX,
    Here,
    keep_plan,
    misfits,
    open_plan_file,
)
from edgeproof_deploy.runtime.tensorrt_package import INSTALL, RTX, TENSORRT, why_not_here, why_not_installed

LAYERS_SUFFIX = ".layers.json"
"""What the inspector tells about a plan, beside it; written where the plan could be opened."""


class PlanEngine(Engine):
    """What TensorRT and TensorRT-RTX have in common."""

    file_suffix: ClassVar[str] = PLAN_SUFFIX
    package: ClassVar[str]

    @classmethod
    def available(cls) -> str | None:
        """Return that the package is missing, or None."""
        return why_not_installed(cls.package)

    def why_not_here(self, built: Path | None = None) -> str | None:
        """Return why plans are not run on this machine, or why this one is not, or None."""
        missing = why_not_here(self.package)
        if missing is not None or built is None:
            return missing
        with explained(built):
            file = built.with_suffix(SIDECAR_SUFFIX)
            wrong = misfits(Sidecar.parse(file.read_bytes(), file.name), Here.of(self.package))
        return "; ".join(wrong) or None

    def settings(self, options: BuildOptions) -> PlanSettings:
        """Return how a plan is built."""
        return PlanSettings(
            batch=options.batch,
            precision=options.precision,
            sparse=options.sparse,
            optimization_level=options.optimization_level,
            cuda_graph=options.cuda_graph,
            views=options.views,
        )

    def targets(self, settings: PlanSettings) -> tuple[str, ...]:
        """Return the compute capabilities that a plan will be for."""
        return settings.compute_capabilities

    def build(self, source: Path, folder: Path, options: BuildOptions) -> Path:
        """Write `<engine>-<form>-sm<capability>.engine` and its `.json`, and return the plan.

        Where the plan can be opened on this machine, `.layers.json` with what the inspector tells lies beside
        them.

        Raises:
            EdgeproofError: the model is not supported.
            MissingPackageError: a device is missing, or the engine cannot build for it.
        """
        settings = self.settings(options)
        numbers = [f"sm{number.replace('.', '')}" for number in self.targets(settings)]
        plan = folder / ("-".join([self.kind, options.label or options.precision, *numbers]) + PLAN_SUFFIX)
        with explained(source):
            onnx = source.read_bytes()
            built = build_plan(self.package, onnx, settings, onnx_name=source.name, plan_name=plan.name)
            reason = why_not_here(self.package) or "; ".join(misfits(built.sidecar, Here.of(self.package)))
            status = RUN_HERE if not reason else NOT_RUN_HERE
            said = {"edgeproof_version": __version__, "status": status, "reason": reason or None}
            keep_plan(built, plan, said)
            if not reason:
                session = open_plan_file(plan, self.package)
                write_bytes(layers_of_plan(plan), session.inspect().encode())
                session.close()
        return plan

    def open(self, path: Path, threads: int | None = None) -> Session:
        """Load a plan that lies beside its sidecar; `threads` are of the CPU, and change nothing here.

        Raises:
            MissingPackageError: it cannot run on this machine; says why.
            EdgeproofError: plan or sidecar were cut or changed.
        """
        with explained(path):
            return open_plan_file(path, self.package)

    def files(self, built: Path) -> list[Path]:
        """Return the plan, its sidecar, and what the inspector told where it could be asked."""
        beside = [built.with_suffix(SIDECAR_SUFFIX), layers_of_plan(built)]
        return [built, *(file for file in beside if file.is_file())]


@register("engine")
class TensorRT(PlanEngine):
    """TensorRT 10 and 11: plans for the GPU at hand, built where they run."""

    class Config(EngineConfig):
        """No settings; those of plans stand in `deploy.tensorrt`."""

        kind: Literal["tensorrt"] = "tensorrt"

    package: ClassVar[str] = TENSORRT
    install: ClassVar[str] = INSTALL[TENSORRT]

    def settings(self, options: BuildOptions) -> PlanSettings:
        """Return how a plan is built: TensorRT alone has plans for other versions and devices."""
        return replace(
            super().settings(options),
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
        )

    def check_can_build(self) -> None:
        """Refuse to build without the GPU that the plan is for.

        Raises:
            MissingPackageError: there is none.
        """
        self.targets(PlanSettings())

    def targets(self, settings: PlanSettings) -> tuple[str, ...]:
        """Return the compute capability of the device at hand.

        Raises:
            MissingPackageError: there is none.
        """
        try:
            return (cuda_device().compute_capability,)
        except UnavailableError as error:
            raise MissingPackageError(
                f"engine {self.kind} builds on the GPU that the plan is for: {error}",
                fix="run the build stage on the device, or put tensorrt_rtx into deploy.engines",
            ) from error


@register("engine")
class TensorRTRTX(PlanEngine):
    """TensorRT-RTX: plans for NVIDIA's RTX GPUs, built on any machine."""

    class Config(EngineConfig):
        """No settings; those of plans stand in `deploy.tensorrt`."""

        kind: Literal["tensorrt_rtx"] = "tensorrt_rtx"

    package: ClassVar[str] = RTX
    install: ClassVar[str] = INSTALL[RTX]
    builds_anywhere: ClassVar[bool] = True

    def settings(self, options: BuildOptions) -> PlanSettings:
        """Return how a plan is built: one plan serves all compute capabilities of the recipe."""
        return replace(super().settings(options), compute_capabilities=options.capabilities)


def layers_of_plan(plan: Path) -> Path:
    """Return where the inspector's JSON of a plan lies."""
    return plan.with_suffix(LAYERS_SUFFIX)
