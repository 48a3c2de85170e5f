"""Encoding and parsing one example."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import records

LABEL = np.array([[11001, 0, 255000], [13002, 2000, 18 * 65536 + 7]], np.int32)
PIXELS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)


def encoded(pixels=PIXELS, image_format="PNG", mode="RGB"):
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, format=image_format)
    return out.getvalue()


def edited(serialized, **changes):
    example = tf.train.Example.FromString(serialized)
    for key, value in changes.items():
        feature = example.features.feature[key.replace("__", "/")]
        if value is None:
            del example.features.feature[key.replace("__", "/")]
        elif isinstance(value, int):
            feature.int64_list.value[:] = [value]
        else:
            feature.bytes_list.value[:] = [value]
    return example.SerializeToString()


@pytest.mark.parametrize("label_format", records.MAP_FORMATS)
def test_round_trip(label_format):
    serialized = records.encode_example(
        encoded(),
        LABEL,
        filename="street",
        label_format=label_format,
        sequence_id="0001",
        frame_id="000042",
        prev_image=encoded(PIXELS + 1),
        prev_label=LABEL + 1,
        next_image=encoded(PIXELS + 2),
        next_label=LABEL + 2,
        depth=LABEL + 3,
    )
    parse = tf.function(
        lambda data: records.parse_example(data, video=True, prev_frame=True, next_frame=True, depth=True)
    )
    for sample in (parse(serialized), parse.python_function(serialized)):
        for shift, image, label in (
            (0, "image", "label"),
            (1, "prev_image", "prev_label"),
            (2, "next_image", "next_label"),
        ):
            np.testing.assert_array_equal(sample[image], PIXELS + shift)
            np.testing.assert_array_equal(sample[label][..., 0], LABEL + shift)
        np.testing.assert_array_equal(sample["depth"][..., 0], LABEL + 3)
        assert (
            sample["image_name"] == b"street" and sample["sequence_id"] == b"0001" and sample["frame_id"] == b"000042"
        )
        assert (int(sample["height"]), int(sample["width"])) == (2, 3)


def test_the_default_is_what_deeplab2_reads():
    example = tf.train.Example.FromString(records.encode_example(encoded(), LABEL, filename="street"))
    features = example.features.feature
    assert sorted(features) == [
        "image/channels", "image/encoded", "image/filename", "image/format", "image/height",
        "image/segmentation/class/encoded", "image/segmentation/class/format", "image/width",
    ]  # fmt: skip
    assert features["image/segmentation/class/encoded"].bytes_list.value[0] == LABEL.astype("<i4").tobytes()
    assert features["image/segmentation/class/format"].bytes_list.value[0] == b"raw"
    assert features["image/format"].bytes_list.value[0] == b"png"
    assert [features[f"image/{key}"].int64_list.value[0] for key in ("height", "width", "channels")] == [2, 3, 3]


def test_compressed_labels_are_much_smaller():
    label = np.kron(np.arange(12).reshape(3, 4) * 1000 + 1, np.ones([100, 100], np.int32))
    image = encoded(np.zeros([300, 400, 3], np.uint8))
    sizes = {
        name: len(records.encode_example(image, label, filename="x", label_format=name)) for name in records.MAP_FORMATS
    }
    assert sizes["zlib"] < sizes["raw"] / 100 and sizes["png32"] < sizes["raw"] / 100


@pytest.mark.parametrize(
    "mode, image_format", [("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("L", "JPEG")]
)
def test_other_colour_modes_become_rgb_in_the_same_format(mode, image_format):
    serialized = records.encode_example(encoded(image_format=image_format, mode=mode), filename="x")
    stored = tf.train.Example.FromString(serialized).features.feature["image/encoded"].bytes_list.value[0]
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.mode, image.format) == ("RGB", image_format)
    assert records.parse_example(serialized, label=False)["image"].shape == (2, 3, 3)


def test_exif_orientation_is_not_applied():
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(PIXELS).save(out, format="JPEG", exif=exif)
    sample = records.parse_example(records.encode_example(out.getvalue(), LABEL, filename="x"))
    assert sample["image"].shape == (2, 3, 3)


def test_without_labels():
    sample = records.parse_example(records.encode_example(encoded(), filename="x"), label=False)
    assert "label" not in sample


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"label": LABEL[:, :2]}, r"street: .* has shape \[2, 2\] but the image is 2x3"),
        ({"label": LABEL / 2}, "expected integers of 32 bits"),
        ({"label": LABEL.astype(np.int64) * 10**6}, "expected integers of 32 bits"),
        ({"label": LABEL, "label_format": "gif"}, "unknown label format 'gif'"),
        ({"image": b"no image"}, "street: not a readable image"),
        ({"image": encoded(image_format="GIF", mode="L")}, "expected a JPEG or PNG image, found GIF"),
        ({"next_image": encoded(np.zeros([4, 4, 3], np.uint8))}, "next_image/encoded is 4x4 but the image is 2x3"),
    ],
)
def test_what_cannot_be_encoded_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        records.encode_example(**{"image": encoded(), "filename": "street", **arguments})


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image__encoded": None}, "feature image/encoded is missing or empty"),
        ({"image__segmentation__class__encoded": None}, "feature image/segmentation/class/encoded is missing"),
        ({"image__filename": None}, "feature image/filename is missing"),
        ({"image__height": None}, "image/height or image/width is missing"),
        ({"image__encoded": encoded()[:-20]}, "image/encoded is not a readable JPEG or PNG"),
        ({"image__encoded": b"no image"}, "image/encoded is not a readable JPEG or PNG"),
        ({"image__height": 3, "image__width": 2}, "image/encoded has size"),
        ({"image__segmentation__class__encoded": b"12345678"}, "image/segmentation/class/encoded holds"),
        ({"image__segmentation__class__encoded": b"12345"}, "image/segmentation/class/encoded holds"),
        ({"image__segmentation__class__format": b"zlib"}, "image/segmentation/class/encoded holds"),
        ({"image__segmentation__class__format": b"jpeg"}, "only raw, zlib, png32, png are read"),
    ],
)
def test_a_broken_example_is_an_error_with_its_source(graph, changes, message):
    serialized = edited(records.encode_example(encoded(), LABEL, filename="street"), **changes)
    parse = lambda data: records.parse_example(data, source="file-7, record 3")  # noqa: E731
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        (tf.function(parse) if graph else parse)(serialized)
    assert message in str(error.value) and "file-7, record 3" in str(error.value)


def test_something_that_is_no_example_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="file-7"):
        records.parse_example(b"\xff\xff garbage", source="file-7")


def test_a_missing_neighbour_or_depth_is_an_error():
    serialized = records.encode_example(encoded(), LABEL, filename="street")
    for option, key in (("next_frame", "next_image/encoded"), ("depth", "image/depth/encoded"), ("video", "video/")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=key):
            records.parse_example(serialized, **{option: True})
