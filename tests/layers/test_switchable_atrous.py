import numpy as np
import tensorflow as tf

from deeplab2_kmax.layers import conv, norm, switchable_atrous

NORM = norm.batch_norm()
# A single one at row 5, column 6 of a map of 11 x 13.
POINT = tf.scatter_nd([[0, 5, 6, 0]], [1.0], [1, 11, 13, 1])


def switchable(stride=1):
    layer = switchable_atrous.SwitchableConv(1, 3, stride=stride, kernel_initializer="ones")
    layer(POINT)
    return layer


def places(y):
    """Where the convolution of the point is, from the point on."""
    return {tuple(place - (5, 6)) for place in np.argwhere(y[0, ..., 0].numpy())}


def square(dilation):
    return {(dilation * row, dilation * column) for row in (-1, 0, 1) for column in (-1, 0, 1)}


def test_starts_as_a_plain_convolution():
    plain = conv.Conv(1, 3, kernel_initializer="ones")
    np.testing.assert_array_equal(switchable()(POINT), plain(POINT))


def test_the_switch_blends_two_dilations_without_bounds():
    layer = switchable()
    layer.switch.bias.assign([1.0])
    assert places(layer(POINT)) == square(3)
    layer.switch.bias.assign([-1.0])  # twice the small dilation less the large one: there is no sigmoid
    y = layer(POINT)[0, ..., 0].numpy()
    assert y[4, 6] == 2 and y[2, 6] == -1 and y[5, 6] == 1


def test_the_switch_reads_a_mean_without_padded_cells():
    layer = switchable()
    layer.switch.kernel.assign(tf.ones([1, 1, 1, 1]))
    corner = tf.scatter_nd([[0, 0, 0, 0]], [9.0], [1, 11, 13, 1])
    # In the corner the 5x5 window has 9 cells, so the switch is 1: the large dilation. One row on it has 12: 0.75.
    y = layer(corner)[0, ..., 0].numpy()
    assert y[0, 0] == 9
    np.testing.assert_allclose(y[1, 0], 9 * 0.25)


def test_a_strided_one_has_no_switch():
    layer = switchable(stride=2)
    assert layer.switch is None
    assert [variable.shape.as_list() for variable in layer.variables] == [[3, 3, 1, 1]]
    np.testing.assert_array_equal(layer(POINT), conv.Conv(1, 3, stride=2, kernel_initializer="ones")(POINT))


def test_contexts_add_what_the_means_say():
    layer = switchable_atrous.SwitchableConvNormAct(1, norm=NORM)
    x = tf.random.stateless_normal([2, 5, 7, 1], [1, 2])
    plain = conv.ConvNormAct(1, 3, norm=NORM)
    layer(x), plain(x)
    plain.conv.kernel.assign(layer.conv.kernel)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-6)
    layer.pre_context.kernel.assign(tf.fill([1, 1, 1, 1], 2.0))
    layer.post_context.bias.assign([3.0])
    means = tf.reduce_mean(x, [1, 2], keepdims=True)
    expected = plain(x + 2 * means) + 3 / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
