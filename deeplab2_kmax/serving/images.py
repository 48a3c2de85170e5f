"""Reads a picture from a file, bytes or an array as RGB, upright, or says in one line what is wrong with it."""

from __future__ import annotations

import io
import os
import pathlib
import warnings
from typing import Any, Union

import numpy as np
from PIL import Image, ImageOps

Array = Any  # np.ndarray
Source = Union[str, os.PathLike, bytes, Array]

# 100 megapixels are 300 MB as RGB: larger than any camera's picture, far below what would exhaust a machine.
PIXEL_LIMIT = 100_000_000


def read(source: Source, *, pixel_limit: int = PIXEL_LIMIT) -> Array:
    """A picture as uint8 [H, W, 3].

    Files are turned as their EXIF orientation says, grey becomes RGB, 16 bits become 8, transparent parts become white.

    Args:
        source: a path; the bytes of an image file; or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of uint8,
            uint16 (0..65535), or of float (not 0..1) or other integers with values 0..255.
        pixel_limit: largest number of pixels that is accepted.

    Raises:
        ValueError: not a picture, broken or cut off, larger than `pixel_limit`, or an array of another form. One line.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"image of {len(source)} bytes", pixel_limit)
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        if not path.is_file():
            raise ValueError(
                f"{path}: {'is a folder, expected an image' if path.is_dir() else 'there is no such file'}"
            )
        with path.open("rb") as file:
            return _decode(file, str(path), pixel_limit)
    return _from_array(np.asarray(source), pixel_limit)


def _decode(file: Any, name: str, pixel_limit: int) -> Array:
    try:
        with warnings.catch_warnings():
            # Our own limit is checked before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                width, height = image.size
                _check_size(height, width, name, pixel_limit)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {_one_line(error)}") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name}: is not an image in a format that is known here") from None
    except (
        OSError,
        SyntaxError,
        EOFError,
        IndexError,
        TypeError,
        MemoryError,
        Image.DecompressionBombWarning,
    ) as error:
        # Pillow's decoders raise all of these for broken files.
        raise ValueError(f"{name}: broken image ({_one_line(error)})") from None


def _to_rgb(image: Image.Image) -> Array:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.dtype.kind == "f":
            if not np.isfinite(values).all():
                raise OSError("values that are not finite")
            values = np.clip(values, 0, 255)
        else:
            values = np.clip(values.astype(np.int64), 0, 65535) >> 8
        return np.repeat(values.astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _on_white(rgba: Array) -> Array:
    opaque = rgba[..., 3]
    if opaque.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    alpha = opaque[..., None].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _from_array(values: Array, pixel_limit: int) -> Array:
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[-1] not in (1, 3, 4) or values.size == 0:
        raise ValueError(f"Expected an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], found {list(values.shape)}.")
    _check_size(values.shape[0], values.shape[1], "image array", pixel_limit)
    if values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    elif values.dtype != np.uint8:
        if values.dtype.kind not in "fiu":
            raise ValueError(f"Expected an array of numbers 0..255, found {values.dtype}.")
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 255):  # also true for NaN
            raise ValueError(f"Expected an array with values 0..255, found {low}..{high}.")
        if values.dtype.kind == "f" and high <= 1 and np.any((values > 0) & (values < 1)):
            # Fractions alone are a picture in 0..1: read as 0..255 it would be black.
            raise ValueError(f"Expected an array with values 0..255, found {low}..{high}: multiply it by 255.")
        values = (values + 0.5).astype(np.uint8) if values.dtype.kind == "f" else values.astype(np.uint8)
    if values.shape[-1] == 1:
        return np.repeat(values, 3, axis=-1)
    return _on_white(values) if values.shape[-1] == 4 else np.ascontiguousarray(values)


def _check_size(height: int, width: int, name: str, pixel_limit: int) -> None:
    if height * width > pixel_limit:
        raise ValueError(
            f"{name}: {width}x{height} are {height * width / 1e6:.1f} megapixels, the limit is {pixel_limit / 1e6:g}"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
