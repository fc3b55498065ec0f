"""The recipe's `compress`: sparsity and quantisation, each a further stage after training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from edgeproof_configs.component_configs import (
    Components,
    Config,
    Fraction,
    LossConfig,
    PositiveFloat,
    PositiveInt,
)


class SparsityConfig(Config):
    """2:4 structured sparsity: of four weights along the input channels, two are zero.

    Attributes:
        pattern: the only one that sparse tensor cores read.
        backend: `apex` computes the masks with apex's ASP, where that is installed with CUDA.
        include: patterns (`*`, `?`) of layer names; only these are pruned. All that can be, if empty.
        exclude: patterns of layer names that stay dense.
        permute: look for an order of the channels that keeps more magnitude (arXiv 2111.02550).
        permute_seconds: the longest that this search may take.
        epochs: of fine-tuning under the recipe's losses; 0 prunes only.
        lr: of fine-tuning; `train.lr` if not given: half of the weights have to be made up for (2104.08378).
    """

    pattern: Literal["2:4"] = "2:4"
    backend: Literal["edgeproof", "apex"] = "edgeproof"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    permute: bool = True
    permute_seconds: PositiveFloat = 60.0
    epochs: Annotated[int, Field(ge=0)] = 5
    lr: PositiveFloat | None = None

    @model_validator(mode="after")
    def _tunes(self) -> SparsityConfig:
        if self.lr is not None and not self.epochs:
            raise ValueError("lr has no effect with epochs: 0")
        return self


class QuantizationConfig(Config):
    """INT8: weights with one scale for each output channel, activations with one for each tensor.

    Attributes:
        method: `ptq` calibrates, `qat` fine-tunes with simulated rounding after that.
        backend: what collects the ranges and simulates the rounding.
        target: the engine whose placement is fine-tuned; the other one is derived from it, and both are
            written and compared.
        calibration: how a range follows from the values seen.
        percentile: of the absolute values, for `calibration: percentile`.
        images: how many training images are looked at; all if there are fewer, which is said.
        include: patterns (`*`, `?`) of layer names; only these are quantised. All that can be, if empty.
        exclude: patterns of layer names that stay in floating point; `stem` and `head` stand for the layers
            that see the image and that give the embedding.
        reduce_range: keep weights to 7 bits for ONNX Runtime. x86 processors without VNNI need it, for their
            sums of two products saturate; `auto` looks at the processor at hand, so say `true` for a device
            that lacks it.
        max_drop: how much of the figure that chooses the best epoch may be lost on `val`; the most sensitive
            layers go back to floating point until it holds. None: whatever it costs.
        epochs: of fine-tuning under the recipe's losses.
        lr: of fine-tuning; a hundredth of `train.lr` if not given.
    """

    method: Literal["ptq", "qat"] = "qat"
    backend: Literal["modelopt", "pytorch_quantization"] = "modelopt"
    target: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    calibration: Literal["max", "entropy", "percentile", "mse"] = "entropy"
    percentile: Annotated[float, Field(gt=50, le=100)] | None = None
    images: PositiveInt = 512
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    reduce_range: bool | Literal["auto"] = "auto"
    max_drop: Fraction | None = None
    epochs: PositiveInt | None = None
    lr: PositiveFloat | None = None

    @model_validator(mode="after")
    def _has_effect(self) -> QuantizationConfig:
        if self.method == "ptq" and (self.epochs is not None or self.lr is not None):
            raise ValueError("epochs and lr have no effect with method: ptq")
        if self.percentile is not None and self.calibration != "percentile":
            raise ValueError("percentile has no effect without calibration: percentile")
        return self


class CompressConfig(Config):
    """What is made of the trained student; each part is a stage, and the losses of the recipe go on.

    Attributes:
        sparsity: prune and fine-tune.
        quantization: of the student as trained, and of the sparse one where there is one.
        losses: in place of the recipe's while fine-tuning, such as labels alone to see what supervision buys.
    """

    sparsity: SparsityConfig | None = None
    quantization: QuantizationConfig | None = None
    losses: Annotated[tuple[SerializeAsAny[LossConfig], ...] | None, Components("loss")] = None

    @model_validator(mode="after")
    def _compresses(self) -> CompressConfig:
        if self.sparsity is None and self.quantization is None:
            raise ValueError("nothing would be compressed: set sparsity, quantization, or remove compress")
        return self
