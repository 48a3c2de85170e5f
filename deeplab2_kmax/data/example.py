"""The features of one TFRecord example and their encoding, without TensorFlow: converters start fast and stay small.

Keys and the raw label format are DeepLab2's; `records` reads what is written here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Union

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
NUM_CAMERAS = "image/num_cameras/encoded"
NORMALS = "image/normals/encoded"
NORMALS_FORMAT = "image/normals/format"
SOURCE = "image/source"

# How an int32 map is stored: little-endian int32 row by row; the same through zlib; an RGBA PNG whose red is the lowest
# byte. DeepLab2 reads `raw` alone.
RAW, ZLIB, PNG32 = "raw", "zlib", "png32"
MAP_FORMATS = (RAW, ZLIB, PNG32)
PNG = "png"  # a label alone: one channel, the class of every pixel and no instances

NORMALS_SCALE = 511  # steps between the components 0 and 1 of a stored normal, about 0.1 degrees

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
    num_cameras: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    class_png: bytes | None = None,
    source: str | None = None,
) -> bytes:
    """Serialises one example.

    Args:
        image: an encoded JPEG or PNG. Other colour modes than RGB are encoded anew as RGB in the same format. EXIF
            orientation is not applied: sizes are those of the stored pixels, which is what readers decode.
        label: [H, W] panoptic ids (class * label_divisor + instance).
        filename: the image's name, as the data set's evaluation knows it.
        label_format: how labels, depth and normals are stored, one of MAP_FORMATS; DeepLab2 reads `raw` alone.
        sequence_id, frame_id: of a video frame.
        prev_image, prev_label, next_image, next_label: neighbouring frames, of the same size.
        depth: [H, W] metres * 256, 0 = no depth.
        num_cameras: [H, W] of a panorama, how many cameras see the pixel.
        normals: [H, W, 3] unit vectors of surfaces, (0, 0, 0) = no normal; see `pack_normals`.
        class_png: instead of `label`, a PNG of one channel with the class of every pixel, stored as it is.
        source: where the label comes from, where no human made it.

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
    for key, value in ((SEQUENCE_ID, sequence_id), (FRAME_ID, frame_id), (SOURCE, source)):
        if value is not None:
            features[key] = value.encode()
    for key, frame in ((PREV_IMAGE, prev_image), (NEXT_IMAGE, next_image)):
        if frame is not None:
            features[key], _, frame_size = _rgb(frame, filename)
            if frame_size != size:
                raise ValueError(
                    f"{filename}: {key} is {_SIZE.format(*frame_size)} but the image is {_SIZE.format(*size)}"
                )
    maps = {LABEL: label, PREV_LABEL: prev_label, NEXT_LABEL: next_label, DEPTH: depth, NUM_CAMERAS: num_cameras}
    for key, values in maps.items():
        if values is not None:
            features[key] = _encode_map(values, size, label_format, f"{filename}: {key}")
            features[format_key(key)] = label_format.encode()
    if normals is not None:
        packed = pack_normals(normals, f"{filename}: {NORMALS}")
        features[NORMALS] = _encode_map(packed, size, label_format, f"{filename}: {NORMALS}")
        features[NORMALS_FORMAT] = label_format.encode()
    if class_png is not None:
        assert label is None, "a label is stored once"
        _check_classes(class_png, size, f"{filename}: {LABEL}")
        features[LABEL], features[LABEL_FORMAT] = class_png, PNG.encode()
    return _serialize(features)


class Camera(NamedTuple):
    """What one camera of several saw at a moment; fields as of `encode_example`."""

    image: bytes
    label: np.ndarray | None = None
    next_image: bytes | None = None
    next_label: np.ndarray | None = None
    depth: np.ndarray | None = None
    num_cameras: np.ndarray | None = None


def encode_cameras(
    cameras: Mapping[str, Camera], *, filename: str, sequence_id: str, frame_id: str, label_format: str = RAW
) -> bytes:
    """Serialises one moment of several cameras, whose images may differ in size.

    Image, label and depth, those of the next frame, and the size stand under `camera_key`; name, ids, the image's
    format (that of the first camera) and `label_format` are common.

    Raises:
        ValueError: as `encode_example`.
    """
    if label_format not in MAP_FORMATS:
        raise ValueError(f"{filename}: unknown label format {label_format!r}, expected one of {', '.join(MAP_FORMATS)}")
    features: dict[str, Union[bytes, int]] = {
        FILENAME: filename.encode(),
        SEQUENCE_ID: sequence_id.encode(),
        FRAME_ID: frame_id.encode(),
        CHANNELS: 3,
    }
    for name, camera in cameras.items():
        where = f"{filename}, camera {name}"
        image, image_format, size = _rgb(camera.image, where)
        features.setdefault(IMAGE_FORMAT, image_format.encode())
        features[camera_key(IMAGE, name)] = image
        features[camera_key(HEIGHT, name)], features[camera_key(WIDTH, name)] = size
        if camera.next_image is not None:
            features[camera_key(NEXT_IMAGE, name)], _, next_size = _rgb(camera.next_image, where)
            if next_size != size:
                found = f"{_SIZE.format(*next_size)} but the image is {_SIZE.format(*size)}"
                raise ValueError(f"{where}: {NEXT_IMAGE} is {found}")
        maps = {
            LABEL: camera.label,
            NEXT_LABEL: camera.next_label,
            DEPTH: camera.depth,
            NUM_CAMERAS: camera.num_cameras,
        }
        for key, values in maps.items():
            if values is not None:
                features[camera_key(key, name)] = _encode_map(values, size, label_format, f"{where}: {key}")
                features[format_key(key)] = label_format.encode()
    return _serialize(features)


