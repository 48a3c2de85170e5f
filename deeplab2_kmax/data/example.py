"""The features of one TFRecord example and their encoding, without TensorFlow: converters start fast and stay small.

Keys and the raw label format are DeepLab2's; `records` reads what is written here.
"""

from __future__ import annotations

import io
import zlib
from typing import Union

import numpy as np
from PIL import Image

IMAGE = "image/encoded"
FILENAME = "image/filename"
IMAGE_FORMAT = "image/format"
HEIGHT = "image/height"
WIDTH = "image/width"
CHANNELS = "image/channels"
LABEL = "image/segmentation/class/encoded"
LABEL_FORMAT = "image/segmentation/class/format"
SEQUENCE_ID = "video/sequence_id"
FRAME_ID = "video/frame_id"
PREV_IMAGE = "prev_image/encoded"
PREV_LABEL = "prev_image/segmentation/class/encoded"
NEXT_IMAGE = "next_image/encoded"
NEXT_LABEL = "next_image/segmentation/class/encoded"
DEPTH = "image/depth/encoded"
DEPTH_FORMAT = "image/depth/format"

# How an int32 map is stored: little-endian int32 row by row; the same through zlib; an RGBA PNG whose red is the lowest
# byte. DeepLab2 reads `raw` alone.
RAW, ZLIB, PNG32 = "raw", "zlib", "png32"
MAP_FORMATS = (RAW, ZLIB, PNG32)

_SIZE = "{}x{}"


def encode_example(
    image: bytes,
    label: np.ndarray | None = None,
    *,
    filename: str,
    label_format: str = RAW,
    sequence_id: str | None = None,
    frame_id: str | None = None,
    prev_image: bytes | None = None,
    prev_label: np.ndarray | None = None,
    next_image: bytes | None = None,
    next_label: np.ndarray | None = None,
    depth: np.ndarray | None = None,
) -> bytes:
    """Serialises one example.

    Args:
        image: an encoded JPEG or PNG. Other colour modes than RGB are encoded anew as RGB in the same format. EXIF
            orientation is not applied: sizes are those of the stored pixels, which is what readers decode.
        label: [H, W] panoptic ids (class * label_divisor + instance).
        filename: the image's name, as the data set's evaluation knows it.
        label_format: how labels and depth are stored, one of MAP_FORMATS; DeepLab2 reads `raw` alone.
        sequence_id, frame_id: of a video frame.
        prev_image, prev_label, next_image, next_label: neighbouring frames, of the same size.
        depth: [H, W] metres * 256, 0 = no depth.

    Raises:
        ValueError: an image that is neither JPEG nor PNG, a map of another size than the image, ids that are not
            integers of 32 bits, or an unknown label_format.
    """
    if label_format not in MAP_FORMATS:
        raise ValueError(f"{filename}: unknown label format {label_format!r}, expected one of {', '.join(MAP_FORMATS)}")
    image, image_format, size = _rgb(image, filename)
    features: dict[str, Union[bytes, int]] = {
        IMAGE: image,
        FILENAME: filename.encode(),
        IMAGE_FORMAT: image_format.encode(),
        HEIGHT: size[0],
        WIDTH: size[1],
        CHANNELS: 3,
    }
    for key, value in ((SEQUENCE_ID, sequence_id), (FRAME_ID, frame_id)):
        if value is not None:
            features[key] = value.encode()
    for key, frame in ((PREV_IMAGE, prev_image), (NEXT_IMAGE, next_image)):
        if frame is not None:
            features[key], _, frame_size = _rgb(frame, filename)
            if frame_size != size:
                raise ValueError(
                    f"{filename}: {key} is {_SIZE.format(*frame_size)} but the image is {_SIZE.format(*size)}"
                )
    for key, values in ((LABEL, label), (PREV_LABEL, prev_label), (NEXT_LABEL, next_label), (DEPTH, depth)):
        if values is not None:
            features[key] = _encode_map(values, size, label_format, f"{filename}: {key}")
            features[format_key(key)] = label_format.encode()
    return _serialize(features)


def format_key(key: str) -> str:
    """The key of the format of the map under `key`."""
    return key[: -len("encoded")] + "format"


def _rgb(encoded: bytes, filename: str) -> tuple[bytes, str, tuple[int, int]]:
    """The image as RGB in its own format, the format's name and (height, width)."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.format not in ("JPEG", "PNG"):
                raise ValueError(f"{filename}: expected a JPEG or PNG image, found {image.format}")
            size = (image.height, image.width)
            if image.mode == "RGB":
                return encoded, image.format.lower(), size
            out = io.BytesIO()
            image.convert("RGB").save(out, format=image.format, **({"quality": 95} if image.format == "JPEG" else {}))
            return out.getvalue(), image.format.lower(), size
    except OSError as error:
        raise ValueError(f"{filename}: not a readable image ({error})") from error


def _encode_map(values: np.ndarray, size: tuple[int, int], map_format: str, what: str) -> bytes:
    values = np.asarray(values)
    if values.shape != size:
        raise ValueError(f"{what} has shape {list(values.shape)} but the image is {_SIZE.format(*size)}")
    if values.dtype.kind not in "iu" or (values.size and (values.min() < -(2**31) or values.max() >= 2**31)):
        raise ValueError(f"{what}: expected integers of 32 bits, found {values.dtype} up to {values.max()}")
    raw = np.ascontiguousarray(values, dtype="<i4")
    if map_format == RAW:
        return raw.tobytes()
    if map_format == ZLIB:
        return zlib.compress(raw.tobytes(), level=6)
    out = io.BytesIO()
    Image.fromarray(raw.view(np.uint8).reshape(*size, 4), mode="RGBA").save(out, format="PNG")
    return out.getvalue()


def _serialize(features: dict[str, Union[bytes, int]]) -> bytes:
    """The wire format of tf.train.Example with one value per feature; keys sorted, so equal examples give equal bytes.

    Field numbers: Example.features 1; Features.feature 1, a map of entries (key 1, value 2); Feature.bytes_list 1 and
    int64_list 3; value 1 in both lists.
    """
    entries = []
    for key, value in sorted(features.items()):
        if isinstance(value, int):
            feature = _field(3, _field(1, _varint(value)))  # packed
        else:
            feature = _field(1, _field(1, value))
        entries.append(_field(1, _field(1, key.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
