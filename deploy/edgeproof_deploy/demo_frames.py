"""Frames to predict on: of a camera or a video file, which OpenCV reads, or the images of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeproof_configs.errors import DataError, MissingPackageError, UsageError
from edgeproof_deploy.runtime.image import ImageError, open_image
from edgeproof_deploy.runtime.sources import SUFFIXES, image_files

CAMERA_RATE, FOLDER_RATE = 25.0, 2.0
"""Frames a second of what tells none, in a video that is written of it."""


@dataclass(frozen=True)
class Frames:
    """A source of frames.

    Attributes:
        name: in words.
        rate: frames a second at which a video of it shall play.
        images: RGB frames, uint8 (H, W, 3), in order.
        skipped: images that could not be read, known when all were asked for.
    """

    name: str
    rate: float
    images: Iterator[np.ndarray]
    skipped: list[ImageError]


def open_frames(source: str) -> Frames:
    """Open a source.

    Args:
        source: number of a camera, a video or image file, or a folder of images.

    Raises:
        UsageError: there is no such file.
        DataError: the file is no video that OpenCV can read, or the folder holds no image.
        MissingPackageError: OpenCV is not installed, or the camera is not there or busy.
    """
    if source.isdigit():
        return _camera(int(source))
    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES):
        return _images(path)
    if not path.is_file():
        raise UsageError(
            "no such source: expected a camera's number, a video, an image or a folder", where=path
        )
    return _video(path)


def import_cv2() -> Any:
    """Return OpenCV, told to keep its own reports from the terminal."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            f"OpenCV, which reads cameras and videos, cannot be imported: {str(error).splitlines()[0]}",
            fix="pip install 'edgeproof[demo]'",
        ) from error
    return cv2


def _camera(number: int) -> Frames:
    capture = import_cv2().VideoCapture(number)
    first = _read(capture) if capture.isOpened() else None
    if first is None:
        capture.release()
        raise MissingPackageError(
            f"camera {number} gives no picture: there is none, it may not be opened, or a program has it",
            fix="close the other program, or name another camera, a video file or a folder",
        )
    return Frames(f"camera {number}", CAMERA_RATE, _rest(capture, first), [])


def _video(path: Path) -> Frames:
    cv2 = import_cv2()
    capture = cv2.VideoCapture(str(path))
    first = _read(capture) if capture.isOpened() else None
    if first is None:
        capture.release()
        raise DataError("no picture can be read: is this a video?", where=path, fix="name another file")
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return Frames(str(path), rate if 1 <= rate <= 1000 else CAMERA_RATE, _rest(capture, first), [])


def _images(path: Path) -> Frames:
    try:
        files = image_files(path) if path.is_dir() else [path]
    except ImageError as error:
        raise DataError(error.reason, where=path) from error
    skipped: list[ImageError] = []

    def opened() -> Iterator[np.ndarray]:
        for file in files:
            try:
                yield np.array(open_image(file))
            except ImageError as error:
                skipped.append(error)

    return Frames(str(path), FOLDER_RATE, opened(), skipped)


def _rest(capture: Any, first: np.ndarray) -> Iterator[np.ndarray]:
    frame: np.ndarray | None = first
    try:
        while frame is not None:
            yield frame
            frame = _read(capture)
    finally:
        capture.release()


def _read(capture: Any) -> np.ndarray | None:
    """Return the next frame in RGB; OpenCV has blue first."""
    found, frame = capture.read()
    return np.ascontiguousarray(frame[:, :, ::-1]) if found else None
