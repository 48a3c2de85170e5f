"""The TFRecord schema: encode one example, parse one example.

Keys and the raw label format are DeepLab2's, so its records are read here and ours there. Labels and depth may also be
stored compressed (read here only): a raw Cityscapes label takes 8.4 MB, a compressed one some tens of kB. A label may
also be a PNG of classes alone; its things then have no instances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import tensorflow as tf

from deeplab2_kmax.data import example

# The schema, as everyone but the converters takes it.
IMAGE = example.IMAGE
FILENAME = example.FILENAME
IMAGE_FORMAT = example.IMAGE_FORMAT
HEIGHT = example.HEIGHT
WIDTH = example.WIDTH
CHANNELS = example.CHANNELS
LABEL = example.LABEL
LABEL_FORMAT = example.LABEL_FORMAT
SEQUENCE_ID = example.SEQUENCE_ID
FRAME_ID = example.FRAME_ID
PREV_IMAGE = example.PREV_IMAGE
PREV_LABEL = example.PREV_LABEL
NEXT_IMAGE = example.NEXT_IMAGE
NEXT_LABEL = example.NEXT_LABEL
DEPTH = example.DEPTH
DEPTH_FORMAT = example.DEPTH_FORMAT
NORMALS = example.NORMALS
NORMALS_FORMAT = example.NORMALS_FORMAT
RAW = example.RAW
ZLIB = example.ZLIB
PNG32 = example.PNG32
PNG = example.PNG
MAP_FORMATS = example.MAP_FORMATS
encode_example = example.encode_example

Tensors = TypeVar("Tensors")  # a tensor or a structure of tensors


# Features that each camera of a record with several has for itself, under the key `<key>/<camera>`.
_PER_CAMERA = (IMAGE, NEXT_IMAGE, HEIGHT, WIDTH, LABEL, NEXT_LABEL, DEPTH, example.NUM_CAMERAS)


def parse_example(
    serialized: tf.Tensor | bytes,
    *,
    source: tf.Tensor | str = "a record",
    label: bool = True,
    video: bool = False,
    prev_frame: bool = False,
    next_frame: bool = False,
    depth: bool = False,
    normals: bool = False,
    num_cameras: bool = False,
    label_divisor: tf.Tensor | int = 1,
    cameras: Sequence[str] = (),
    camera: tf.Tensor | int = 0,
) -> dict[str, tf.Tensor]:
    """Parses and decodes one example, eagerly or in a graph. Reads what is asked for, and that must be there.

    Args:
        serialized: scalar string.
        source: where it comes from, for error messages.
        label, video, prev_frame, next_frame, depth, normals: what to read besides the image. Labels of other frames
            are read when both the frame and `label` are asked for.
        num_cameras: how many cameras see each pixel, which records may lack.
        label_divisor: what a label stored as a PNG of classes is multiplied with.
        cameras, camera: names of the cameras of a record with several, and the index of the one to read.

    Returns:
        image [H, W, 3] uint8, image_name, height, width (int32 scalars) and, as asked for: label [H, W, 1] int32,
        sequence_id, frame_id, prev_image, prev_label, next_image, next_label, depth [H, W, 1] int32 (metres * 256),
        normals [H, W, 3] float32 (0, 0, 0 where there is none), num_cameras [H, W, 1] int32 (1 where it is not known).

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
    if normals:
        maps["normals"] = NORMALS

    required = [*images.values(), *maps.values(), *strings.values()]
    stored = [*maps.values(), *([example.NUM_CAMERAS] if num_cameras else [])]
    # Defaults, so that a missing feature is reported below with its source.
    features = {
        **{key: tf.io.FixedLenFeature([], tf.string, default_value="") for key in {*required, *stored}},
        **{example.format_key(key): tf.io.FixedLenFeature([], tf.string, default_value=RAW) for key in stored},
        HEIGHT: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
        WIDTH: tf.io.FixedLenFeature([], tf.int64, default_value=-1),
    }
    parsed = _parse(serialized, features, cameras, camera)
    source = tf.convert_to_tensor(source)
    if cameras:
        source = tf.strings.join([source, ", camera ", tf.constant(list(cameras))[camera]])
    name = parsed[FILENAME]
    checks = [
        tf.debugging.Assert(tf.strings.length(parsed[key]) > 0, [source, name, _missing(key)]) for key in required
    ]
    height, width = tf.cast(parsed[HEIGHT], tf.int32), tf.cast(parsed[WIDTH], tf.int32)
    checks.append(tf.debugging.Assert(tf.minimum(height, width) > 0, [source, name, f"{HEIGHT} or {WIDTH} is missing"]))

    def decode_map(feature: str) -> tf.Tensor:
        scale = tf.convert_to_tensor(label_divisor, tf.int32)
        map_format = parsed[example.format_key(feature)]
        return _decode_map(parsed[feature], map_format, height, width, source, name, feature, scale)

    with tf.control_dependencies([check for check in checks if check is not None]):
        sample = {key: tf.identity(parsed[feature]) for key, feature in strings.items()}
        for key, feature in images.items():
            sample[key] = _decode_image(parsed[feature], height, width, source, name, feature)
        for key, feature in maps.items():
            sample[key] = decode_map(feature)
        if num_cameras:
            sample["num_cameras"] = tf.cond(
                tf.strings.length(parsed[example.NUM_CAMERAS]) > 0,
                lambda: decode_map(example.NUM_CAMERAS),
                lambda: tf.ones([height, width, 1], tf.int32),
            )
    if normals:
        sample["normals"] = _unpack_normals(sample["normals"])
    return {**sample, "height": height, "width": width}


