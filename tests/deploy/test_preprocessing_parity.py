from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_deploy.preprocessing_parity import (
    preprocessing_parity,
    through_loader,
    through_runtime,
    write_edge_images,
)
from edgeproof_deploy.runtime.preprocess import Preprocess

PREPROCESS = Preprocess(32, 36, mean=(0.48, 0.45, 0.40), std=(0.22, 0.22, 0.22))


def test_preprocessing_parity__evaluation_and_device_agree_to_the_bit(
    photos: list[Path], tmp_path: Path
) -> None:
    edges = write_edge_images(tmp_path)
    read_back = Preprocess.from_dict(PREPROCESS.to_dict())
    found = preprocessing_parity(photos, through_loader(PREPROCESS), through_runtime(read_back), edges)
    assert (found.max_abs, found.differing, found.worst, found.gate.status) == (0, 0, None, "pass")
    assert found.n == len(photos) + 12
    assert {"black", "white", "noise", "grey", "tiny", "huge", "strip", "exif"} < set(found.edges)


@pytest.mark.parametrize(
    "other",
    [
        replace(PREPROCESS, interpolation="bilinear"),
        replace(PREPROCESS, resize_size=37),
        replace(PREPROCESS, mean=(0.48, 0.45, 0.4000001)),
    ],
)
def test_preprocessing_parity__any_other_setting_is_found(
    photos: list[Path], tmp_path: Path, other: Preprocess
) -> None:
    edges = write_edge_images(tmp_path)
    found = preprocessing_parity(photos[:3], through_loader(PREPROCESS), through_runtime(other), edges)
    assert found.gate.status == "fail"
    assert found.differing > 0.05
    assert found.worst is not None
    assert found.gate.words("preprocessing").startswith("preprocessing: preprocessing is ")


def test_preprocessing_parity__another_decoder_is_found_by_the_edge_images(tmp_path: Path) -> None:
    def careless(file: Path) -> np.ndarray:
        return PREPROCESS(Image.open(file).convert("RGB"))

    edges = write_edge_images(tmp_path)
    found = preprocessing_parity([], careless, through_runtime(PREPROCESS), edges)
    assert found.gate.status == "fail"
    limited = preprocessing_parity([], careless, through_runtime(PREPROCESS), edges, limit=100.0)
    assert limited.gate.status == "pass"


def test_write_edge_images__are_what_they_are_called(tmp_path: Path) -> None:
    files = {file.stem: file for file in write_edge_images(tmp_path)}
    with (
        Image.open(files["huge"]) as huge,
        Image.open(files["exif"]) as exif,
        Image.open(files["tiny"]) as tiny,
    ):
        assert huge.width * huge.height == 24_000_000
        assert exif.getexif()[0x0112] == 6
        assert tiny.size == (1, 1)
    modes = {}
    for name in ("grey", "transparent", "sixteen_bit", "cmyk"):
        with Image.open(files[name]) as image:
            modes[name] = image.mode
    assert modes == {"grey": "L", "transparent": "RGBA", "sixteen_bit": "I;16", "cmyk": "CMYK"}
