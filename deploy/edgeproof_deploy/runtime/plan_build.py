"""Building a plan from an ONNX file; the package is a parameter, TensorRT 10 or 11, or TensorRT-RTX.

Networks are strongly typed: the precision lies in the ONNX file. TensorRT-RTX builds without a GPU, and so
this code is exercised wherever it is installed; the lines under `engine == TENSORRT` need a GPU and TensorRT.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeproof_deploy.runtime.cache_folder import cache_folder, keep
from edgeproof_deploy.runtime.cuda_device import CudaDevice, cuda_device
from edgeproof_deploy.runtime.errors import BundleError, UnavailableError
from edgeproof_deploy.runtime.model_interface import check_tensors
from edgeproof_deploy.runtime.plan_sidecar import PlanSettings, Sidecar
from edgeproof_deploy.runtime.tensorrt_package import (
    PLAN_ENGINES,
    RTX,
    TENSORRT,
    complaints_of,
    first_of,
    import_package,
    log_of,
    system,
)

WORKSPACE_BYTES = 1 << 30
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
TURING = "7.5"


@dataclass(frozen=True)
class Profile:
    """The shapes that an input of dynamic batch, and perhaps number of views, may have in a plan."""

    smallest: tuple[int, ...]
    tuned_for: tuple[int, ...]
    largest: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], batch: tuple[int, ...], views: tuple[int, ...] = ()) -> Profile:
        """Return the profile of an input whose first axis is the batch; a fixed axis stays as it is.

        Raises:
            ValueError: the number of views is free, and none is given.
        """
        asked = [batch if shape[0] < 0 else shape[:1]]
        if len(shape) == 5:
            asked.append(views if shape[1] < 0 else shape[1:2])
        if not all(asked):
            raise ValueError("how many views of an object shall the plan take? None are given")
        rest = shape[len(asked) :]
        ends = [(min(sizes), sizes[0], max(sizes)) for sizes in asked]
        smallest, tuned_for, largest = zip(*ends)
        return cls((*smallest, *rest), (*tuned_for, *rest), (*largest, *rest))


@dataclass(frozen=True)
class BuiltPlan:
    """A plan in memory, its sidecar, and what the sidecar's file says besides."""

    plan: bytes
    sidecar: Sidecar
    more: dict[str, Any]


