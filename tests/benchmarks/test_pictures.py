from __future__ import annotations

from pathlib import Path

from PIL import Image

from edgeproof_benchmarks.pictures import SIZE, image_set


def test_image_set__made_up_images_can_be_read_and_differ(tmp_path: Path):
    images = image_set(None, tmp_path / "made", 3)
    contents = {images.file(index).read_bytes() for index in range(len(images))}
    assert len(contents) == 3
    for index in range(3):
        with Image.open(images.file(index)) as image:
            assert image.size == SIZE


def test_image_set__of_a_folder(image_files: list[Path], tmp_path: Path):
    images = image_set(image_files[0].parent, tmp_path, 99)
    assert [images.file(index) for index in range(len(images))] == sorted(image_files)
