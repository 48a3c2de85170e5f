import numpy as np
import tensorflow as tf

from deeplab2_kmax.losses import sampling


def test_same_seed_same_noise():
    first = sampling.uniform_noise(tf.constant([1, 2]), 2, 50)
    np.testing.assert_array_equal(first, sampling.uniform_noise(tf.constant([1, 2]), 2, 50))
    assert np.all(first.numpy() != sampling.uniform_noise(tf.constant([1, 3]), 2, 50).numpy())
    assert np.min(first) > 0
    assert np.max(first) < 1


def test_draws_by_weight_and_noise():
    noise = tf.constant([[0.5, 0.5, 0.9, 0.5]])
    inverse_areas = tf.constant([[2.0, 1.0, 1.5, 8.0]])
    labelled = tf.constant([[True, True, True, False]])
    # Scores log(w) + g(noise): 0.69 + 0.37, 0.37, 0.41 + 2.25, and the void pixel far below.
    for num_samples, expected in ((1, {2}), (2, {0, 2}), (3, {0, 1, 2}), (4, {0, 1, 2, 3})):
        drawn = sampling.draw_pixels(inverse_areas, labelled, noise, num_samples=num_samples, temperature=1.0)
        assert set(drawn.numpy()[0]) == expected
    # A higher temperature lets the weight win over the noise.
    drawn = sampling.draw_pixels(inverse_areas, labelled, noise, num_samples=1, temperature=10.0)
    assert drawn.numpy().tolist() == [[0]]


def test_more_samples_than_pixels():
    def draw(noise):
        return sampling.draw_pixels(tf.ones_like(noise), noise > 0.4, noise, num_samples=4096, temperature=1.5)

    noise = tf.constant([[0.1, 0.5, 0.9]])
    assert sorted(draw(noise).numpy()[0]) == [0, 1, 2]
    dynamic = tf.function(draw, input_signature=[tf.TensorSpec([None, None])])
    assert sorted(dynamic(noise).numpy()[0]) == [0, 1, 2]
