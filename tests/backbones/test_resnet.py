"""Strides, dilations, sizes and drop path of the ResNet family."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax.backbones import resnet
from deeplab2_kmax.layers import axial_block
from tests import backbone_checks
from tests.models import small


def stages(model):
    return [model.stage2, model.stage3, model.stage4, model.stage5]


def blocks(stage):
    return [getattr(stage, f"block{number}") for number in range(1, stage.num_blocks + 1)]


@pytest.mark.parametrize(
    "output_stride, expected",
    [
        (32, [(2, 1, 1)] * 4),
        (16, [(2, 1, 1)] * 3 + [(1, 1, 2)]),
        (8, [(2, 1, 1)] * 2 + [(1, 1, 2), (1, 2, 4)]),
        (4, [(2, 1, 1), (1, 1, 2), (1, 2, 4), (1, 4, 8)]),
    ],
)
def test_strides_and_rates(output_stride, expected):
    """Stride and rate of a stage's first block, then the rate of the others."""
    model = backbones.BACKBONES["resnet50"](output_stride=output_stride)
    for stage, (stride, first_rate, rate) in zip(stages(model), expected):
        first, *others = blocks(stage)
        assert (first.conv2.conv.stride, first.conv2.conv.dilation) == (stride, first_rate)
        assert {block.conv2.conv.dilation for block in others} == {rate}
    assert model.strides == tuple(min(2**level, output_stride) for level in range(1, 6))


