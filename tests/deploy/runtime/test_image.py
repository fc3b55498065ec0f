from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_deploy.runtime.image import ImageError, open_image


def photo(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return tuple(int(part) for part in value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size and holds no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "JPEG"])
def test_open_image__every_format_from_path_bytes_and_memory(tmp_path: Path, kind: str) -> None:
    data = encoded(photo(), kind)
    file = tmp_path / f"a.b.{kind.lower()}"
    file.write_bytes(data)
    opened = Image.open(io.BytesIO(data))
    results = [np.array(open_image(source)) for source in (file, str(file), data, opened)]
    assert results[0].shape == (30, 40, 3)
    assert all(np.array_equal(results[0], other) for other in results[1:])
    if kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(results[0], np.array(photo()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image__exif_orientation_is_undone(orientation: int) -> None:
    upright = photo()
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = Image.fromarray(np.ascontiguousarray(undo(np.array(upright))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif.tobytes())
    assert np.array_equal(np.array(open_image(data)), np.array(upright))


def test_open_image__damaged_exif_keeps_the_pixels() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert open_image(data).size == (40, 30)


def test_open_image__grey_palette_and_bilevel_become_rgb() -> None:
    grey = Image.new("L", (4, 4), 77)
    assert colour(open_image(encoded(grey, "PNG"))) == (77, 77, 77)
    palette = Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    assert palette.mode == "P"
    assert colour(open_image(encoded(palette, "PNG"))) == (10, 200, 30)
    assert colour(open_image(encoded(Image.new("1", (4, 4), 1), "PNG"))) == (255, 255, 255)


def test_open_image__transparency_is_laid_on_white() -> None:
    hidden_red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert colour(open_image(encoded(hidden_red, "PNG"))) == (255, 255, 255)
    half_black = Image.new("LA", (4, 4), (0, 51))
    assert colour(open_image(encoded(half_black, "PNG"))) == (204, 204, 204)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.putpixel((1, 0), 1)
    opened = open_image(encoded(palette, "PNG", transparency=0))
    assert colour(opened, 0, 0) == (255, 255, 255)
    assert colour(opened, 1, 0) == (50, 60, 70)


def test_open_image__cmyk() -> None:
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    assert colour(open_image(encoded(white, "JPEG"))) == (255, 255, 255)
    assert colour(open_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))) == (255, 0, 0)


def test_open_image__sixteen_bits_keep_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    opened = open_image(encoded(Image.fromarray(values), "PNG"))
    assert [colour(opened, x)[0] for x in range(5)] == [0, 0, 1, 128, 255]


def test_open_image__float_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="mode 'F' without an agreed range"):
        open_image(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_open_image__animation_gives_the_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), shade) for shade in ((200, 0, 0), (0, 200, 0))]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        red, green, _ = colour(open_image(data))
        assert red > 190, kind
        assert green < 10, kind


def test_open_image__one_pixel() -> None:
    assert open_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).size == (1, 1)


def test_open_image__the_source_is_not_changed() -> None:
    source = photo()
    opened = open_image(source)
    opened.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(np.array(source), np.array(photo()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\x00\xff not an image \x01" * 9, "is not an image"),
        (encoded(photo(), "JPEG")[:-60], "is damaged: .*truncated"),
        (encoded(photo(), "PNG")[:300], "is damaged"),
        (png_header(30_000, 30_000), "more than 179 million pixels"),
    ],
)
def test_open_image__unusable_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "holiday.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=rf"holiday\.jpg: .*{words}") as caught:
        open_image(file)
    assert caught.value.name == str(file)
    with pytest.raises(ImageError, match=words):
        open_image(data)


def test_open_image__an_opened_image_whose_file_is_cut() -> None:
    lazy = Image.open(io.BytesIO(encoded(photo(), "JPEG")[:-60]))
    with pytest.raises(ImageError, match="image: is damaged"):
        open_image(lazy)


def test_open_image__above_the_warning_and_below_the_limit_there_is_no_warning() -> None:
    with pytest.raises(ImageError, match="is damaged"):
        open_image(png_header(10_000, 10_000))


def test_open_image__missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_open_image__random_damage_never_escapes(kind: str) -> None:
    rng = np.random.default_rng(7)
    whole = encoded(photo(), kind)
    refused = 0
    for _ in range(60):
        data = bytearray(whole[: int(rng.integers(1, len(whole) + 1))])
        for place in rng.integers(0, len(data), 3):
            data[place] = int(rng.integers(0, 256))
        try:
            assert open_image(bytes(data)).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 10


def test_image_error__survives_pickling_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "the file is empty")))
    assert (error.name, error.reason, str(error)) == (
        "a.jpg",
        "the file is empty",
        "a.jpg: the file is empty",
    )


def test_open_image__arrays() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.array(open_image(pixels)), pixels)
    assert np.array_equal(np.array(open_image(pixels[::-1, ::2])), pixels[::-1, ::2])
    grey = open_image(pixels[:, :, 0])
    assert np.array_equal(np.array(grey), np.repeat(pixels[:, :, :1], 3, axis=2))
    assert np.array_equal(np.array(open_image(pixels[:, :, :1])), np.array(grey))
    clear = np.zeros((2, 2, 4), np.uint8)
    assert colour(open_image(clear)) == (255, 255, 255)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(12, np.uint8),
    ],
)
def test_open_image__arrays_that_are_no_image(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"expected uint8 \(height, width, 3\), RGB"):
        open_image(array)


def test_open_image__no_pixels() -> None:
    with pytest.raises(ImageError, match="has no pixels"):
        open_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("mode", ["LAB", "HSV", "YCbCr", "CMYK", "1", "L", "P", "PA", "LA", "RGBX", "I;16"])
def test_open_image__every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    opened = open_image(
        Image.new("RGB", (6, 4), (200, 100, 50)).convert(mode)
        if mode != "I;16"
        else Image.new(mode, (6, 4), 40_000)
    )
    assert (opened.mode, opened.size) == ("RGB", (6, 4))


def test_open_image__sixteen_bit_rgb_keeps_the_high_byte() -> None:
    """Written by hand: Pillow does not write such files."""
    rows = b"".join(b"\x00" + struct.pack(">6H", 0, 255, 256, 32768, 65535, 4096) for _ in range(2))
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    opened = open_image(data)
    assert [colour(opened, 0), colour(opened, 1)] == [(0, 0, 1), (128, 255, 16)]


def test_open_image__an_animation_with_a_clear_first_frame() -> None:
    frames = [Image.new("RGBA", (8, 8), (255, 0, 0, 0)), Image.new("RGBA", (8, 8), (0, 200, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
    assert colour(open_image(data)) == (255, 255, 255)


def test_open_image__the_limit_against_bombs_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(40, 30), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(ImageError, match="has more than 0 million pixels, which is Pillow's limit"):
        open_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert open_image(data).size == (40, 30)
