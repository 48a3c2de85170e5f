"""Random scale, crop and flip."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import augment, preprocess
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


def place_for(size, crop, *, seed=0, scales=(1.0, 1.0, 0.0), resized=None):
    seeds = tf.unstack(tf.random.experimental.stateless_split(tf.constant([7, seed]), 3))
    return augment.draw_place(seeds, tf.constant(resized or size), Sides(*crop), scales)


def crop_of(image, label, crop, place, label_fill=-1):
    """Image and label of a crop; the label as training takes it."""
    window, _ = augment.scale_window(tf.cast(image, tf.float32), place)
    image = augment.finish(window, place, Sides(*crop), 127.5)
    return image.numpy(), augment.take_nearest(label, place, Sides(*crop), label_fill).numpy()


def test_the_crop_is_a_window_of_the_image_and_reaches_every_place():
    image = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    label = np.arange(5 * 4).reshape(5, 4, 1)
    corners = set()
    for seed in range(200):
        place = place_for([5, 4], [3, 3], seed=seed)
        crop, crop_label = crop_of(image, label, [3, 3], place)
        if place.mirrored:
            crop, crop_label = crop[:, ::-1], crop_label[:, ::-1]
        y, x = divmod(int(crop_label[0, 0, 0]), 4)
        corners.add((y, x, bool(place.mirrored)))
        np.testing.assert_array_equal(crop, image[y : y + 3, x : x + 3])
        np.testing.assert_array_equal(crop_label, label[y : y + 3, x : x + 3])
    assert corners == {(y, x, flip) for y in range(3) for x in range(2) for flip in (False, True)}


def test_padding_leaves_at_least_one_row_after_the_image():
    rows = set()
    for seed in range(60):
        place = place_for([2, 2], [5, 2], seed=seed)
        padded, padded_label = crop_of(np.ones([2, 2, 3]), np.ones([2, 2, 1], np.int32), [5, 2], place, 9)
        row = int(np.argmax(padded[:, 0, 0] == 1.0))
        rows.add(row)
        expected = np.full(5, 127.5)
        expected[row : row + 2] = 1
        np.testing.assert_array_equal(padded[:, 0, 0], expected)
        np.testing.assert_array_equal(padded_label[:, 0, 0], np.where(expected == 1, 1, 9))
    assert rows == {0, 1, 2}


def test_half_of_the_images_are_flipped():
    flipped = sum(bool(place_for([3, 3], [3, 3], seed=seed).mirrored) for seed in range(200))
    assert 75 < flipped < 125


@pytest.mark.parametrize("resized", [None, [37, 51]])
@pytest.mark.parametrize("crop", [[16, 24], [65, 33], [64, 97]])
def test_a_crop_equals_the_one_cut_from_the_whole_resized_label(resized, crop):
    """Rows and columns are looked up one by one; resizing the whole label first gives the same."""
    label = np.random.default_rng(0).integers(0, 1000, [29, 43, 2]).astype(np.int32)
    for seed in range(30):
        place = place_for([29, 43], crop, seed=seed, scales=(0.3, 2.0, 0.0), resized=resized)
        whole = label if resized is None else preprocess.resize_label(label, resized)
        whole = preprocess.resize_label(whole, place.scaled).numpy()
        (y, x), (height, width) = place.begin.numpy(), place.size.numpy()
        expected = np.full([*crop, 2], -1)
        top, left = place.offset.numpy()
        expected[top : top + height, left : left + width] = whole[y : y + height, x : x + width]
        expected = expected[:, ::-1] if place.mirrored else expected
        np.testing.assert_array_equal(augment.take_nearest(label, place, Sides(*crop), -1), expected)


def test_large_scale_jitter():
    """Scales from 0.1 to 2 of an image that was resized to the crop: small images are padded, large ones cut."""
    image = np.random.default_rng(0).uniform(0, 255, [33, 33, 3]).astype(np.float32)
    shares, kinds = [], set()
    for seed in range(60):
        place = place_for([33, 33], [33, 33], seed=seed, scales=(0.1, 2.0, 0.0))
        crop, label = crop_of(image, np.zeros([33, 33, 1], np.int32), [33, 33], place)
        shares.append(place.factor.numpy())
        kinds.add(np.sign(place.factor.numpy() - 1))
        assert (label == 0).sum() == min(int(33 * place.factor), 33) ** 2
        assert np.all(crop[label[..., 0] == -1] == 127.5) and crop.shape == (33, 33, 3)
    assert kinds == {-1, 1} and min(shares) < 0.2 and max(shares) > 1.9


def test_the_margin_of_a_window_is_part_of_the_image():
    image = np.arange(6 * 7 * 3, dtype=np.float32).reshape(6, 7, 3)
    for seed in range(20):
        place = place_for([6, 7], [3, 3], seed=seed)
        window, begin = augment.scale_window(tf.constant(image), place, margin=2)
        y, x = begin.numpy()
        plain, _ = augment.scale_window(tf.constant(image), place)
        np.testing.assert_array_equal(window[y : y + 3, x : x + 3], plain)
        whole, begin = augment.scale_window(tf.constant(image), place, margin=7)
        np.testing.assert_array_equal(whole, image)
        np.testing.assert_array_equal(begin, place.begin)