def build_plan(
    engine: str, onnx: bytes, settings: PlanSettings, *, onnx_name: str, plan_name: str
) -> BuiltPlan:
    """Build a plan.

    Args:
        engine: `tensorrt`, which needs the GPU that the plan is for, or `tensorrt_rtx`, which needs none.
        onnx: the model, self-contained.
        settings: how.
        onnx_name: what the model's file is called.
        plan_name: what the plan's file will be called.

    Raises:
        UnavailableError: the package or its device is missing, or does not know a compute capability.
        BundleError: the model cannot be parsed or built; says what the package complained of first.
    """
    device = cuda_device() if engine == TENSORRT else None
    package = import_package(engine)
    check_capabilities(engine, settings)
    with complaints_of(package) as complaints:
        builder = package.Builder(log_of(package))
        # TensorRT 10 needs the flag, TensorRT 11 and TensorRT-RTX know no other networks.
        network = builder.create_network(1 << int(package.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parse(package, network, complaints, onnx, onnx_name)
        config = builder.create_builder_config()
        configure(package, engine, config, settings)
        profiles = add_profile(builder, network, config, settings)
        timing = None
        if engine == TENSORRT:
            assert device is not None
            timing = read_timing_cache(config, package, device)
        built = builder.build_serialized_network(network, config)
        if built is None:
            raise refused("cannot be built", complaints, engine, onnx_name)
    kept = "" if timing is None else keep_timings(config, timing)
    plan = bytes(built)
    sidecar = Sidecar(
        engine=engine,
        version=str(package.__version__),
        compute_capabilities=(device.compute_capability,) if device else settings.compute_capabilities,
        device=device.name if device else "",
        system=system(),
        onnx=onnx_name,
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        plan=plan_name,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        settings=settings,
    )
    more = {
        "driver": device.driver if device else "",
        "timing_cache": kept,
        "flags": sorted(
            name for name, flag in package.BuilderFlag.__members__.items() if config.get_flag(flag)
        ),
        "tf32": bool(config.get_flag(package.BuilderFlag.TF32)),
        "profile": {name: asdict(profile) for name, profile in profiles.items()},
        "outputs": [network.get_output(number).name for number in range(network.num_outputs)],
    }
    return BuiltPlan(plan, sidecar, more)


def check_capabilities(engine: str, settings: PlanSettings) -> None:
    """Refuse settings that the engine cannot build for.

    Raises:
        UnavailableError: says which setting, and what can be done.
    """
    if engine == TENSORRT:
        if settings.compute_capabilities:
            raise UnavailableError(
                "TensorRT builds for the device at hand alone: leave compute_capabilities empty"
            )
        return
    if settings.version_compatible or settings.hardware_compatible != "none":
        raise UnavailableError(
            "TensorRT-RTX has no version- or hardware-compatible plans: name several compute capabilities"
        )
    unknown = [number for number in settings.compute_capabilities if number not in RTX_CAPABILITIES]
    if unknown or not settings.compute_capabilities:
        raise UnavailableError(
            f"TensorRT-RTX cannot build for compute capability {', '.join(unknown) or '(none)'}:"
            f" it knows {', '.join(RTX_CAPABILITIES)}; Jetson Orin (8.7) and Thor (11.0) need engine tensorrt"
        )
    if TURING in settings.compute_capabilities and settings.precision == "fp32":
        raise UnavailableError(
            f"TensorRT-RTX has no fp32 matrix products for compute capability {TURING} (Turing):"
            " build the fp16 form for it, or leave it out"
        )


def parse(package: Any, network: Any, complaints: list[str], onnx: bytes, name: str) -> None:
    """Read an ONNX file into a network.

    Raises:
        BundleError: an operator or the file itself is not supported, or its tensors are not ours.
    """
    parser = package.OnnxParser(network, log_of(package))
    if not parser.parse(onnx):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        told = [f"{error.node_operator()} '{error.node_name()}': {error.desc()}" for error in errors]
        raise refused("cannot be parsed", told or complaints, package.__name__, name)
    if not network.num_outputs:
        nothing = ["it holds no graph with an output"]
        raise refused("cannot be parsed", nothing, package.__name__, name)
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    outputs = [network.get_output(number) for number in range(network.num_outputs)]
    check_tensors(
        {tensor.name: tuple(tensor.shape) for tensor in inputs},
        {tensor.name: tuple(tensor.shape) for tensor in outputs},
        name,
    )


def configure(package: Any, engine: str, config: Any, settings: PlanSettings) -> None:
    """Set what the settings say in a builder config."""
    flags = package.BuilderFlag
    config.set_memory_pool_limit(package.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.builder_optimization_level = settings.optimization_level
    # Else the inspector shows the names of layers only.
    config.profiling_verbosity = package.ProfilingVerbosity.DETAILED
    if settings.precision == "fp32":
        # TF32 would round the factors of every product to 10 bits.
        config.clear_flag(flags.TF32)
    if settings.sparse:
        config.set_flag(flags.SPARSE_WEIGHTS)
    if engine == RTX:
        config.num_compute_capabilities = len(settings.compute_capabilities)
        for place, number in enumerate(settings.compute_capabilities):
            capability = getattr(package.ComputeCapability, f"SM{number.replace('.', '')}")
            config.set_compute_capability(capability, place)
    if engine == TENSORRT:
        if settings.version_compatible:
            config.set_flag(flags.VERSION_COMPATIBLE)
        if settings.hardware_compatible != "none":
            # TensorRT 10.3 lacks SAME_COMPUTE_CAPABILITY.
            name = settings.hardware_compatible.upper()
            level = getattr(package.HardwareCompatibilityLevel, name, None)
            if level is None:
                raise UnavailableError(
                    f"TensorRT {package.__version__} does not know hardware_compatible: "
                    f"{settings.hardware_compatible}"
                )
            config.hardware_compatibility_level = level


def add_profile(builder: Any, network: Any, config: Any, settings: PlanSettings) -> dict[str, Profile]:
    """Give every input of dynamic batch its range of batch sizes, of views too, and return the ranges."""
    profile = builder.create_optimization_profile()
    ranges = {}
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        found = Profile.of(tuple(int(side) for side in tensor.shape), settings.batch, settings.views)
        ranges[tensor.name] = found
        profile.set_shape(tensor.name, found.smallest, found.tuned_for, found.largest)
    config.add_optimization_profile(profile)
    return ranges


def read_timing_cache(config: Any, package: Any, device: CudaDevice) -> Path:
    """Give a builder config the timings of earlier builds, and return the file to keep them in.

    TensorRT only; TensorRT-RTX times nothing while it builds.
    """
    at = f"tensorrt{package.__version__}-sm{device.compute_capability}-{device.driver}".replace(" ", "")
    file = cache_folder("timing", f"{at}.bin")
    known = file.read_bytes() if file.is_file() else b""
    # A damaged file gives None; it is written anew after the build.
    cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return file


def keep_timings(config: Any, file: Path) -> str:
    """Write the timings of this and earlier builds, and return `kept` or why they are not; TensorRT only."""
    try:
        keep(file, bytes(config.get_timing_cache().serialize()))
    except OSError as error:
        return f"not kept for the next build: {error}"
    return "kept"


def refused(what: str, complaints: list[str], engine: str, onnx: str) -> BundleError:
    """Return the error with the first complaint."""
    return BundleError(onnx, f"{what} as a {PLAN_ENGINES[engine]} plan: {first_of(complaints)}")
