"""Bytes of TensorRT-RTX plans: INT8 against fp32 of the same student, built for one compute capability.

Building needs no GPU. Bytes depend on the network and on the tactics that the builder chooses, hardly on the
weights, so random ones will do where none are given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeproof_benchmarks.int8_speed import image_sets, make_student, settled, write_forms
from edgeproof_benchmarks.record import keep, parser
from edgeproof_deploy.engine import BuildOptions, make_engine


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Quantise, export and build each model; print and keep the bytes."""
    options_parser = parser("plan_bytes", __doc__)
    options_parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    options_parser.add_argument("--models", nargs="+", default=["resnet18", "mobilenetv2_100"])
    options_parser.add_argument("--weights", help="of the only model, as student.weights takes them")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--images", type=int, default=64, help="for calibration")
    options_parser.add_argument("--compute-capability", default="8.6")
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.images = 8
    engine, (train, _) = make_engine("tensorrt_rtx"), image_sets(options.data)
    figures = {}
    for model in options.models:
        student = settled(make_student(model, options.weights, options.image_size), train)
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            files = write_forms(student, train, options.images, place, "tensorrt")
            sizes = {"onnx": {form: file.stat().st_size for form, file in files.items()}, "plan": {}}
            for form, file in files.items():
                made = BuildOptions(
                    batch=(1,), compute_capability=options.compute_capability, precision=form, label=form
                )
                sizes["plan"][form] = engine.build(file, place, made).stat().st_size
        figures[model] = {
            **{f"{kind}_bytes_{form}": size for kind, by in sizes.items() for form, size in by.items()},
            **{f"{kind} int8 / fp32": round(by["int8"] / by["fp32"], 4) for kind, by in sizes.items()},
        }
    return keep(
        options,
        "plan_bytes",
        arguments,
        settings={
            "image_size": options.image_size,
            "batch": 1,
            "compute capability": options.compute_capability,
            "calibration images": options.images,
            "weights": options.weights or "random",
        },
        latencies={},
        ratios={},
        figures=figures,
    )


if __name__ == "__main__":
    main()
