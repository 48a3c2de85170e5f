import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import inverted_residual, norm, squeeze_excite

NORM = norm.batch_norm(epsilon=0.0)


@pytest.mark.parametrize(
    ("channels", "rounded"),
    # 11 is nearer to 8, which is less than nine tenths of it; 67 goes down to 64; 4 is less than one multiple.
    [(8, 8), (11, 16), (12, 16), (67, 64), (68, 72), (4, 8), (88.0, 88), (18, 24)],
)
def test_make_divisible(channels, rounded):
    assert inverted_residual.make_divisible(channels) == rounded


def test_numbers_by_hand():
    block = inverted_residual.InvertedResidual(1, 3, expanded=2, residual=True, norm=NORM, activation=tf.nn.relu)
    x = tf.constant([[[[1.0], [-2.0], [3.0]]]])
    block(x)
    block.expand.conv.kernel.assign([[[[1.0, -1.0]]]])
    taps = np.zeros([3, 3, 2, 1], np.float32)
    taps[1, :, 0, 0] = 1.0  # the first channel adds its neighbours in the row
    taps[1, 1, 1, 0] = 10.0
    block.depthwise.conv.depthwise_kernel.assign(taps)
    block.project.conv.kernel.assign([[[[1.0], [-1.0]]]])
    output, depthwise = block(x)
    np.testing.assert_allclose(depthwise[0, 0], [[1.0, 0.0], [4.0, 20.0], [3.0, 0.0]])
    np.testing.assert_allclose(output[0, 0, :, 0], [2.0, -18.0, 6.0])


def test_the_depthwise_output_is_before_squeeze_and_excite():
    layer = squeeze_excite.SqueezeExcite(8)
    block = inverted_residual.InvertedResidual(4, stride=2, squeeze_excite=layer, norm=NORM)
    x = tf.random.stateless_normal([2, 5, 5, 4], seed=[1, 2])
    block(x)
    layer.expand.bias.assign([100.0] * 4)
    layer.expand.kernel.assign(tf.zeros([1, 1, 8, 4]))
    open_output, open_depthwise = block(x)
    layer.expand.bias.assign([-100.0] * 4)
    shut_output, shut_depthwise = block(x)
    assert open_output.shape == [2, 3, 3, 4]
    np.testing.assert_array_equal(open_depthwise, shut_depthwise)
    np.testing.assert_allclose(shut_output, tf.zeros([2, 3, 3, 4]), atol=1e-6)
    np.testing.assert_allclose(open_output, block.project(open_depthwise), rtol=1e-5)
