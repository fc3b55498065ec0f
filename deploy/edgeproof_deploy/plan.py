"""Building a TensorRT plan from an ONNX file; the package is a parameter, TensorRT or TensorRT-RTX.

Networks are strongly typed: the precision lies in the ONNX file. A plan is written as it is, without a
header, so that other tools can load it; what it was built from and for stands in a JSON file beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeproof_configs import __version__
from edgeproof_configs.errors import EdgeproofError
from edgeproof_configs.files import sha256_of, write_bytes, write_json
from edgeproof_deploy.engine import BuildOptions

WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class Profile:
    """The shapes that an input of dynamic batch may have in a plan."""

    smallest: tuple[int, ...]
    tuned_for: tuple[int, ...]
    largest: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], batch: tuple[int, ...]) -> Profile:
        """Return the profile of an input whose first axis is the batch."""
        rest = shape[1:]
        return cls((min(batch), *rest), (batch[0], *rest), (max(batch), *rest))


def build_plan(
    trt: Any,
    onnx: Path,
    plan: Path,
    options: BuildOptions,
    *,
    target: Callable[[Any], None],
    described: dict[str, Any],
) -> Path:
    """Write a plan and, beside it, `<plan>.json`.

    Args:
        trt: the imported `tensorrt` or `tensorrt_rtx`.
        onnx: the model, self-contained.
        plan: the file to write.
        options: batch sizes and precision.
        target: sets in a builder config which devices the plan is for.
        described: what the sidecar says besides: the engine, its version, where it has been run.

    Raises:
        EdgeproofError: the file cannot be parsed or built; says what the package complained of first.
    """
    log = make_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse(trt, network, log, onnx)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if options.precision == "fp32":
        # TF32 would round the factors of every product to 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    target(config)
    tf32 = bool(config.get_flag(trt.BuilderFlag.TF32))
    profiles = add_profile(builder, network, config, options.batch)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise refused("cannot be built", log.errors, onnx)
    write_bytes(plan, bytes(built))
    sidecar = {
        "schema_version": 1,
        **described,
        "edgeproof_version": __version__,
        "precision": options.precision,
        "tf32": tf32,
        "onnx": onnx.name,
        "onnx_sha256": sha256_of(onnx),
        "plan": plan.name,
        "plan_sha256": sha256_of(plan),
        "plan_bytes": plan.stat().st_size,
        "profile": {
            name: {"min": list(p.smallest), "opt": list(p.tuned_for), "max": list(p.largest)}
            for name, p in profiles.items()
        },
        "outputs": [network.get_output(i).name for i in range(network.num_outputs)],
    }
    write_json(sidecar_of(plan), sidecar)
    return plan


def sidecar_of(plan: Path) -> Path:
    """Return where the JSON of a plan lies."""
    return plan.with_suffix(".json")


def make_log(trt: Any) -> Any:
    """Return a logger that keeps errors, in order, and prints nothing."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Log()


def parse(trt: Any, network: Any, log: Any, onnx: Path) -> None:
    """Read an ONNX file into a network.

    Raises:
        EdgeproofError: an operator or the file itself is not supported.
    """
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        told = [f"{error.node_operator()} '{error.node_name()}': {error.desc()}" for error in errors]
        raise refused("cannot be parsed", told or log.errors, onnx)
    if not network.num_outputs:
        raise refused("cannot be parsed", ["it holds no graph with an output"], onnx)


def add_profile(builder: Any, network: Any, config: Any, batch: tuple[int, ...]) -> dict[str, Profile]:
    """Give every input of dynamic batch its range of batch sizes, and return the ranges."""
    profile = builder.create_optimization_profile()
    ranges = {}
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        shape = tuple(int(side) for side in tensor.shape)
        ranges[tensor.name] = Profile.of(shape, batch) if shape[0] < 0 else Profile(shape, shape, shape)
        found = ranges[tensor.name]
        profile.set_shape(tensor.name, found.smallest, found.tuned_for, found.largest)
    config.add_optimization_profile(profile)
    return ranges


def refused(what: str, complaints: list[str], onnx: Path) -> EdgeproofError:
    """Return the error with the first complaint: the ones after it are mostly consequences."""
    first = complaints[0].strip().splitlines()[0][:300] if complaints else "no reason was given"
    return EdgeproofError(
        f"the model {what} as a TensorRT plan: {first}",
        where=onnx,
        fix="leave this engine out of deploy.engines, or choose a student without this operator",
    )
