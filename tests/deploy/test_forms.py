from __future__ import annotations

from pathlib import Path

from edgeproof_deploy.forms import StudentForm, onnx_files

ENGINES = ["pytorch_compiled", "openvino", "tensorrt_rtx", "onnxruntime_tensorrt", "onnxruntime_cuda"]


def form(name: str, precision: str) -> StudentForm:
    return StudentForm(name, precision, Path())  # pyright: ignore[reportArgumentType]


def test_onnx_name__of_int8_each_engine_reads_its_own_placement() -> None:
    int8 = form("sparse", "int8")
    ours, tensorrt = "model.sparse_int8.onnx", "model.sparse_int8.trt.onnx"
    for engine in ("onnxruntime", "onnxruntime_cuda", "openvino"):
        assert int8.onnx_name(engine) == ours
    for engine in ("tensorrt", "tensorrt_rtx", "onnxruntime_tensorrt"):
        assert int8.onnx_name(engine) == tensorrt
    assert set(onnx_files(int8, ENGINES)) == {ours, tensorrt}
    assert set(onnx_files(int8, ["pytorch_compiled"])) == {ours}
    assert set(onnx_files(form("student", "fp16"), ENGINES)) == {"model.fp16.onnx"}


def test_runs_in__half_precision_lies_in_the_file_and_compiled_pytorch_has_fp32_alone() -> None:
    for precision, pytorch, compiled in (("fp32", True, True), ("fp16", False, False), ("int8", True, False)):
        one = form("student", precision)
        assert (one.runs_in("pytorch"), one.runs_in("pytorch_compiled")) == (pytorch, compiled)
        assert all(one.runs_in(engine) for engine in ENGINES[1:])
