"""The image pooling of ASPP: the whole map, or DeepLab2's window."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax.layers import activations, aspp, norm

NORM = norm.batch_norm()


def make(pool_size):
    tf.random.set_seed(0)
    return aspp.ASPP(4, atrous_rates=(1, 2, 3), pool_size=pool_size, norm=NORM, activation=activations.get("relu"))


def test_a_window_of_the_maps_size_is_the_whole_map():
    x = tf.random.stateless_normal([2, 5, 7, 3], seed=[1, 2])
    whole, window, larger = make(None), make((5, 7)), make((9, 9))
    expected = whole(x)
    for layer in (window, larger):
        layer(x)
        layer.set_weights(whole.get_weights())
        np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    # On a larger map the window sees a part at a time, and an unknown size changes nothing.
    x = tf.random.stateless_normal([1, 9, 9, 3], seed=[1, 2])
    assert np.abs(window(x) - whole(x)).max() > 1e-3
    graph = tf.function(window, autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
    np.testing.assert_allclose(graph(x), window(x), atol=1e-5)
