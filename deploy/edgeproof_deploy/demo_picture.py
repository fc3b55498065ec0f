"""A frame with what was predicted on it, and where such frames go: into a video file or a window."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgeproof_configs.errors import EdgeproofError, MissingPackageError, UsageError
from edgeproof_deploy.demo_frames import import_cv2
from edgeproof_deploy.runtime.predictor import Prediction

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
SMALLEST, LARGEST = (320, 240), (1920, 1080)
SHADE, BAR, TEXT = (0, 0, 0, 150), (70, 150, 230, 190), (255, 255, 255, 255)
QUIT_KEYS = (27, ord("q"))
WINDOW = "edgeproof"


def size_of_picture(width: int, height: int) -> tuple[int, int]:
    """Return the size at which frames are shown, even and within the limits, its shape that of the first."""
    grow = max(SMALLEST[0] / width, SMALLEST[1] / height, 1.0)
    scale = min(grow, LARGEST[0] / width, LARGEST[1] / height)
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


def draw(frame: np.ndarray, prediction: Prediction, note: str, size: tuple[int, int]) -> np.ndarray:
    """Return a frame with labels, bars of their probabilities and a note, uint8 RGB (H, W, 3).

    Args:
        frame: uint8 RGB, of any size; it is fitted into the picture, with black beside it.
        prediction: what is on it.
        note: a line at the foot.
        size: width and height of the picture.
    """
    page = Image.new("RGB", size)
    shown = Image.fromarray(frame)
    scale = min(size[0] / shown.width, size[1] / shown.height)
    shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    page.paste(shown, ((size[0] - shown.width) // 2, (size[1] - shown.height) // 2))
    pen = ImageDraw.Draw(page, "RGBA")
    line = max(14, size[1] // 20)
    font = ImageFont.load_default(line * 0.8)
    wide = min(size[0], line * 16)
    pen.rectangle((0, 0, wide, line * len(prediction.labels) + 4), SHADE)
    for row, (label, share) in enumerate(prediction.labels):
        top = 2 + row * line
        pen.rectangle((0, top + 1, wide * share, top + line - 2), BAR)
        pen.text((4, top), f"{share:4.0%}  {label}", TEXT, font)
    pen.rectangle((0, size[1] - line - 4, size[0], size[1]), SHADE)
    pen.text((4, size[1] - line - 2), note, TEXT, font)
    return np.array(page)


class VideoFile:
    """Writes frames as a video; the file gets its name when all are in it.

    Raises:
        UsageError: the suffix is not known, or the file exists.
        EdgeproofError: it cannot be written.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]):
        self.path, self.building = path, path.with_name(f".{path.stem}.partial{path.suffix}")
        cv2 = import_cv2()
        code = cv2.VideoWriter_fourcc(*CODECS[path.suffix.lower()])
        self._writer: Any = cv2.VideoWriter(str(self.building), code, rate, size)
        if not self._writer.isOpened():
            raise EdgeproofError("this video cannot be written", where=path, fix="choose another place")

    def show(self, picture: np.ndarray) -> bool:
        """Add a frame; return whether more are wanted."""
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))
        return True

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
        # A camera is stopped by Ctrl-C: what it has seen is wanted.
        if kind is None or issubclass(kind, KeyboardInterrupt):
            os.replace(self.building, self.path)
        else:
            self.building.unlink(missing_ok=True)


class Window:
    """Shows frames until `q` or Esc is pressed.

    Raises:
        MissingPackageError: there is no display, or this OpenCV is the one without windows.
    """

    def __init__(self) -> None:
        fix = "say --out FILE.mp4 to write a video"
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MissingPackageError("there is no display to open a window on", fix=fix)
        self._cv2 = import_cv2()
        try:
            self._cv2.namedWindow(WINDOW, self._cv2.WINDOW_NORMAL)
        except self._cv2.error as error:
            raise MissingPackageError(
                "this OpenCV has no windows (it is opencv-python-headless)",
                fix=f"pip install opencv-python in its place, or {fix}",
            ) from error

    def show(self, picture: np.ndarray) -> bool:
        """Show a frame; return whether more are wanted."""
        self._cv2.imshow(WINDOW, np.ascontiguousarray(picture[:, :, ::-1]))
        return self._cv2.waitKey(1) & 0xFF not in QUIT_KEYS

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._cv2.destroyAllWindows()


def check_out(path: Path) -> None:
    """Refuse a video file before anything is done for it.

    Raises:
        UsageError: its suffix is not known, its folder is missing, or it exists.
    """
    if path.suffix.lower() not in CODECS:
        raise UsageError(f"a video is written as {' or '.join(CODECS)}", where=path)
    if not path.parent.is_dir():
        raise UsageError("there is no such folder", where=path.parent)
    if path.exists():
        raise UsageError("this file exists and is not overwritten", where=path, fix="choose another name")
