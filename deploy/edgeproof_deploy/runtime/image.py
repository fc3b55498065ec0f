"""Reading an image file into 8-bit RGB, with one clear error for everything that cannot be read."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

Source = str | Path | bytes | Image.Image | np.ndarray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What may be opened. Pillow's other plugins are left out: some start other programs for the file."""

EXIF_ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

# Silencing a warning changes the interpreter's filters, which all threads share.
_FILTERS = threading.Lock()


class ImageError(Exception):
    """An image that cannot be used: `name` says which, `reason` says why."""

    def __init__(self, name: str, reason: str):
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def open_image(source: Source) -> Image.Image:
    """Return an image as RGB, upright.

    The EXIF orientation is applied. Transparent pixels are laid on white. Of an animation the first frame is
    taken. Of 16-bit pixels the high byte is kept. Grey, palette and CMYK images become RGB by Pillow's rules.

    Args:
        source: a path, the bytes of a file, an opened image, or an array of uint8: (H, W) grey, (H, W, 3)
            RGB, (H, W, 4) RGB with opacity.

    Raises:
        ImageError: the file is missing, empty, cut, no image, larger than Pillow's limit against
            decompression bombs (`2 * PIL.Image.MAX_IMAGE_PIXELS`), or holds pixels without an agreed range
            (32-bit integers, floats). Or it has no pixels, or is an array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        source = _image_of(source)
    if isinstance(source, Image.Image):
        with _explained("image"):
            upright = _upright_rgb(source, "image")
        return upright.copy() if upright is source else upright
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), len(source), f"image of {len(source)} bytes")
    # A path may be of a class of its own, whose bytes lie elsewhere: it is not made anew.
    path = source if isinstance(source, Path) else Path(source)
    try:
        with path.open("rb") as handle:
            return _read(handle, path.stat().st_size, str(source))
    except FileNotFoundError:
        raise ImageError(str(source), "there is no such file") from None
    except IsADirectoryError:
        raise ImageError(str(source), "is a folder, not an image") from None
    except OSError as error:
        raise ImageError(str(source), f"cannot be read: {error.strerror or error}") from error


def _image_of(array: np.ndarray) -> Image.Image:
    planes = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or planes not in (1, 3, 4) or not array.size:
        raise ImageError(
            "array",
            f"has shape {array.shape} and type {array.dtype}, expected uint8 (height, width, 3), RGB",
        )
    return Image.fromarray(np.ascontiguousarray(array[:, :, 0] if array.ndim == 3 and planes == 1 else array))


def _read(handle: IO[bytes], size_bytes: int, name: str) -> Image.Image:
    if not size_bytes:
        raise ImageError(name, "the file is empty")
    with _explained(name):
        with quiet():
            image = Image.open(handle, formats=FORMATS)
        return _upright_rgb(image, name)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(name, f"is not an image ({', '.join(FORMATS)} can be read)") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ImageError(
            name, f"has more than {limit / 1e6:.0f} million pixels, which is Pillow's limit"
        ) from error
    except MemoryError as error:
        raise ImageError(name, "does not fit into memory") from error
    except Exception as error:
        # On damaged bytes Pillow's decoders raise nearly every built-in error, struct.error to IndexError.
        raise ImageError(name, f"is damaged: {str(error) or type(error).__name__}") from error


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    if not (image.width and image.height):
        raise ImageError(name, "has no pixels")
    turn = TURNS.get(_orientation(image))
    image = _rgb(image, name)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) where the metadata are damaged, since the pixels are not."""
    try:
        with quiet():
            value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image, name: str) -> Image.Image:
    sixteen_bit = image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format == "PNG")
    if sixteen_bit:
        high_byte = np.asarray(image.convert("I")).clip(0, 65535) >> 8
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(
            name, f"has pixels of mode '{image.mode}' without an agreed range: save it with 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = image.convert("RGBA")
        page = Image.new("RGB", seen.size, (255, 255, 255))
        page.paste(seen, mask=seen.getchannel("A"))
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def quiet() -> Iterator[None]:
    """Hide Pillow's warnings: they name no file, and what matters in them is raised here as an error."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
