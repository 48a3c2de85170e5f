"""Random scale, crop and flip."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import augment
from deeplab2_kmax.data.preprocess import Sides
from tests import shared


def seeds(count):
    return [tf.constant([7, number]) for number in range(count)]


@pytest.mark.parametrize("name", ["cityscapes", "coco_kmax", "coco", "paste", "quarter", "coco_kmax_paste"])
def test_scales_equal_the_reference(name):
    _, arrays = shared.case("resize_and_pad")
    low, high, step = (float(value) for value in arrays[f"scales/{name}/in"])
    np.testing.assert_array_equal(augment.scales(low, high, step), arrays[f"scales/{name}/out"])


def test_every_scale_is_drawn_and_no_other():
    table = augment.scales(0.5, 1.5, 0.25)
    drawn = {float(augment.draw_scale(seed, 0.5, 1.5, 0.25)) for seed in seeds(100)}
    assert drawn == {0.5, 0.75, 1.0, 1.25, 1.5} == set(table.tolist())
    uniform = [float(augment.draw_scale(seed, 0.5, 1.5, 0.0)) for seed in seeds(100)]
    assert 0.5 <= min(uniform) < 0.55 and 1.45 < max(uniform) < 1.5
    assert augment.scales(2.0, 2.0, 0.25).tolist() == [2.0]


@pytest.mark.parametrize("low, high, step", [(0.0, 1.0, 0.1), (2.0, 1.0, 0.1), (0.5, 1.0, -1.0)])
def test_bad_scales_are_errors(low, high, step):
    with pytest.raises(ValueError, match="expected"):
        augment.scales(low, high, step)


def test_the_crop_is_a_window_of_the_image_and_reaches_every_place():
    image = tf.reshape(tf.range(5 * 4 * 3, dtype=tf.float32), [5, 4, 3])
    label = tf.reshape(tf.range(5 * 4), [5, 4, 1])
    corners = set()
    for seed in seeds(100):
        crop, crop_label = augment.pad_and_crop(image, label, Sides(3, 3), seed=seed, label_fill=-1)
        y, x = divmod(int(crop_label[0, 0, 0]), 4)
        corners.add((y, x))
        np.testing.assert_array_equal(crop, image[y : y + 3, x : x + 3])
        np.testing.assert_array_equal(crop_label, label[y : y + 3, x : x + 3])
    assert corners == {(y, x) for y in range(3) for x in range(2)}


def test_padding_leaves_at_least_one_row_after_the_image():
    image, label = tf.ones([2, 2, 3]), tf.ones([2, 2, 1], tf.int32)
    rows = set()
    for seed in seeds(60):
        padded, padded_label = augment.pad_and_crop(image, label, Sides(5, 2), seed=seed, label_fill=9)
        row = int(tf.argmax(padded[:, 0, 0] == 1.0))
        rows.add(row)
        expected = np.full(5, 127.5)
        expected[row : row + 2] = 1
        np.testing.assert_array_equal(padded[:, 0, 0], expected)
        np.testing.assert_array_equal(padded_label[:, 0, 0], np.where(expected == 1, 1, 9))
    assert rows == {0, 1, 2}


def test_half_of_the_images_are_flipped_together_with_their_labels():
    image = tf.reshape(tf.range(6, dtype=tf.float32), [1, 2, 3])
    label = tf.constant([[[0], [1]]])
    flipped = 0
    for seed in seeds(200):
        new_image, new_label = augment.flip(image, label, seed=seed)
        order = new_label[0, :, 0].numpy().tolist()
        assert new_image[0, :, 0].numpy().tolist() == [3.0 * position for position in order]
        flipped += order == [1, 0]
    assert 75 < flipped < 125
