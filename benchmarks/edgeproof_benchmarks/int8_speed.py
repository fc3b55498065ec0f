"""INT8 against fp32 in ONNX Runtime: the same student, quantised after training, in alternating rounds.

Speed does not depend on the weights, so random ones will do where none are given; their batch norms first see
the images. How near INT8 stays is told as the cosine to fp32 on images that calibration did not see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeproof_benchmarks.latency import interleave, ratio
from edgeproof_benchmarks.record import keep, parser, timing_of
from edgeproof_compress.calibration import calibrate, calibration_images
from edgeproof_compress.integers import IntegerStudent
from edgeproof_compress.placement import Target
from edgeproof_compress.processor import saturates_here
from edgeproof_compress.quantize import choose_layers
from edgeproof_compress.quantized_student import QuantizationSpec
from edgeproof_configs.compress_schema import QuantizationConfig
from edgeproof_configs.registry import component_class
from edgeproof_data.loader import eval_batches
from edgeproof_data.sets import ImageSet
from edgeproof_deploy.export import export_onnx
from edgeproof_deploy.fused_ops import fused_operators
from edgeproof_deploy.numerics import cosines
from edgeproof_deploy.runtime.session import OnnxSession
from edgeproof_train.student import Student
from edgeproof_train.students.timm import TimmStudent

DIM = 512
SETTLING_BATCHES = 4
CHECKED = 5


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Quantise, export and time each model; print and keep the figures."""
    options_parser = parser("int8_speed", __doc__, seconds=10.0)
    options_parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    options_parser.add_argument("--models", nargs="+", default=["resnet18", "mobilenetv2_100"])
    options_parser.add_argument("--weights", help="of the only model, as student.weights takes them")
    options_parser.add_argument("--image-size", type=int, default=224)
    options_parser.add_argument("--images", type=int, default=512, help="for calibration")
    options_parser.add_argument("--compared", type=int, default=128, help="test images for the cosine")
    options_parser.add_argument("--threads", type=int, default=2)
    options = options_parser.parse_args(arguments)
    if options.quick:
        options.images, options.compared = 8, 4
    train, test = image_sets(options.data)
    latencies, ratios, figures = {}, {}, {}
    for model in options.models:
        student = settled(make_student(model, options.weights, options.image_size), train)
        with tempfile.TemporaryDirectory() as place:
            files = write_forms(student, train, options.images, Path(place))
            compared = calibration_images(test, options.compared, 0)
            sessions = {name: OnnxSession(file, threads=options.threads) for name, file in files.items()}
            inputs = np.concatenate(
                [
                    batch["image"].numpy()
                    for batch in eval_batches(compared, student.preprocess, batch_size=16)
                ]
            )
            rows = {
                name: np.concatenate([session.run({"image": one[None]})["embedding"] for one in inputs])
                for name, session in sessions.items()
            }
            calls = {
                f"{model} {name}": lambda session=session, first=inputs[:1]: session.run({"image": first})
                for name, session in sessions.items()
            }
            times = interleave(calls, **timing_of(options).keywords())
            near = cosines(rows["fp32"], rows["int8"])
            figures[model] = {
                "cosine_mean": round(float(near.mean()), 5),
                "cosine_min": round(float(near.min()), 5),
                "bytes_fp32": files["fp32"].stat().st_size,
                "bytes_int8": files["int8"].stat().st_size,
                "operators_int8": fused_operators(files["int8"]),
            }
        latencies |= times
        ratios[f"{model} fp32 / int8"] = ratio(times[f"{model} fp32"], times[f"{model} int8"])
    return keep(
        options,
        "int8_speed",
        arguments,
        settings={
            "image_size": options.image_size,
            "batch": 1,
            "threads": options.threads,
            "calibration images": options.images,
            "compared images": options.compared,
            "weights": options.weights or "random",
            "weights of 7 bits, for want of VNNI": saturates_here(),
        },
        latencies=latencies,
        ratios=ratios,
        figures=figures,
    )


def image_sets(data: Path) -> tuple[ImageSet, ImageSet]:
    """Return the training and the test images of a folder."""
    component: Any = component_class("data", "image_folder")
    source = component(component.Config(root=str(data.absolute()), train="train", test="test", val=0.1))
    source.prepare()
    return source.split("train"), source.split("test")


def make_student(model: str, weights: str | None, side: int) -> Student:
    """Return a student with a linear head."""
    torch.manual_seed(0)
    return TimmStudent(TimmStudent.Config(model=model, weights=weights, image_size=side), DIM)


def settled(student: Student, images: ImageSet) -> Student:
    """Return a student whose batch norms have seen images, and whose last ones of each block are not zero."""
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.weight is not None:
            with torch.no_grad():
                module.weight[module.weight == 0] = 1.0
    some = calibration_images(images, 32 * SETTLING_BATCHES, 1)
    student.train()
    with torch.no_grad():
        for batch in eval_batches(some, student.preprocess, batch_size=32):
            student(batch["image"])
    return student.eval()


def write_forms(
    student: Student, train: ImageSet, count: int, place: Path, target: Target = "onnxruntime"
) -> dict[str, Path]:
    """Write the fp32 file and the INT8 file for a target, and return them by precision."""
    config = QuantizationConfig(method="ptq", images=count, calibration="percentile", target=target)
    layers, _ = choose_layers(student, config)
    images = calibration_images(train, count, 0)
    spec = QuantizationSpec(layers, reduce_range=target == "onnxruntime" and saturates_here())
    made = calibrate(student, spec, images, config, "cpu")
    files = {"fp32": place / "fp32.onnx", "int8": place / "int8.onnx"}
    export_onnx(student, files["fp32"])
    seen = next(iter(eval_batches(images, student.preprocess, batch_size=CHECKED)))["image"].numpy()
    integers = IntegerStudent(made.student, target)
    export_onnx(integers, files["int8"], images=seen, target=target)
    return files


if __name__ == "__main__":
    main()
