"""Every way in which a command can end early, as at most three lines and an exit code."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError

EXTRAS = {
    "accelerate": "train",
    "cv2": "demo",
    "faiss": "data",
    "fsspec": "data",
    "imagehash": "data",
    "img2dataset": "download",
    "modelopt": "compress",
    "nltk": "data",
    "numpy": "train",
    "onnx": "deploy",
    "onnx_graphsurgeon": "compress",
    "onnxruntime": "deploy",
    "onnxscript": "deploy",
    "open_clip": "train",
    "openvino": "openvino",
    "PIL": "train",
    "polygraphy": "deploy",
    "pyarrow": "data",
    "pytorch_quantization": "compress-legacy",
    "safetensors": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "deploy",
    "timm": "train",
    "torch": "train",
    "torchmetrics": "train",
    "torchvision": "train",
    "transformers": "train",
    "trimesh": "data",
    "webdataset": "data",
}
"""Import name of a package -> the extra of edgeproof that brings it."""

OUT_OF_MEMORY_CLASSES = {"OutOfMemoryError", "MemoryError", "_ArrayMemoryError"}
OUT_OF_MEMORY_WORDS = ("can't allocate memory", "out of memory", "failed to allocate memory")


@dataclass(frozen=True)
class Failure:
    """What is printed on stderr, and the exit code. A `quiet` one never shows a traceback."""

    lines: list[str]
    exit_code: int
    quiet: bool = False


def describe(error: BaseException) -> Failure:
    """Return what the user is told about an exception."""
    if isinstance(error, EdgeproofError):
        return Failure(error.lines(), error.exit_code)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Failure(["stopped; run the same command again to go on"], 130, quiet=True)
    if isinstance(error, SystemExit):
        return Failure([], error.code if isinstance(error.code, int) else 1, quiet=True)
    if type(error).__name__ == "Exit":
        return Failure([], getattr(error, "exit_code", 0), quiet=True)
    if hasattr(error, "format_message"):
        return _usage(error)
    if is_out_of_memory(error):
        explained = EdgeproofError(
            "not enough memory",
            where=_first_line(error),
            fix="free some, or choose a smaller train.batch_size, student.image_size or student.model",
        )
        return Failure(explained.lines(), explained.exit_code)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRAS:
        return _missing_package((error.name or "").split(".")[0])
    if isinstance(error, OSError) and error.strerror:
        return _operating_system(error)
    return _unexpected(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of a GPU, ran out; known by name, so that torch is not imported."""
    if {base.__name__ for base in type(error).__mro__} & OUT_OF_MEMORY_CLASSES:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_WORDS)


def _usage(error: BaseException) -> Failure:
    """Describe a command line that the parser did not understand."""
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message")())
    command = context.command_path if context else "edgeproof"
    shown = UsageError(f"{message[:1].lower()}{message[1:]}", fix=f"see `{command} --help`")
    return Failure(shown.lines(), shown.exit_code, quiet=True)


def _missing_package(name: str) -> Failure:
    shown = MissingPackageError(
        f"package '{name}' is not installed", fix=f"pip install 'edgeproof[{EXTRAS[name]}]'"
    )
    return Failure(shown.lines(), shown.exit_code)


def _operating_system(error: OSError) -> Failure:
    shown = EdgeproofError(
        f"{error.strerror}", where=error.filename, fix="run with --debug to see where it happened"
    )
    return Failure(shown.lines(), shown.exit_code)


def _unexpected(error: BaseException) -> Failure:
    """Describe what nobody thought of: the last of our own lines that ran, and how to see the rest."""
    where = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("edgeproof"):
            where = f"{Path(frame.f_code.co_filename).name}:{line} in {frame.f_code.co_name}"
    shown = EdgeproofError(
        f"{type(error).__name__}: {_first_line(error)}", where=where, fix="run with --debug for the traceback"
    )
    return Failure(shown.lines(), shown.exit_code)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else "no further words"
    return first if len(first) <= 200 else f"{first[:197]}..."
