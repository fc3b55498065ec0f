from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.configs.small_bundle import make_bundle

from edgeproof.__main__ import main
from edgeproof_configs.errors import MissingPackageError
from edgeproof_deploy.demo_frames import open_frames
from edgeproof_deploy.demo_picture import draw, size_of_picture
from edgeproof_deploy.runtime.predictor import Prediction

cv2: Any = pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of 160 x 120, red first, then blue, at 8 a second."""
    path = tmp_path_factory.mktemp("video") / "colours.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 8.0, (160, 120))
    for number in range(20):
        frame = np.zeros((120, 160, 3), np.uint8)
        frame[:, :, 2 if number < 10 else 0] = 220
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, frame = capture.read()
        if not found:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame[:, :, ::-1])


def test_demo__writes_a_video_with_the_answers_on_it(
    bundle: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seen.mp4"
    assert main(["demo", str(bundle), str(video), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"20 frames of .*colours\.avi, [\d.]+ a second, drawing included", said)
    assert f"written: {out}" in said
    frames, rate = frames_of(out)
    assert (len(frames), rate) == (20, 8)
    assert frames[0].shape == (240, 320, 3)
    middle = [frame[100:160, 260:300].mean(axis=(0, 1)) for frame in (frames[0], frames[-1])]
    assert middle[0][0] > 180 > 60 > middle[0][2]
    assert middle[1][2] > 180 > 60 > middle[1][0]
    labels = frames[0][:45, :120].astype(int)
    assert (labels.min(axis=2) > 150).sum() > 50, "white letters stand at the top left"
    assert list(tmp_path.iterdir()) == [out]


def test_demo__a_folder_and_some_frames(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, size in enumerate(((40, 30), (500, 20), (3, 700))):
        Image.new("RGB", size, (10, 90, 200)).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "seen.avi"
    assert main(["demo", str(bundle), str(photos), "--out", str(out), "--top", "1"]) == 1
    said = capsys.readouterr()
    assert "broken.jpg: is not an image" in said.err
    assert len(frames_of(out)[0]) == 3
    assert main(["demo", str(bundle), str(photos), "--out", str(tmp_path / "b.mp4"), "--frames", "2"]) == 0
    assert len(frames_of(tmp_path / "b.mp4")[0]) == 2


def test_demo__what_is_refused(
    bundle: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.mp4").touch()
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 50)
    (tmp_path / "empty").mkdir()
    out = str(tmp_path / "new.mp4")
    for arguments, code, words in (
        ([str(video), "--out", str(tmp_path / "there.mp4")], 2, "exists and is not overwritten"),
        ([str(video), "--out", str(tmp_path / "new.mkv")], 2, "written as .mp4 or .avi"),
        ([str(video), "--out", str(tmp_path / "none/new.mp4")], 2, "no such folder"),
        ([str(tmp_path / "gone.mp4"), "--out", out], 2, "no such source"),
        ([str(tmp_path / "broken.mp4"), "--out", out], 1, "no picture can be read"),
        ([str(tmp_path / "empty"), "--out", out], 1, "holds no image file"),
        ([str(video), "--out", out, "--labels", "zebra"], 2, "label 'zebra' is not among"),
        ([str(video), "--out", out, "--engine", "abacus"], 2, "abacus"),
    ):
        assert main(["demo", str(bundle), *arguments]) == code, arguments
        assert words in capsys.readouterr().err
    assert sorted(place.name for place in tmp_path.iterdir()) == ["broken.mp4", "empty", "there.mp4"]


def test_demo__no_camera_or_a_busy_one(bundle: Path, tmp_path: Path) -> None:
    if Path("/dev/video63").exists():
        pytest.skip("this machine has 64 cameras")
    command = [sys.executable, "-m", "edgeproof", "demo", bundle, "63", "--out", tmp_path / "new.mp4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stderr.startswith(
        "error: camera 63 gives no picture: there is none, it may not be opened, or"
    )
    assert len(done.stderr.splitlines()) <= 3


def test_demo__no_display(bundle: Path, video: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can be without a display")
    rest = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "edgeproof", "demo", str(bundle), str(video)]
    done = subprocess.run(command, capture_output=True, text=True, env=rest)
    assert done.returncode == 5
    assert "there is no display to open a window on" in done.stderr
    assert "--out FILE.mp4" in done.stderr


def test_open_frames__without_opencv(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgeproof\[demo\]'"):
        open_frames(str(video))


def test_draw__labels_of_any_letters_on_any_frame() -> None:
    prediction = Prediction("x", [("käse", 0.75), ("a ring", 0.25)])
    for shape in ((1, 1, 3), (9, 2000, 3), (700, 3, 3)):
        picture = draw(np.full(shape, 128, np.uint8), prediction, "note", (320, 240))
        assert picture.shape == (240, 320, 3)
        assert (picture > 200).any()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((160, 121), (320, 242)),
        ((640, 481), (640, 480)),
        ((8000, 4000), (1920, 960)),
        ((1, 20_000), (2, 1080)),
    ],
)
def test_size_of_picture__even_and_within_limits(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_of_picture(*size) == expected
