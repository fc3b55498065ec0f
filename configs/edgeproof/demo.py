"""`demo`: what a bundle sees in a camera, a video or a folder, in a window or as a video file."""

from __future__ import annotations

import sys
import time
from collections import deque
from itertools import chain, islice
from pathlib import Path

from edgeproof.bundles import bundle_of
from edgeproof.prediction import open_predictor, runtime_errors
from edgeproof_configs.errors import DataError
from edgeproof_deploy.demo_frames import Frames, open_frames
from edgeproof_deploy.demo_picture import VideoFile, Window, check_out, draw, size_of_picture
from edgeproof_deploy.runtime.__main__ import read_labels
from edgeproof_deploy.runtime.predictor import Predictor

RECENT = 30


def demo(
    place: Path,
    source: str,
    *,
    engine: str,
    labels: str | None,
    top: int,
    out: Path | None,
    frames: int | None,
) -> int:
    """Predict frame by frame, draw the answer on each, and return the exit code.

    Args:
        place: a bundle, or a run that has one.
        source: number of a camera, a video or image file, or a folder of images.
        engine: what runs the model.
        labels: choose among these labels: a file with one a line, or `a,b,c`.
        top: how many labels to draw.
        out: video to write, .mp4 or .avi; None opens a window.
        frames: stop after so many.

    Raises:
        UsageError: there is no such bundle, source or label, or `out` cannot be a video.
        DataError: the source holds no picture.
        MissingPackageError: OpenCV, the engine, the camera or a display is missing, or the camera is busy.
    """
    if out is not None:
        check_out(out)
    bundle = bundle_of(place)
    with runtime_errors(bundle):
        predictor = open_predictor(place, bundle, engine)
        if labels is not None:
            predictor.set_labels(read_labels(labels))
        predictor.warm_up()
        opened = open_frames(source)
        count, seconds = run(predictor, opened, top=top, out=out, frames=frames)
    for error in opened.skipped:
        print(f"error: {error}", file=sys.stderr)
    print(f"{count} frames of {opened.name}, {count / seconds:.1f} a second, drawing included")
    if out is not None:
        print(f"written: {out}")
    return 1 if opened.skipped else 0


def run(
    predictor: Predictor, opened: Frames, *, top: int, out: Path | None, frames: int | None
) -> tuple[int, float]:
    """Predict, draw and show; return how many frames that were and the seconds they took.

    Raises:
        DataError: there is no frame at all.
    """
    first = next(opened.images, None)
    if first is None:
        raise DataError("none of the images can be read", where=opened.name)
    size = size_of_picture(first.shape[1], first.shape[0])
    began, count = time.perf_counter(), 0
    ends: deque[float] = deque([began], maxlen=RECENT)
    with Window() if out is None else VideoFile(out, opened.rate, size) as screen:
        for frame in islice(chain([first], opened.images), frames):
            start = time.perf_counter()
            (prediction,) = predictor.predict(frame, top)
            now = time.perf_counter()
            rate = len(ends) / (now - ends[0])
            note = f"{(now - start) * 1000:.1f} ms a prediction, {rate:.1f} FPS"
            wanted = screen.show(draw(frame, prediction, note, size))
            ends.append(time.perf_counter())
            count += 1
            if not wanted:
                break
    return count, time.perf_counter() - began
