import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import moat_block, norm

NORM = norm.batch_norm()


def test_strided_shortcut_averages_real_cells_only():
    block = moat_block.MBConv(1, stride=2, pool_size=3, norm=NORM)
    x = tf.reshape(tf.range(1.0, 10.0), [1, 3, 3, 1])
    block(x)
    block.shrink.kernel.assign(tf.zeros_like(block.shrink.kernel))
    assert block.shortcut is None
    # 3x3 around the corners of the map: four cells each.
    expected = [[(1 + 2 + 4 + 5) / 4, (2 + 3 + 5 + 6) / 4], [(4 + 5 + 7 + 8) / 4, (5 + 6 + 8 + 9) / 4]]
    np.testing.assert_allclose(block(x)[0, :, :, 0], expected)


def test_inner_widths_follow_the_output():
    block = moat_block.MBConv(8, norm=NORM)
    block(tf.zeros([1, 4, 4, 3]))
    assert block.expand.conv.kernel.shape == [1, 1, 3, 32]
    assert block.squeeze_excite.reduce.kernel.shape == [1, 1, 32, 2]
    assert block.squeeze_excite.expand.kernel.shape == [1, 1, 2, 32]
    assert block.shortcut.kernel.shape == [1, 1, 3, 8]


def test_branches_are_dropped_independently():
    block = moat_block.MoatBlock(32, drop_path=0.5, norm=NORM)
    x = tf.random.stateless_normal([64, 1, 1, 32], [0, 0])
    block(x)
    block.mbconv.shrink.kernel.assign(tf.zeros_like(block.mbconv.shrink.kernel))
    block.mbconv.shrink.bias.assign(tf.fill([32], 3.0))
    attention = block.attention
    attention.output_weight.assign(tf.zeros_like(attention.output_weight))
    attention.output_bias.assign(tf.fill([32], 10.0))
    added = np.rint((block(x, training=True) - x)[:, 0, 0, 0].numpy())
    assert set(added) == {0.0, 6.0, 20.0, 26.0}  # kept ones count twice


@pytest.mark.parametrize("size, expected", [(5, 3), (6, 3)])
def test_even_sizes_pad_as_tensorflow(size, expected):
    block = moat_block.MBConv(4, stride=2, norm=NORM)
    x = tf.random.stateless_normal([1, size, size, 4], [1, 2])
    y = block(x)
    assert y.shape == [1, expected, expected, 4]
    inner = block.expand(block.pre_norm(x))
    direct = tf.nn.depthwise_conv2d(inner, block.depthwise.conv.depthwise_kernel, [1, 2, 2, 1], "SAME")
    np.testing.assert_allclose(block.depthwise.conv(inner), direct, atol=1e-6)
