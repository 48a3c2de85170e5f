"""Averages over scaled and mirrored passes, of networks whose answer is known."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import resize
from deeplab2_kmax.models import passes

IMAGES = tf.reshape(tf.range(25.0), [1, 5, 5, 1]) * tf.ones([3])


def test_passes_of_the_options():
    assert passes.make([]) == (passes.Pass(1.0, False),)
    assert passes.make([0.5, 2.0], add_mirrored=True) == ((0.5, False), (0.5, True), (2.0, False), (2.0, True))


@pytest.mark.parametrize("side, scale, expected", [(65, 0.5, 33), (65, 1.25, 81), (1025, 1.75, 1793), (64, 0.5, 32)])
def test_sides(side, scale, expected):
    assert resize.scaled_side(side, scale) == expected
    assert int(resize.scaled_side(tf.constant(side), scale)) == expected


def test_mirrored_answers_are_turned_back():
    # What only copies its image says the same in every pass.
    found = passes.average(lambda images, scale: {"copy": images}, IMAGES, passes.make([1.0], add_mirrored=True))
    np.testing.assert_array_equal(found["copy"], IMAGES)
    # A network that always says "left": the mean of both is undecided.
    left = tf.reshape([1.0, 1.0, 0.5, 0.0, 0.0], [1, 1, 5, 1]) * tf.ones([1, 5, 1, 1])
    found = passes.average(lambda images, scale: {"left": left}, IMAGES, passes.make([], add_mirrored=True))
    np.testing.assert_array_equal(found["left"], np.full([1, 5, 5, 1], 0.5))


def test_linear_pictures_survive_scaling():
    found = passes.average(lambda images, scale: {"copy": images}, IMAGES, passes.make([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(found["copy"], IMAGES, atol=1e-4)


def test_offsets_are_pixels_of_the_result():
    def network(images, scale):
        size = images.shape[1:3]
        assert size == {1.0: (5, 5), 0.5: (3, 3)}[scale]
        return {"center_offset": tf.ones([1, *size, 1]) * [2.0, 3.0]}  # (y, x) in its own pixels

    def average(scale, mirrored):
        return passes.average(network, IMAGES, [passes.Pass(scale, mirrored)])["center_offset"][0, 0, 0].numpy()

    assert average(1.0, False).tolist() == [2, 3]
    assert average(1.0, True).tolist() == [2, -3]
    assert average(0.5, False).tolist() == [4, 6]  # four steps where there were two
    assert average(0.5, True).tolist() == [4, -6]


def test_probabilities_are_averaged_not_logits():
    logits = iter([tf.fill([1, 1, 1, 1], 0.0), tf.fill([1, 1, 1, 1], 100.0)])
    found = passes.average(
        lambda images, scale: {"logits": next(logits)},
        IMAGES,
        passes.make([], add_mirrored=True),
        size=(1, 1),
        finish=lambda maps: {**maps, "probabilities": tf.sigmoid(maps["logits"])},
    )
    assert float(found["probabilities"][0, 0, 0, 0]) == pytest.approx(0.75)
    assert float(found["logits"][0, 0, 0, 0]) == 50


def test_unknown_sizes_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def average(images):
        return passes.average(
            lambda images, scale: {"offset": images[..., :2]}, images, passes.make([0.5, 1.0], add_mirrored=True)
        )["offset"]

    eager = passes.average(
        lambda images, scale: {"offset": images[..., :2]}, IMAGES, passes.make([0.5, 1.0], add_mirrored=True)
    )["offset"]
    np.testing.assert_allclose(average(IMAGES), eager, atol=1e-5)
