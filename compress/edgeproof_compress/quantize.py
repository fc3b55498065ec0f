"""From a student in floating point to one in INT8: which layers, their ranges, a budget, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeproof_compress.calibration import calibrate, calibration_images
from edgeproof_compress.eligibility import ends_of, matching
from edgeproof_compress.graph import trace
from edgeproof_compress.placement import layer_nodes
from edgeproof_compress.processor import saturates_here
from edgeproof_compress.quantized_student import QuantizationSpec, QuantizedStudent
from edgeproof_compress.sensitivity import fewest_to_return, sensitivities
from edgeproof_configs.compress_schema import QuantizationConfig
from edgeproof_configs.errors import UsageError
from edgeproof_configs.files import digest_of
from edgeproof_data.sets import ImageSet
from edgeproof_train.student import Student

WHERE = "compress.quantization"
SENSITIVITY_IMAGES = 64

Evaluate = Callable[[Student], dict[str, float]]
Tune = Callable[[QuantizedStudent], QuantizedStudent]


@dataclass(frozen=True)
class Quantizing:
    """What quantising a student takes.

    Attributes:
        config: the recipe's settings.
        images: the training images.
        evaluate: figures on `val`.
        select: the figure that the budget is in.
        tune: fine-tunes a calibrated student, and returns the best of its epochs.
        device: where the student runs.
        seed: of the choice of images.
    """

    config: QuantizationConfig
    images: ImageSet
    evaluate: Evaluate
    select: str
    tune: Tune
    device: str
    seed: int


def quantize(base: Student, work: Quantizing) -> tuple[QuantizedStudent, dict[str, Any]]:
    """Quantise a student.

    Args:
        base: in floating point; stays as it is.
        work: settings, data and figures.

    Returns:
        The student, and what is told about it: `layers`, `values`, `val`, `returned` and more.

    Raises:
        UsageError: a pattern matches no layer, none is left, or the student is quantised already.
        EdgeproofError: the ranges cannot be found.
    """
    config = work.config
    if isinstance(base, QuantizedStudent):
        raise UsageError(
            "the student is quantised already", where=WHERE, fix="start from the one in floating point"
        )
    layers, reasons = choose_layers(base, config)
    images = calibration_images(work.images, config.images, work.seed)
    figures = {"fp32": work.evaluate(base)}
    spec = QuantizationSpec(layers, config.backend, config.target, reduces(config))
    found = calibrate(base, spec, images, config, work.device)
    student = found.student
    reasons |= found.returned
    figures["calibrated"] = work.evaluate(student)
    order: dict[str, float] = {}
    if config.max_drop is not None:
        few = calibration_images(images, SENSITIVITY_IMAGES, work.seed)
        order = sensitivities(student, few, work.device)
        if config.method == "ptq":
            student = in_budget(student, order, figures["fp32"], work, reasons)
            tell_budget(student, figures, work)
    if config.method == "qat":
        student = work.tune(student)
        figures["tuned"] = work.evaluate(student)
        if config.max_drop is not None:
            student = in_budget(student, order, figures["fp32"], work, reasons)
            tell_budget(student, figures, work)
    return student, {
        "method": config.method,
        "backend": config.backend,
        "target": config.target,
        "reduce_range": student.spec.reduce_range,
        "calibration": config.calibration,
        "images": {"asked": config.images, "used": len(images), "digest": digest_of(list(images.paths))},
        "select": work.select,
        "max_drop": config.max_drop,
        "val": figures,
        "layers": layer_rows(base, student, reasons, order),
        "values": value_rows(student),
        "unfolded_batch_norms": student.unfolded,
    }


def choose_layers(base: Student, config: QuantizationConfig) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the layers to quantise, in order of execution, and why the others are not.

    Raises:
        UsageError: a pattern matches no layer, or no layer is left.
    """
    names = list(layer_nodes(trace(base)))
    ends = ends_of(base)
    included = matching(config.include, names, ends, f"{WHERE}.include") if config.include else set(names)
    excluded = matching(config.exclude, names, ends, f"{WHERE}.exclude")
    reasons = {name: "not included" for name in names if name not in included}
    reasons |= {name: "excluded by name" for name in names if name in excluded}
    layers = tuple(name for name in names if name not in reasons)
    if not layers:
        raise UsageError(
            f"none of the {len(names)} layers is left to quantise", where=WHERE, fix="exclude fewer layers"
        )
    return layers, reasons


def reduces(config: QuantizationConfig) -> bool:
    """Return whether ONNX Runtime's weights are kept to 7 bits."""
    return saturates_here() if config.reduce_range == "auto" else config.reduce_range


def in_budget(
    student: QuantizedStudent,
    order: dict[str, float],
    plain: dict[str, float],
    work: Quantizing,
    reasons: dict[str, str],
) -> QuantizedStudent:
    """Return the student with as many layers back in floating point as `max_drop` asks for."""
    budget = work.config.max_drop
    assert budget is not None

    def lost(tried: QuantizedStudent) -> float:
        return plain[work.select] - work.evaluate(tried)[work.select]

    best, returned = fewest_to_return(student, list(order), lost, budget)
    for layer in returned:
        reasons[layer] = f"given back for max_drop {budget}: alone it costs {order[layer]:.4f} of the cosine"
    return best


def tell_budget(student: QuantizedStudent, figures: dict[str, dict[str, float]], work: Quantizing) -> None:
    """Note the figures after layers were given back, and whether that was enough."""
    found, budget = work.evaluate(student), work.config.max_drop
    assert budget is not None
    held = figures["fp32"][work.select] - found[work.select] <= budget
    figures["in budget" if held else "over budget"] = found


def layer_rows(
    base: Student, student: QuantizedStudent, reasons: dict[str, str], order: dict[str, float]
) -> list[dict[str, Any]]:
    """Return a row for each layer of the student: shape, whether it is in INT8, why not, sensitivity."""
    modules = dict(base.named_modules())
    rows: list[dict[str, Any]] = []
    for name in layer_nodes(trace(base)):
        weight: Any = modules[name].weight
        rows.append(
            {
                "name": name,
                "kind": "Linear" if weight.ndim == 2 else "Conv2d",
                "shape": list(weight.shape),
                "quantised": name in student.spec.layers,
                "reason": reasons.get(name, ""),
                "sensitivity": order.get(name),
            }
        )
    return rows


def value_rows(student: QuantizedStudent) -> list[dict[str, Any]]:
    """Return a row for each quantised value: its range, for which engines, whether it can be negative."""
    return [
        {
            "name": name,
            "amax": quantizer.amax,
            "targets": sorted(quantizer.targets),
            "never_negative": quantizer.never_negative,
        }
        for name, quantizer in student.quantizers().items()
    ]


def summary(told: dict[str, Any]) -> str:
    """Return what was reached, for the terminal."""
    figures, select = told["val"], told["select"]
    shown = ", ".join(f"{name} {values[select]:.4f}" for name, values in figures.items())
    count = sum(row["quantised"] for row in told["layers"])
    return f"{count} of {len(told['layers'])} layers in INT8, {select} on val: {shown}"
