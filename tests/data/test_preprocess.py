"""Sizes, resizing, padding and their undoing, against the parity case and by hand."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import augment, preprocess
from deeplab2_kmax.data.preprocess import Sides
from tests import shared


def test_size_options_accept_one_value_two_values_or_nothing():
    assert preprocess.parse_sides([], "min_resize_value") is None
    assert preprocess.parse_sides([0], "min_resize_value") is None
    assert preprocess.parse_sides([65, -1], "min_resize_value") is None
    assert preprocess.parse_sides([65], "min_resize_value") == (65, 65)
    assert preprocess.parse_sides([65, 97], "min_resize_value") == (65, 97)
    with pytest.raises(ValueError, match="min_resize_value: expected one or two values"):
        preprocess.parse_sides([1, 2, 3], "min_resize_value")


def test_sizes_equal_the_reference_in_every_row():
    _, arrays = shared.case("resize_and_pad")
    for row, expected in zip(arrays["size_rule/in"].tolist(), arrays["size_rule/out"].tolist()):
        height, width, min_h, min_w, max_h, max_w, factor = row
        size = preprocess.resized_size(
            height,
            width,
            min_size=preprocess.parse_sides([min_h, min_w], "min"),
            max_size=preprocess.parse_sides([max_h, max_w], "max"),
            factor=factor,
        )
        assert size.numpy().tolist() == expected, row


def test_a_side_can_come_out_one_pixel_short():
    assert preprocess.resized_size(639, 639, min_size=Sides(641, 641)).numpy().tolist() == [640, 640]


@pytest.mark.parametrize("number", range(4))
def test_resize_and_pad_equal_the_reference(number):
    manifest, arrays = shared.case("resize_and_pad")
    meaning = manifest["outputs"][f"eval{number}/image"]["meaning"]
    settings = json.loads(re.search(r"settings (\{.*\})", meaning).group(1))
    crop = Sides(settings["crop_height"], settings["crop_width"])
    image = tf.constant(arrays["image"], tf.float32)
    size = preprocess.resized_size(
        *image.shape[:2],
        min_size=preprocess.parse_sides(settings["min_resize_value"], "min"),
        max_size=preprocess.parse_sides(settings["max_resize_value"], "max") or crop,
        factor=settings["resize_factor"],
    )
    resized = preprocess.resize_image(image, size)
    np.testing.assert_allclose(resized, arrays[f"eval{number}/resized_image"], atol=1e-3)
    padded = preprocess.pad(resized, crop, preprocess.FILL)
    np.testing.assert_allclose(padded, arrays[f"eval{number}/image"], atol=1e-3)
    label = preprocess.pad(preprocess.resize_label(tf.constant(arrays["label"]), size), crop, 255000)
    np.testing.assert_array_equal(label, arrays[f"eval{number}/label"])


@pytest.mark.parametrize("factor", ["0.5", "0.7857143", "1.3", "2.0"])
def test_scaling_equals_the_reference(factor):
    _, arrays = shared.case("resize_and_pad")
    image, label = tf.constant(arrays["image"], tf.float32), tf.constant(arrays["label"])
    size = tf.constant(image.shape[:2])
    crop = Sides(*(int(np.float32(side) * np.float32(factor)) for side in image.shape[:2]))
    place = augment.draw_place([tf.constant([0, 0])] * 3, size, crop, (float(factor), float(factor), 0.0))
    place = place._replace(mirrored=tf.constant(False))
    np.testing.assert_array_equal(place.scaled, crop)
    window, _ = augment.scale_window(image, place)
    image = augment.finish(window, place, crop, preprocess.FILL)
    np.testing.assert_allclose(image[::2, ::2], arrays[f"scale_{factor}/image"], atol=1e-3)
    label = augment.take_nearest(label, place, crop, 0)
    np.testing.assert_array_equal(label, arrays[f"scale_{factor}/label"])


def test_padding_at_an_offset_equals_the_reference():
    _, arrays = shared.case("resize_and_pad")
    image = preprocess.pad(tf.constant(arrays["image"], tf.uint8), Sides(86, 109), preprocess.FILL, offset=(3, 5))
    np.testing.assert_array_equal(image, arrays["pad/image"])
    label = preprocess.pad(tf.constant(arrays["label"]), Sides(86, 109), 255000, offset=(3, 5))
    np.testing.assert_array_equal(label, arrays["pad/label"])


def test_undo_equals_the_reference():
    _, arrays = shared.case("resize_and_pad")
    kept, size = arrays["undo/size_in"]
    panoptic = preprocess.undo(tf.constant(arrays["undo/panoptic_in"]), kept, size)
    np.testing.assert_array_equal(panoptic, arrays["undo/panoptic_out"])
    probabilities = preprocess.undo(tf.constant(arrays["undo/probs_in"]), kept, size)
    np.testing.assert_allclose(probabilities, arrays["undo/probs_out"], atol=1e-6)


def test_labels_between_two_pixels_round_away_from_zero():
    # Four pixels to three: sources 0, 1.5, 3, and 1.5 rounds to 2.
    label = tf.constant([10, 11, 12, 13])[tf.newaxis, :, tf.newaxis]
    assert preprocess.resize_label(label, tf.constant([1, 3]))[0, :, 0].numpy().tolist() == [10, 12, 13]
