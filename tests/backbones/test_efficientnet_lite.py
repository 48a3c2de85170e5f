"""EfficientNet-Lite: the shapes of its features, its input scale, the options it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import efficientnet_lite

CHANNELS = (16, 24, 40, 112, 320)
Row = efficientnet_lite.Row
# One narrow block a stage; the first and the last have a shortcut.
TINY = (
    (Row(1, 3, 1, 32, 1),),
    (Row(2, 3, 2, 8, 1),),
    (Row(2, 5, 2, 8, 1),),
    (Row(2, 3, 2, 8, 1),),
    (Row(2, 5, 2, 8, 1), Row(2, 3, 1, 8, 1)),
)


@pytest.fixture(scope="module")
def lite0():
    return backbones.BACKBONES["kmax_efficientnet_lite0"]()


@pytest.mark.parametrize("height, width", [(65, 65), (97, 65), (33, 129), (224, 224), (100, 71)])
def test_feature_shapes(lite0, height, width):
    pyramid = lite0(np.zeros([1, height, width, 3], np.float32))
    for level, (channels, stride) in enumerate(zip(CHANNELS, lite0.strides), start=1):
        expected = (1, -(-height // stride), -(-width // stride), channels)
        assert getattr(pyramid, f"stage{level}").shape == expected
        assert getattr(pyramid, f"res{level}").shape == expected
    np.testing.assert_array_equal(pyramid.output, pyramid.res5)
    np.testing.assert_array_equal(pyramid.res3, tf.nn.relu6(pyramid.stage3))
    assert lite0.channels == CHANNELS and lite0.strides == (2, 4, 8, 16, 32)


def test_number_of_parameters(lite0):
    lite0(np.zeros([1, 33, 33, 3], np.float32))
    # The classifier's 4,652,008, less 1280 x (320 + 2) of its last convolution and 1000 x 1281 of its logits.
    assert sum(int(tf.size(variable)) for variable in lite0.trainable_variables) == 4_652_008 - 412_160 - 1_281_000


def test_the_input_becomes_that_of_the_weights():
    backbone = efficientnet_lite.EfficientNetLite(stages=TINY)
    seen = []
    stem = backbone.stem.call
    backbone.stem.call = lambda x, training=False: seen.append(x) or stem(x, training=training)
    pixels = np.linspace(0, 255, 33 * 33 * 3, dtype=np.float32).reshape(1, 33, 33, 3)
    backbone(pixels / 127.5 - 1)
    np.testing.assert_allclose(seen[0], (pixels - 127) / 128, atol=1e-6)


def test_odd_sides_are_padded_as_in_tensorflow():
    """On sides 32k + 1 the strided convolutions equal TensorFlow's `SAME`, with which the weights were trained."""
    backbone = efficientnet_lite.EfficientNetLite(stages=TINY)
    image = np.random.default_rng(0).uniform(-1, 1, [1, 65, 65, 3]).astype(np.float32)
    pyramid = backbone(image)
    block = backbone.stage3.block1
    x = block.expand(pyramid.stage2)
    kernel = block.depthwise.conv.depthwise_kernel
    expected = tf.nn.depthwise_conv2d(x, kernel, [1, 2, 2, 1], "SAME")
    np.testing.assert_allclose(block.depthwise.conv(x), expected, atol=1e-6)


def test_shortcuts_are_where_shapes_agree(lite0):
    lite0(np.zeros([1, 33, 33, 3], np.float32))
    blocks = [
        getattr(stage, f"block{number}")
        for stage in (lite0.stage1, lite0.stage2, lite0.stage3, lite0.stage4, lite0.stage5)
        for number in range(1, stage.num_blocks + 1)
    ]
    without = [number for number, block in enumerate(blocks) if not block.has_shortcut]
    assert len(blocks) == 16 and without == [0, 1, 3, 5, 8, 11, 15]


def test_drop_path_grows_linearly():
    backbone = efficientnet_lite.EfficientNetLite(stages=TINY, drop_path_keep_prob=0.4)
    stages = (backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5)
    rates = [getattr(stage, f"block{n}").drop_path.rate for stage in stages for n in range(1, stage.num_blocks + 1)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_every_weight_learns():
    backbone = efficientnet_lite.EfficientNetLite(stages=TINY)
    image = tf.random.stateless_uniform([2, 97, 65, 3], [1, 2], -1, 1)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(backbone(image, training=True).stage5 - 1.0))
        return tape.gradient(loss, backbone.trainable_variables)

    for variable, gradient in zip(backbone.trainable_variables, gradients()):
        assert gradient is not None and np.isfinite(gradient).all() and np.any(gradient), variable.name


def test_bfloat16():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        pyramid = efficientnet_lite.EfficientNetLite(stages=TINY)(np.zeros([1, 33, 33, 3], np.float32))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert pyramid.output.dtype == tf.bfloat16


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_stride": 16}, "output_stride must be 32"),
        ({"backbone_width_multiplier": 2.0}, "width_multiplier"),
        ({"use_squeeze_and_excite": True}, "use_squeeze"),
        ({"use_sac_beyond_stride": 16}, "use_sac"),
        ({"drop_path_keep_prob": 0.0}, "drop_path_keep_prob"),
        ({"drop_path_schedule": "constant"}, "drop_path_schedule"),
        ({"colour": 1}, "no option"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        backbones.BACKBONES["efficientnet_lite0"](**options)