def camera_key(key: str, camera: str) -> str:
    """The key of a feature that each of several cameras has."""
    return f"{key}/{camera}"


def format_key(key: str) -> str:
    """The key of the format of the map under `key`."""
    return key[: -len("encoded")] + "format"


def pack_normals(normals: np.ndarray, what: str = "normals") -> np.ndarray:
    """Unit vectors [H, W, 3] -> one number per pixel [H, W] int32, 0 where there is no normal (0, 0, 0).

    Ten bits a component, x lowest: round((component + 1) * 511) + 1, so that 512 is exactly 0.

    Raises:
        ValueError: another shape, or vectors whose length is neither 0 nor 1 (within 2 %).
    """
    normals = np.asarray(normals, np.float32)
    if normals.ndim != 3 or normals.shape[2] != 3:
        raise ValueError(f"{what}: expected shape [H, W, 3], found {list(normals.shape)}")
    lengths = np.linalg.norm(normals, axis=-1)
    if not np.all((lengths == 0) | (np.abs(lengths - 1) < 0.02)):
        raise ValueError(
            f"{what}: expected vectors of length 1, or 0 for none, found {lengths.min()} to {lengths.max()}"
        )
    steps = np.rint((np.clip(normals, -1, 1) + 1) * NORMALS_SCALE).astype(np.int32) + 1
    return np.where(lengths > 0, steps[..., 0] | steps[..., 1] << 10 | steps[..., 2] << 20, 0).astype(np.int32)


def unpack_normals(packed: np.ndarray) -> np.ndarray:
    """The inverse of `pack_normals`: [H, W] -> [H, W, 3] float32."""
    steps = np.stack([packed >> shift & 1023 for shift in (0, 10, 20)], axis=-1)
    normals = (steps.astype(np.float32) - 1) / NORMALS_SCALE - 1
    return np.where((packed == 0)[..., None], np.float32(0), normals)


def decode_map(encoded: bytes, map_format: str, size: tuple[int, int], *, class_scale: int = 1) -> np.ndarray:
    """The inverse of what `encode_example` does with maps: [H, W] int32.

    Args:
        map_format: one of MAP_FORMATS or PNG.
        size: height, width.
        class_scale: what a PNG of classes is multiplied with.

    Raises:
        ValueError: another format, or values that are no map of this size.
    """
    try:
        if map_format in (PNG32, PNG):
            with Image.open(io.BytesIO(encoded)) as image:
                pixels = np.array(image.convert("RGBA") if map_format == PNG32 else image)
            values = pixels.view("<i4")[..., 0] if map_format == PNG32 else pixels.astype(np.int32) * class_scale
        elif map_format in (RAW, ZLIB):
            values = np.frombuffer(encoded if map_format == RAW else zlib.decompress(encoded), "<i4")
            values = values.reshape(size)
        else:
            raise ValueError(f"unknown format {map_format!r}, expected one of {', '.join((*MAP_FORMATS, PNG))}")
    except (OSError, SyntaxError, zlib.error) as error:
        raise ValueError(f"not a readable map ({error})") from error
    if values.shape != size:
        raise ValueError(f"{_SIZE.format(*values.shape)} values, expected {_SIZE.format(*size)}")
    return values


def parse(serialized: bytes) -> dict[str, Union[bytes, int]]:
    """The features of a tf.train.Example that have one value, bytes or an integer; without TensorFlow.

    Raises:
        ValueError: it is no such message.
    """
    features: dict[str, Union[bytes, int]] = {}
    for number, message in _fields(serialized):
        for _, entry in _fields(_message(message)) if number == 1 else ():
            pair = dict(_fields(_message(entry)))
            for kind, values in _fields(_message(pair.get(2, b""))):
                content = [value for number, value in _fields(_message(values)) if number == 1]
                if len(content) == 1 and kind in (1, 3):
                    value = content[0]
                    if kind == 3 and isinstance(value, bytes):  # packed
                        value, _ = _read_varint(value, 0)
                    features[_message(pair.get(1, b"")).decode()] = value
    return features


def _message(value: Union[bytes, int]) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("not a tf.train.Example")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Union[bytes, int]]]:
    """(number, value) of the fields of a message."""
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        if key & 7 == 0:
            value, position = _read_varint(data, position)
            yield key >> 3, value
            continue
        if key & 7 not in (1, 2, 5):
            raise ValueError("not a tf.train.Example")
        length = {1: 8, 5: 4}.get(key & 7)
        if length is None:
            length, position = _read_varint(data, position)
        if position + length > len(data):
            raise ValueError("a tf.train.Example that ends too soon")
        yield key >> 3, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """(number, position after it)."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a tf.train.Example that ends too soon")
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


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


def _check_classes(encoded: bytes, size: tuple[int, int], what: str) -> None:
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.format != "PNG" or image.mode not in ("L", "P") or (image.height, image.width) != size:
                found = f"{image.format} of mode {image.mode}, {_SIZE.format(image.height, image.width)}"
                raise ValueError(f"{what}: expected a PNG of one channel, {_SIZE.format(*size)}, found {found}")
    except OSError as error:
        raise ValueError(f"{what} is not a readable PNG ({error})") from error


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
