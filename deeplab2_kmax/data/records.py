"""The TFRecord schema: encode one example, parse one example.

Keys and the raw label format are DeepLab2's, so its records are read here and ours there. Labels and depth may also be
stored compressed (read here only): a raw Cityscapes label takes 8.4 MB, a compressed one some tens of kB.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import TypeVar, Union

import numpy as np
import tensorflow as tf
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

Tensors = TypeVar("Tensors")  # a tensor or a structure of tensors


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
            features[_format_key(key)] = label_format.encode()
    example = tf.train.Example()
    for key, feature in features.items():
        if isinstance(feature, int):
            example.features.feature[key].int64_list.value.append(feature)
        else:
            example.features.feature[key].bytes_list.value.append(feature)
    return example.SerializeToString(deterministic=True)


def parse_example(
    serialized: tf.Tensor | bytes,
    *,
    source: tf.Tensor | str = "a record",
    label: bool = True,
    video: bool = False,
    prev_frame: bool = False,
    next_frame: bool = False,
    depth: bool = False,
) -> dict[str, tf.Tensor]:
    """Parses and decodes one example, eagerly or in a graph. Reads what is asked for, and that must be there.

    Args:
        serialized: scalar string.
        source: where it comes from, for error messages.
        label, video, prev_frame, next_frame, depth: what to read besides the image. Labels of other frames are read
            when both the frame and `label` are asked for.

    Returns:
        image [H, W, 3] uint8, image_name, height, width (int32 scalars) and, as asked for: label [H, W, 1] int32,
        sequence_id, frame_id, prev_image, prev_label, next_image, next_label, depth [H, W, 1] int32 (metres * 256).

    Raises:
        InvalidArgumentError: a missing feature, a broken image, or a size that differs from what the example says.
    """
    images = {"image": IMAGE}
    maps = {"label": LABEL} if label else {}
    strings = {"image_name": FILENAME}
    if video:
        strings.update(sequence_id=SEQUENCE_ID, frame_id=FRAME_ID)
    if prev_frame:
        images["prev_image"] = PREV_IMAGE
        if label:
            maps["prev_label"] = PREV_LABEL
    if next_frame:
        images["next_image"] = NEXT_IMAGE
        if label:
            maps["next_label"] = NEXT_LABEL
    if depth:
        maps["depth"] = DEPTH

    required = [*images.values(), *maps.values(), *strings.values()]
    schema: dict[str, tf.io.FixedLenFeature] = {
        # Defaults, so that a missing feature is reported below with its source.
        **{key: tf.io.FixedLenFeature([], tf.string, default_value="") for key in required},
        **{_format_key(key): tf.io.FixedLenFeature([], tf.string, default_value=RAW) for key in maps.values()},
        HEIGHT: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        WIDTH: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
    }
    parsed = attempt(
        lambda data: tf.io.parse_single_example(data, schema),
        serialized,
        otherwise={key: tf.constant(feature.default_value, feature.dtype) for key, feature in schema.items()},
    )
    source = tf.convert_to_tensor(source)
    name = parsed[FILENAME]
    checks = [
        tf.debugging.Assert(tf.strings.length(parsed[key]) > 0, [source, name, f"feature {key} is missing or empty"])
        for key in required
    ]
    height, width = tf.cast(parsed[HEIGHT], tf.int32), tf.cast(parsed[WIDTH], tf.int32)
    checks.append(tf.debugging.Assert(tf.minimum(height, width) > 0, [source, name, f"{HEIGHT} or {WIDTH} is missing"]))
    with tf.control_dependencies([check for check in checks if check is not None]):
        sample = {key: tf.identity(parsed[feature]) for key, feature in strings.items()}
        for key, feature in images.items():
            sample[key] = _decode_image(parsed[feature], height, width, source, name, feature)
        for key, feature in maps.items():
            sample[key] = _decode_map(
                parsed[feature], parsed[_format_key(feature)], height, width, source, name, feature
            )
    return {**sample, "height": height, "width": width}


def _format_key(key: str) -> str:
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


def _decode_image(
    encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor, source: tf.Tensor, name: tf.Tensor, feature: str
) -> tf.Tensor:
    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.io.decode_image(data, channels=3, expand_animations=False), [None, None, 3])

    image = attempt(decode, encoded, otherwise=tf.zeros([0, 0, 3], tf.uint8))
    size = tf.shape(image)[:2]
    decoded = tf.debugging.Assert(tf.size(image) > 0, [source, name, f"{feature} is not a readable JPEG or PNG"])
    fits = tf.debugging.Assert(
        tf.reduce_all(size == tf.stack([height, width])) | (tf.size(image) == 0),
        [source, name, f"{feature} has size", size, f"but {HEIGHT} and {WIDTH} say", height, width],
    )
    with tf.control_dependencies([check for check in (decoded, fits) if check is not None]):
        return tf.identity(image)


def _decode_map(
    encoded: tf.Tensor,
    map_format: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    source: tf.Tensor,
    name: tf.Tensor,
    feature: str,
) -> tf.Tensor:
    """An int32 map [height, width, 1]."""

    def from_raw(data: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_raw(data, tf.int32)

    def from_zlib(data: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_raw(tf.io.decode_compressed(data, compression_type="ZLIB"), tf.int32)

    def from_png(data: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.bitcast(tf.io.decode_png(data, channels=4), tf.int32), [-1])

    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.case(
            [(map_format == ZLIB, lambda: from_zlib(data)), (map_format == PNG32, lambda: from_png(data))],
            default=lambda: from_raw(data),
        )

    known = tf.debugging.Assert(
        tf.reduce_any(map_format == list(MAP_FORMATS)),
        [source, name, f"{feature} has format", map_format, f"but only {', '.join(MAP_FORMATS)} are read"],
    )
    with tf.control_dependencies([known] if known is not None else []):
        values = attempt(decode, encoded, otherwise=tf.zeros([0], tf.int32))
    fits = tf.debugging.Assert(
        tf.size(values) == height * width,
        [
            source, name, f"{feature} holds", tf.size(values), "readable values of",
            tf.strings.length(encoded), "bytes, but the image has", height, "x", width, "pixels",
        ],
    )  # fmt: skip
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.reshape(values, [height, width, 1])


def attempt(function: Callable[[tf.Tensor], Tensors], argument: tf.Tensor, *, otherwise: Tensors) -> Tensors:
    """`function(argument)`, or `otherwise`, of the same structure, where that fails.

    The errors of TensorFlow's readers and decoders do not say which record they met. With this the caller can.
    """
    plain = tf.autograph.experimental.do_not_convert(function)
    tried = tf.data.Dataset.from_tensors(argument).map(plain).ignore_errors()
    return tried.concatenate(tf.data.Dataset.from_tensors(otherwise)).take(1).get_single_element()
