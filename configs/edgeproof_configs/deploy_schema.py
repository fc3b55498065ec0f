"""The recipe's `deploy`, `bench` and `gates`: what is built, how it is timed, and what it must keep."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgeproof_configs.component_configs import Config, Fraction, PositiveFloat, PositiveInt

EngineName = Literal[
    "pytorch",
    "pytorch_compiled",
    "onnxruntime",
    "onnxruntime_cuda",
    "onnxruntime_tensorrt",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
]
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def known_capabilities(value: object) -> str | tuple[str, ...]:
    """Return one compute capability, or several, as text; a YAML file may write them as numbers.

    Raises:
        ValueError: TensorRT-RTX does not build for one of them.
    """
    several = isinstance(value, list | tuple)
    found = tuple(str(number) for number in value) if several else (str(value),)
    unknown = [number for number in found if number not in CAPABILITIES]
    if unknown or not found:
        raise ValueError(
            f"expected one or several of {', '.join(CAPABILITIES)}, got {', '.join(unknown) or 'none'};"
            " for other GPUs, Jetson among them, engine tensorrt builds on the device"
        )
    return found if several else found[0]


ComputeCapability = Annotated[str | tuple[str, ...], BeforeValidator(known_capabilities)]


class TensorRTConfig(Config):
    """How plans of TensorRT and TensorRT-RTX are built and run.

    `optimization_level` 0 to 5 is how long the builder searches. TensorRT alone, both slower: later versions
    of it can load `version_compatible` plans, and other GPUs `hardware_compatible` ones.
    `cuda_graph` runs a plan as one CUDA graph for each batch size.
    """

    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    version_compatible: bool = False
    hardware_compatible: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    cuda_graph: bool = False


class DeployConfig(Config):
    """What is exported and built.

    `self_test_images` photos of the test set go into the bundle, cut to what the network sees, to compare
    engines on; with 0 there are only drawn ones.

    `compute_capability`, one or several, is of the GPUs that TensorRT-RTX builds for: 8.0 A100, 8.6 RTX 30,
    8.9 RTX 40, 12.0 RTX 50, 12.1 GB10.

    `engines_if_here` are built as well where package and device are at hand, and left out with the reason
    where they are not; what is in `engines` must be there.

    `views`, of objects: how many of each a plan of TensorRT is built for, tuned for the first. Unless told it
    is tuned for as many as evaluation shows and takes any number up to that; other engines take any number.

    With `text_encoder` the bundle carries the teacher's text tower, so that the device takes any words. It is
    off unless asked for: a large teacher's tower is larger than the student.
    """

    engines: list[EngineName] = Field(default_factory=lambda: ["onnxruntime", "tensorrt_rtx"])
    engines_if_here: tuple[EngineName, ...] = ()
    precisions: list[Literal["fp32", "fp16"]] = Field(default_factory=lambda: ["fp32"])
    batch: tuple[PositiveInt, ...] = (1, 8)
    views: tuple[PositiveInt, ...] | None = None
    opset: Annotated[int, Field(ge=18, le=20)] = 18
    compute_capability: ComputeCapability = "8.6"
    tensorrt: TensorRTConfig = TensorRTConfig()
    self_test_images: Annotated[int, Field(ge=0, le=64)] = 8
    text_encoder: bool = False

    @model_validator(mode="after")
    def _precisions_are_made(self) -> DeployConfig:
        if "fp32" not in self.precisions:
            raise ValueError("precisions must name fp32: it is made anyway, for the others are judged by it")
        if "fp16" in self.precisions and all(engine.startswith("pytorch") for engine in self.engines):
            raise ValueError("fp16 lies in the ONNX file, which none of the engines reads")
        return self

    @model_validator(mode="after")
    def _turing_has_fp32(self) -> DeployConfig:
        if "7.5" in self.compute_capability and "tensorrt_rtx" in self.engines:
            raise ValueError(
                "compute_capability 7.5 (Turing): TensorRT-RTX has no fp32 matrix products for it, and the"
                " fp32 form is always built; leave it out, or use engine tensorrt on the device"
            )
        return self


class BenchConfig(Config):
    """How latency is measured: `seconds` per engine and batch size, after `warmup_seconds`.

    Each number of `streams` is measured for a quarter of `seconds`, with an engine that reads ONNX.
    """

    seconds: PositiveFloat = 2.0
    warmup_seconds: PositiveFloat = 0.5
    threads: PositiveInt | None = None
    streams: tuple[PositiveInt, ...] = (1, 2)


class LatencyGate(Config):
    """The slowest p90 that may be shipped."""

    engine: str
    batch: PositiveInt = 1
    max: PositiveFloat


class GatesConfig(Config):
    """What a shipped form may lose against the fp32 student; None means the default of its pair.

    `map_drop` is of searches among objects with several views, and is not asked of single images.
    """

    zero_shot_drop: Fraction | None = None
    map_drop: Fraction | None = None
    cosine: Fraction | None = None
    agreement: Fraction | None = None
    latency_p90_ms: LatencyGate | None = None
    teacher_drop: Fraction | None = None