def test_atrous_consistency():
    """With the same weights a finer output stride computes the same features, only more of them."""
    image = tf.constant(np.random.RandomState(0).standard_normal([1, 65, 97, 3]), tf.float32)
    weights, results = None, {}
    for output_stride in (32, 16, 8, 4):
        model = small.backbone("resnet50_beta", output_stride=output_stride, backbone_layer_multiplier=0.67)
        model(image)
        if weights is None:
            random = np.random.RandomState(1)
            weights = [np.ones(v.shape) if "gamma" in v.name else v.numpy() for v in model.variables]
            weights = [w + 0.02 * random.standard_normal(w.shape) for w in weights]
        model.set_weights(weights)
        results[output_stride] = model(image).res5[:, :: 32 // output_stride, :: 32 // output_stride]
    for output_stride in (16, 8, 4):
        np.testing.assert_allclose(
            results[output_stride], results[32], rtol=0, atol=1e-4 * float(tf.math.reduce_std(results[32]))
        )


@functools.cache
def small_one(name):
    """One network for every size."""
    return small.backbone(name)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_beta", "max_deeplab_s_backbone", "kmax_axial_resnet50"])
@pytest.mark.parametrize("size", [(65, 65), (97, 65), (64, 50)])
def test_sizes_and_channels(name, size):
    model = small_one(name)
    pyramid = model(tf.zeros([1, *size, 3]))
    for level in range(5):
        expected = tuple(-(-side // model.strides[level]) for side in size)
        for kind in ("stage", "res"):
            feature = getattr(pyramid, f"{kind}{level + 1}")
            assert tuple(feature.shape) == (1, *expected, model.channels[level])
    np.testing.assert_array_equal(pyramid.output, pyramid.res5)


def test_axial_blocks_start_behind_stride_16():
    """The strided first block of stage 4 reads stride 8, so it stays a convolution."""
    model = backbones.BACKBONES["kmax_axial_resnet50"]()
    kinds = [[isinstance(block, axial_block.AxialBlock) for block in blocks(stage)] for stage in stages(model)]
    assert kinds == [[False] * 3, [False] * 4, [False] + [True] * 5, [True] * 3]


@pytest.mark.parametrize(
    "schedule, beyond, expected",
    [
        ("linear", 16, [(1, 1), (1, 1), (1, 0.85), (0.85, 0.8)]),
        ("linear", 4, [(1, 0.95), (0.95, 0.9), (0.9, 0.85), (0.85, 0.8)]),
        ("constant", 16, [(1, 1), (1, 1), (1, 0.8), (0.8, 0.8)]),
    ],
)
def test_drop_path_schedule(schedule, beyond, expected):
    model = resnet.ResNet(drop_path_keep_prob=0.8, drop_path_schedule=schedule, drop_path_beyond_stride=beyond)
    for stage, (first, others) in zip(stages(model), expected):
        keeps = [1 - block.drop_path.rate for block in blocks(stage)]
        np.testing.assert_allclose(keeps, [first] + [others] * (len(keeps) - 1))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet50", {"output_stride": 64}, "output_stride is 4, 8, 16 or 32, but got 64"),
        ("kmax_resnet50", {"output_stride": 16}, "output_stride"),
        ("resnet50", {"drop_path_schedule": "cosine"}, "'constant' or 'linear'"),
        ("resnet50", {"drop_path_keep_prob": 0.0}, "lies in"),
        ("resnet50", {"window_size": [7, 7]}, "window_size must be"),
        ("max_deeplab_s_backbone", {"backbone_width_multiplier": 1 / 128}, "heads"),
    ],
)
def test_options_that_a_resnet_lacks(name, options, message):
    with pytest.raises(ValueError, match=message):
        backbones.BACKBONES[name](**options)


# Trainable numbers and moving statistics of networks in full.
PARAMETERS = {
    "resnet50": (23_508_032, 53_120),
    "resnet50_beta": (23_631_808, 53_504),
    "resnet101": (42_500_160, 105_344),
    "resnet101_beta": (42_623_936, 105_728),
    "kmax_resnet50": (23_508_032, 53_120),
    "axial_resnet_s": (11_466_912, 88_576),
    "axial_resnet_m": (24_991_568, 132_032),
    "axial_resnet_l": (43_714_048, 175_488),
    "axial_resnet_xl": (170_582_208, 349_312),
    "axial_deeplab_s": (11_565_856, 88_704),
    "axial_deeplab_m": (25_113_296, 132_416),
    "axial_deeplab_l": (43_841_920, 175_872),
    "axial_deeplab_xl": (170_734_656, 349_696),
    "full_axial_resnet_s": (11_507_152, 90_976),
    "max_deeplab_s_backbone": (41_343_424, 144_384),
    "kmax_axial_resnet50": (41_343_424, 144_384),
    "max_deeplab_l_backbone": (175_115_392, 246_208),
    "wide_resnet41": (109_014_080, 58_752),
    "swidernet": (109_014_080, 58_752),
    "swidernet sac 32": (112_952_387, 58_752),
    "swidernet sac 32 layers 3": (345_060_425, 157_056),
    "swidernet sac 32 layers 4.5": (504_519_757, 224_640),
    "swidernet se": (126_574_784, 58_752),
    "swidernet se sac 16": (142_326_472, 58_752),
    "swidernet se stem 0.25 width 0.25 layers 0.75": (5_220_336, 10_592),
    "swidernet se width 1.5 layers 3": (866_632_256, 234_624),
    "axial_swidernet": (136_399_392, 193_376),
    "axial_swidernet layers 3": (393_935_520, 593_888),
    "axial_swidernet layers 4.5": (570_346_912, 862_944),
}
FAST = ("resnet50", "swidernet sac 32", "swidernet se stem 0.25 width 0.25 layers 0.75")


@pytest.mark.parametrize(
    "settings", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS]
)
def test_parameter_counts(settings):
    name, *words = settings.split()
    values = dict(zip(words, words[1:]))
    options = {
        option: float(values[word])
        for word, option in (
            ("stem", "stem_width_multiplier"),
            ("width", "backbone_width_multiplier"),
            ("layers", "backbone_layer_multiplier"),
        )
        if word in values
    }
    if "sac" in words:
        options.update(use_sac_beyond_stride=int(values["sac"]), output_stride=16)
    with tf.Graph().as_default():  # in which variables have shapes, but no values
        backbone = backbones.BACKBONES[name](use_squeeze_and_excite="se" in words, **options)
        assert backbone_checks.count_parameters(backbone) == PARAMETERS[settings]
