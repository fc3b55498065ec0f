"""A made-up run for the report, in which no figure was measured, and a tiny model and images to measure."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "brown")
SOLIDS = ("cube", "ball", "cone", "torus", "cylinder", "pyramid", "capsule", "octahedron")
STAGE_SECONDS = {"teacher": 141.0, "embed": 6.2, "train": 95.0, "export": 4.1, "build": 11.0, "verify": 8.8}
SENTENCE = (
    "Ship ONNX Runtime fp32: 96.9 % top-1, 0.3 points below its teacher, "
    "1.91 ms p50 an image (5.1 times faster than its teacher)."
)
CAVEATS = (
    "On classes held out of training: 64.1 % (teacher 66.8 %).",
    "TensorRT-RTX fp32 was built, not run here.",
    "4 gates passed, none failed, 1 not measured.",
)


def accuracies(top1: float, unseen: float, cosine: float) -> dict[str, float]:
    """Return the metrics of a form."""
    seen = top1 + 0.003
    harmonic = 2 * seen * unseen / (seen + unseen)
    return {
        "top1": top1,
        "top5": 0.998,
        "mean_per_class": top1 - 0.002,
        "seen": seen,
        "unseen": unseen,
        "harmonic_mean": harmonic,
        "cosine": cosine,
    }


def latency(p50: float, count: int = 1040) -> dict[str, Any]:
    """Return a latency entry of `result.json`, in milliseconds."""
    return {"p50": p50, "p90": 1.12 * p50, "p99": 1.5 * p50, "n": count, "mean": 1.03 * p50}


def gate(name: str, value: float, limit: float, bound: str) -> dict[str, Any]:
    """Return a gate that passed."""
    return {"name": name, "value": value, "limit": limit, "bound": bound, "status": "pass"}


class MadeUpRun:
    """The files of a run, as plain data."""

    def result(self, **changed: Any) -> dict[str, Any]:
        """Return the content of a `result.json`; `changed` replaces top-level keys."""
        made = {
            "schema_version": 1,
            "name": "quickstart",
            "sentence": SENTENCE,
            "verdict": "ship",
            "caveats": list(CAVEATS),
            "environment": {
                "python": "3.11.2",
                "processor": "An invented one",
                "versions": {"torch": "2.13.0"},
            },
            "view": "exact",
            "rows": self.rows(),
            "controls": [
                {"form": "baseline", "metrics": {"top1": 0.934, "seen": 0.95, "unseen": 0.0}},
                {"form": "untrained student", "metrics": {"top1": 0.0182, "top5": 0.08}},
                {"form": "chance", "metrics": {"top1": 0.0156}},
            ],
            "stages": [{"stage": name, "seconds": seconds} for name, seconds in STAGE_SECONDS.items()],
            "data": {
                "counts": {"train": 1920, "val": 192, "test": 768},
                "corrupt": [{"path": "train/red cube/0007.png", "reason": "the file is truncated"}],
            },
            "notes": ["No CUDA device was found: everything ran on the CPU."],
        }
        return made | changed

    def rows(self) -> list[dict[str, Any]]:
        """Return teacher, student in PyTorch and in ONNX Runtime, and an engine that was only built."""
        student, teacher = accuracies(0.9687, 0.641, 0.9077), accuracies(0.9713, 0.668, 1.0)
        here = {"precision": "fp32", "status": "run here", "threads": 2}
        return [
            {
                **here,
                "form": "teacher",
                "engine": "pytorch",
                "metrics": teacher,
                "latency_ms": {"batch1": latency(9.8, 310), "batch8": latency(51.0, 60)},
                "size_bytes": 34_100_000,
            },
            {
                **here,
                "form": "student",
                "engine": "pytorch",
                "metrics": student,
                "latency_ms": {"batch1": latency(4.1, 800), "batch8": latency(16.2, 190)},
                "size_bytes": 19_800_000,
            },
            {
                **here,
                "form": "student",
                "engine": "onnxruntime",
                "metrics": student,
                "latency_ms": {"batch1": latency(1.91), "batch8": latency(11.4, 240)},
                "images_per_second": {"batch1": 521.0, "batch8": 702.0},
                "phases_ms": {"decode": 0.41, "preprocess": 0.35, "compute": 1.91, "head": 0.05},
                "memory_bytes": 61_000_000,
                "size_bytes": 19_700_000,
                "parity": self.parity(),
                "gates": self.gates(),
            },
            {
                "form": "student",
                "engine": "tensorrt_rtx",
                "precision": "fp32",
                "status": "built, not run here",
                "metrics": {},
                "latency_ms": {},
                "size_bytes": 21_400_000,
                "parity": {
                    "reference": "onnxruntime fp32",
                    "candidate": "tensorrt_rtx fp32",
                    "n": 0,
                    "reason": "no NVIDIA GPU",
                },
                "gates": [{"name": "cosine", "value": None, "limit": 0.9999, "status": "not measured"}],
            },
        ]

    def compressed_rows(self) -> list[dict[str, Any]]:
        """Return the rows of a run that prunes and quantises: those of `rows`, then sparse, INT8 and both."""
        teacher, eager, runtime, plan = self.rows()
        int8, sparse_int8 = accuracies(0.965, 0.63, 0.905), accuracies(0.96, 0.62, 0.9)
        sparse = accuracies(0.964, 0.632, 0.904)
        found = [teacher, eager, runtime, plan]
        made = (
            ("sparse", "fp32", sparse, 1.9),
            ("student", "int8", int8, 0.62),
            ("sparse", "int8", sparse_int8, 0.615),
        )
        for form, precision, metrics, p50 in made:
            kind = {"form": form, "precision": precision, "metrics": metrics}
            key = f"{'sparse ' if form == 'sparse' else ''}onnxruntime {precision}"
            pair = self.parity() | {"candidate": key, "cosine_mean": 0.996, "cosine_min": 0.991}
            timed = {} if precision == "int8" else {"latency_ms": {"batch1": latency(4.0)}}
            found.append({**eager, "latency_ms": {}, **kind, **timed})
            measured = {"latency_ms": {"batch1": latency(p50)}, "parity": [pair], "size_bytes": 5_400_000}
            found.append({**runtime, **kind, **measured})
            if precision == "int8":
                found.append({**plan, "form": form, "precision": precision, "size_bytes": 6_200_000})
        return found

    def parity(self) -> dict[str, Any]:
        """Return the parity of one pair."""
        return {
            "reference": "pytorch fp32",
            "candidate": "onnxruntime fp32",
            "n": 512,
            "cosine_min": 0.9999987,
            "cosine_mean": 0.9999999,
            "max_abs": 2.9e-6,
            "mean_abs": 2.1e-7,
            "top1_agreement": 1.0,
            "top5_agreement": 1.0,
            "flips": [],
            "metrics": {"delta": {"top1": 0.0}},
            "interval": [0.0, 0.0],
        }

    def gates(self, **outcomes: str) -> list[dict[str, Any]]:
        """Return the gates of a shipped form; `outcomes` sets some of them by name."""
        plain = [
            gate("cosine", 0.9999987, 0.99999, "at least"),
            gate("agreement", 1.0, 1.0, "at least"),
            gate("zero_shot_drop", 0.0, 0.0, "at most"),
            gate("latency_p90_ms", 2.14, 20.0, "at most"),
        ]
        return [one | {"status": outcomes.get(one["name"], one["status"])} for one in plain]

    def class_names(self, count: int) -> list[str]:
        """Return `count` names: colour-shape pairs as far as there are enough of them."""
        pairs = [f"{colour} {solid}" for colour in COLOURS for solid in SOLIDS]
        return pairs[:count] if count <= len(pairs) else [f"thing {index:03d}" for index in range(count)]

    def confusion(self, count: int, images: int = 12) -> dict[str, Any]:
        """Return the counts of a classifier: good on seen classes, fair on every fifth, held-out one."""
        random = np.random.default_rng(0)
        names = self.class_names(count)
        matrix = np.zeros((count, count), dtype=np.int64)
        for i in range(count):
            accuracy = 0.6 if i % 5 == 4 else 0.97
            for _ in range(images):
                near = (i + int(random.integers(1, 4))) % count
                matrix[i, i if random.random() < accuracy else near] += 1
        return {
            "labels": names,
            "matrix": matrix.tolist(),
            "unseen": names[4::5],
            "form": "ONNX Runtime fp32",
        }

    def per_class(self, count: int) -> dict[str, Any]:
        """Return figures of classes; the first is never answered, every fifth was held out of training."""
        rows = [
            {
                "name": name,
                "precision": min(1.0, 0.4 + index / count) if index else None,
                "recall": index / count,
                "f1": index / count,
                "images": 8 + index % 3,
                "seen": index % 5 != 4,
            }
            for index, name in enumerate(self.class_names(count))
        ]
        return {"form": "onnxruntime fp32", "classes": rows}

    def calibration(self) -> dict[str, Any]:
        """Return a calibration that is somewhat too sure."""
        bins = [
            {
                "low": low / 15,
                "high": (low + 1) / 15,
                "images": 10 * low,
                "confidence": (low + 0.6) / 15,
                "accuracy": (low - 0.4) / 15,
            }
            for low in (6, 9, 12, 14)
        ]
        return {
            "form": "onnxruntime fp32",
            "images": 410,
            "ece": 0.0667,
            "confidence": 0.772,
            "accuracy": 0.705,
            "bins": bins,
        }

    def embedding(self, classes: int, images: int) -> dict[str, Any]:
        """Return two pictures of a space with a group for each class."""
        random = np.random.default_rng(0)
        label = np.arange(images) % classes
        points = 5 * random.normal(size=(classes, 2))[label] + random.normal(size=(images, 2))
        names = self.class_names(classes)
        return {
            "form": "onnxruntime fp32",
            "space": "embeddings",
            "dimensions": 128,
            "images": images,
            "labels": list(names),
            "unseen": names[4::5],
            "label": label.tolist(),
            "knn": {"nearest": 0.93, "accuracy": 0.9, "neighbours": 20, "images": images},
            "pictures": [
                {"method": "PCA", "explained": [0.31, 0.21], "points": points.round(3).tolist()},
                {"method": "t-SNE", "perplexity": 9.7, "points": (9 * points).round(2).tolist()},
            ],
        }

    def examples(self, count: int = 12, maps: int = 0) -> list[dict[str, Any]]:
        """Return examples, every third one wrong, the first ones with a heat map."""
        made = []
        for index in range(count):
            colour, solid = COLOURS[index % 6], SOLIDS[index % 8]
            true, other = f"{colour} {solid}", f"{colour} {SOLIDS[(index + 3) % 8]}"
            first, second = (other, true) if index % 3 == 2 else (true, other)
            made.append(
                {
                    "path": f"test/{true}/{index:04d}.png",
                    "thumbnail": thumbnail(colour, index),
                    "true": true,
                    "top": [[first, 0.62], [second, 0.31], ["white ball", 0.06]],
                    "seen": index % 5 != 4,
                }
            )
            if index < maps:
                made[-1]["cam"] = {"jpeg": thumbnail("gray", index), "node": "layer4", "cells": [7, 7]}
        return made

    def metrics(self, epochs: int = 24) -> list[dict[str, Any]]:
        """Return what training logs: a teacher, a student with two losses, the baseline."""
        rows: list[dict[str, Any]] = []
        for epoch in range(1, epochs + 1):
            decay = float(np.exp(-epoch / 6))
            cosine, text = 0.09 + 0.6 * decay, 0.12 + 1.9 * decay
            student = {
                "stage": "train",
                "epoch": epoch,
                "step": 40 * epoch,
                "loss": cosine + 0.3 * text,
                "losses": {
                    "cosine_embedding": {"raw": cosine, "weighted": cosine},
                    "text_kl": {"raw": text, "weighted": 0.3 * text},
                },
                "val": {"top1": 0.975 - 0.8 * decay, "cosine_mean": 0.91 - 0.4 * decay},
                "lr": 1e-3,
                "images_per_second": 210.0,
            }
            baseline = {
                "stage": "baseline",
                "epoch": epoch,
                "step": 40 * epoch,
                "val": {"top1": 0.93 - decay},
            }
            teacher = {"stage": "teacher", "epoch": epoch, "step": 30 * epoch, "loss": 0.3 + 3 * decay}
            rows += [teacher, student, baseline]
        return rows


def thumbnail(colour: str, seed: int) -> str:
    """Return a small JPEG, base64."""
    image = Image.new("RGB", (96, 96), (90 + 10 * (seed % 7), 100, 110))
    ImageDraw.Draw(image).ellipse((16 + seed % 9, 18, 78, 76), fill=colour)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def made_up() -> MadeUpRun:
    """Return the made-up run."""
    return MadeUpRun()


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of one convolution and a mean: image (B, 3, 8, 8) to embedding (B, 3)."""
    weight = numpy_helper.from_array(
        np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32), "w"
    )
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "tiny", [image], [embedding], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return four different photographs of nothing."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    files = [folder / f"{index}.jpg" for index in range(4)]
    for file in files:
        Image.fromarray(random.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(file, quality=95)
    return files