def _parse(
    serialized: tf.Tensor | bytes,
    features: dict[str, tf.io.FixedLenFeature],
    cameras: Sequence[str],
    camera: tf.Tensor | int,
) -> dict[str, tf.Tensor]:
    """The features by their plain keys, those of the camera where there are several."""
    split = [key for key in features if key in _PER_CAMERA] if cameras else []
    schema = {key: feature for key, feature in features.items() if key not in split}
    schema.update({f"{key}/{name}": features[key] for key in split for name in cameras})
    parsed = attempt(
        lambda data: tf.io.parse_single_example(data, schema),
        serialized,
        otherwise={key: tf.constant(feature.default_value, feature.dtype) for key, feature in schema.items()},
    )
    for key in split:
        parsed[key] = tf.stack([parsed[f"{key}/{name}"] for name in cameras])[camera]
    return parsed


def _unpack_normals(packed: tf.Tensor) -> tf.Tensor:
    """The inverse of `example.pack_normals`: [H, W, 1] int32 -> [H, W, 3] float32."""
    steps = tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed, tf.constant([0, 10, 20])), 1023)
    normals = tf.cast(steps - 1, tf.float32) / example.NORMALS_SCALE - 1.0
    return tf.where(packed == 0, 0.0, normals)


def _missing(feature: str) -> str:
    text = f"feature {feature} is missing or empty"
    if feature in (PREV_IMAGE, PREV_LABEL, NEXT_IMAGE, NEXT_LABEL):
        text += "; the config asks for frames with a neighbour, which converters write as docs/data_video.md says"
    return text


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
    class_scale: tf.Tensor,
) -> tf.Tensor:
    """An int32 map [height, width, 1]."""

    def from_raw(data: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_raw(data, tf.int32)

    def from_zlib(data: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_raw(tf.io.decode_compressed(data, compression_type="ZLIB"), tf.int32)

    def from_png(data: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.bitcast(tf.io.decode_png(data, channels=4), tf.int32), [-1])

    def from_classes(data: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(tf.io.decode_png(data, channels=1), tf.int32), [-1]) * class_scale

    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.case(
            [
                (map_format == ZLIB, lambda: from_zlib(data)),
                (map_format == PNG32, lambda: from_png(data)),
                (map_format == PNG, lambda: from_classes(data)),
            ],
            default=lambda: from_raw(data),
        )

    formats = [*MAP_FORMATS, PNG] if feature in (LABEL, PREV_LABEL, NEXT_LABEL) else list(MAP_FORMATS)
    known = tf.debugging.Assert(
        tf.reduce_any(map_format == formats),
        [source, name, f"{feature} has format", map_format, f"but only {', '.join(formats)} are read"],
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
