"""The forms of a run's student: as trained, sparse, in half precision, in INT8, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeproof_compress.quantized_student import QuantizedStudent
from edgeproof_configs.run import RunDir
from edgeproof_configs.schema import Recipe
from edgeproof_deploy.runtime.session import TENSORRT_FLAVOUR
from edgeproof_train.student import Student

Name = Literal["student", "sparse"]
Precision = Literal["fp32", "fp16", "int8"]
TENSORRT = TENSORRT_FLAVOUR
"""Engines that read the INT8 file with the placement of TensorRT; the others read that of ONNX Runtime."""


@dataclass(frozen=True)
class StudentForm:
    """One form of the student.

    Attributes:
        name: `student` as trained, or `sparse`.
        precision: of its arithmetic.
        folder: of the student in PyTorch that it is made of.
    """

    name: Name
    precision: Precision
    folder: Path

    @property
    def key(self) -> str:
        """The form in one word, for files and figures: `fp32`, `int8`, `sparse_int8`."""
        return self.precision if self.name == "student" else f"{self.name}_{self.precision}"

    @property
    def has_own_student(self) -> bool:
        """Whether PyTorch computes it by itself; half precision exists in the ONNX file alone."""
        return self.precision != "fp16"

    def runs_in(self, engine: str) -> bool:
        """Whether an engine has this form; compiled PyTorch rounds nothing, so it has fp32 alone."""
        if engine == "pytorch":
            return self.has_own_student
        return self.precision == "fp32" or engine != "pytorch_compiled"

    def onnx_name(self, engine: str) -> str:
        """Return the name of the ONNX file that an engine reads of this form."""
        if self.precision != "int8":
            middle = {"fp32": "", "sparse_fp32": ".sparse"}.get(self.key, f".{self.key}")
            return f"model{middle}.onnx"
        flavour = ".trt" if engine in TENSORRT else ""
        return f"model.{self.key}{flavour}.onnx"

    def load(self) -> Student:
        """Return the form in PyTorch; one in INT8 rounds as its target does."""
        if self.precision == "int8":
            return QuantizedStudent.read(self.folder)
        return Student.load(self.folder)


def forms_of(recipe: Recipe, run: RunDir) -> list[StudentForm]:
    """Return the forms that a recipe makes, the student as trained first."""
    compress, precisions = recipe.compress, recipe.deploy.precisions
    sparsity = compress.sparsity if compress else None
    quantization = compress.quantization if compress else None
    found = [StudentForm("student", "fp32", run.stage("train"))]
    if "fp16" in precisions:
        found.append(StudentForm("student", "fp16", run.stage("train")))
    if sparsity:
        found.append(StudentForm("sparse", "fp32", run.stage("sparsify")))
    if quantization:
        found.append(StudentForm("student", "int8", run.stage("quantize") / "int8"))
    if sparsity and quantization:
        found.append(StudentForm("sparse", "int8", run.stage("quantize") / "sparse_int8"))
    return found


def onnx_files(form: StudentForm, engines: list[str]) -> dict[str, str]:
    """Return the ONNX files that a form needs for some engines: file name -> one engine that reads it."""
    kinds = [kind for kind in engines if not kind.startswith("pytorch")] or ["onnxruntime"]
    return {form.onnx_name(kind): kind for kind in reversed(["onnxruntime", *kinds])}
