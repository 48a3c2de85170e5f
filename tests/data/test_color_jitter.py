"""Random colours by hand, and the blur of tensorflow-addons against the one used where it is missing."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import color_jitter
from deeplab2_kmax.data.color_jitter import ColorJitter

GREY = np.full([2, 2, 3], 100, np.float32)
RED = np.tile(np.float32([200, 100, 0]), [2, 2, 1])


def jittered(image, jitter, *factors):
    return jitter.apply(tf.constant(image), tf.constant(factors, tf.float32)).numpy()


def test_every_change_by_hand():
    np.testing.assert_allclose(jittered(GREY, ColorJitter(brightness=1), 1.5, 1, 1, 0, 0), 150 * np.ones([2, 2, 3]))
    np.testing.assert_allclose(jittered(RED, ColorJitter(brightness=1), 1.5, 1, 1, 0, 0)[0, 0], [255, 150, 0])
    two = np.stack([np.zeros([1, 3], np.float32), np.full([1, 3], 100, np.float32)])
    np.testing.assert_allclose(jittered(two, ColorJitter(contrast=1), 1, 0.5, 1, 0, 0)[:, 0, 0], [25, 75], atol=0.01)
    grey = 0.2989 * 200 + 0.587 * 100
    np.testing.assert_allclose(jittered(RED, ColorJitter(saturation=1), 1, 1, 0, 0, 0)[0, 0], [grey] * 3, atol=0.01)
    # A third of the circle: red to green.
    np.testing.assert_allclose(jittered(RED, ColorJitter(hue=0.5), 1, 1, 1, 1 / 3, 0)[0, 0], [0, 200, 100], atol=0.1)
    np.testing.assert_array_equal(jittered(RED, ColorJitter(), 1, 1, 1, 0, 0), RED)


def test_draws_lie_in_their_ranges_and_come_from_the_seed():
    jitter = ColorJitter(probability=0.8, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1, blur_sigma=1)
    draws = np.stack([jitter.draw(tf.constant([3, number])).numpy() for number in range(400)])
    np.testing.assert_array_equal(draws[7], jitter.draw(tf.constant([3, 7])))
    left = np.all(draws == [1, 1, 1, 0, 0], axis=1)
    assert left.mean() == pytest.approx(0.2, abs=0.06)
    low, high = draws.min(axis=0), draws.max(axis=0)
    np.testing.assert_allclose(low[:4], [0.6, 0, 0.8, -0.1], atol=0.02)
    np.testing.assert_allclose(high[:4], [1.4, 2.5, 1.2, 0.1], atol=0.02)
    assert draws[~left, 4].mean() == pytest.approx(0.5, abs=0.1)


def test_a_blurred_point_is_a_gaussian():
    image = np.zeros([15, 15, 3], np.float32)
    image[7, 7] = 100
    made = color_jitter.plain_blur(tf.constant(image), 1.0).numpy()
    assert made.sum() == pytest.approx(300, rel=1e-5)
    assert made[7, 8, 0] / made[7, 7, 0] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert made[9, 8, 1] / made[7, 7, 1] == pytest.approx(np.exp(-2.5), rel=1e-5)
    assert made[7, 11, 0] == 0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_addons_and_the_replacement_blur_alike(sigma):
    if color_jitter._addons() is None:
        pytest.skip("needs tensorflow-addons, which this TensorFlow may not support")
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, [23, 31, 3]), tf.float32)
    np.testing.assert_allclose(color_jitter.blur(image, sigma), color_jitter.plain_blur(image, sigma), atol=1e-3)
    in_graph = tf.function(lambda image: color_jitter.blur(image, sigma))(image)
    np.testing.assert_allclose(in_graph, color_jitter.plain_blur(image, sigma), atol=1e-3)


def test_the_replacement_runs_where_addons_are_missing(monkeypatch):
    monkeypatch.setattr(color_jitter, "_addons", lambda: None)
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, [9, 9, 3]), tf.float32)
    np.testing.assert_array_equal(color_jitter.blur(image, 1.0), color_jitter.plain_blur(image, 1.0))
