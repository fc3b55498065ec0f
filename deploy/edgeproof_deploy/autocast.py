"""The way to NVIDIA's AutoCast: imported where it is used, without its warnings and messages."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from edgeproof_configs.errors import MissingPackageError

LOGGERS = ("modelopt.onnx", "modelopt.onnx.autocast")


def convert(path: Path, calibration: Path, exclude: Sequence[str]) -> onnx.ModelProto:
    """Return a model in fp16 where its values allow that, inputs and outputs in fp32.

    Args:
        path: the ONNX file in fp32.
        calibration: folder of `.npz` files, each a batch of inputs by name.
        exclude: operators that stay in fp32.

    Raises:
        MissingPackageError: nvidia-modelopt, or what it needs for ONNX, is not installed.
    """
    convert_to_mixed_precision = _imported()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # It leaves the files of its calibration data to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            return convert_to_mixed_precision(
                str(path),
                low_precision_type="fp16",
                keep_io_types=True,
                op_types_to_exclude=list(exclude),
                calibration_data=str(calibration),
                providers=["cpu"],
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _imported() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`modelopt.onnx` package will drop python", DeprecationWarning)
            from modelopt.onnx.autocast import convert_to_mixed_precision
    except ImportError as error:
        raise MissingPackageError(
            f"fp16 needs nvidia-modelopt and what it uses for ONNX: {str(error).splitlines()[0]}",
            fix="pip install 'edgeproof[compress]', or leave fp16 out of deploy.precisions",
        ) from error
    return convert_to_mixed_precision
