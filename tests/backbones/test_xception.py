import functools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.backbones import BACKBONES, xception
from deeplab2_kmax.layers import norm
from tests import backbone_checks

short = functools.partial(xception.Xception, num_middle=1)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "parameters"), [(41, 24920560), (65, 37867312), (71, 40289736)])
def test_parameters_and_channels(depth, parameters):
    backbone = BACKBONES[f"xception_{depth}"]()
    assert backbone_checks.count_parameters(backbone)[0] == parameters
    assert backbone.channels == (64, 256, 728, 728, 2048)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [xception.ENTRY, xception.ENTRY_71])
def test_sizes(entry):
    backbone_checks.check_sizes(short(entry=entry))
    assert short(entry=entry, output_stride=8).strides == (2, 4, 8, 8, 8)


def test_output_strides_agree():
    backbone_checks.check_atrous(lambda stride: short(output_stride=stride), side=33)


@pytest.mark.slow
def test_training():
    backbone_checks.check_training(short)


def test_module_by_hand():
    # One channel, centre taps of 2: each separable convolution gives 2 relu(x), and there are three of them.
    module = xception.Module([1, 1, 1], project=False, norm=norm.batch_norm(epsilon=0.0))
    x = tf.constant([[[[3.0], [-1.0], [0.5]]]])
    module(x)
    for layer in (module.conv1, module.conv2, module.conv3):
        layer.depthwise.conv.depthwise_kernel.assign(np.pad([[[[2.0]]]], [[1, 1], [1, 1], [0, 0], [0, 0]]))
        layer.pointwise.conv.kernel.assign([[[[1.0]]]])
    output, second = module(x)
    np.testing.assert_allclose(second[0, 0, :, 0], [12.0, 0.0, 2.0])
    np.testing.assert_allclose(output[0, 0, :, 0], [27.0, -1.0, 4.5])


def test_features_before_and_after_the_activation():
    backbone = short()
    images = tf.random.stateless_normal([1, 33, 33, 3], seed=[1, 2])
    backbone(images)
    backbone_checks.randomize(backbone)
    pyramid = backbone(images)
    lowest = [float(tf.reduce_min(level)) for level in pyramid[5:10]]
    assert lowest[0] == lowest[4] == 0.0
    assert max(lowest[1:4]) < 0.0


def test_options_that_it_does_not_have():
    with pytest.raises(ValueError, match="backbone_width_multiplier must be 1.0, but got 0.5"):
        short(backbone_width_multiplier=0.5)
    with pytest.raises(ValueError, match="reduce_last_block_filters must be false"):
        short(reduce_last_block_filters=True)
