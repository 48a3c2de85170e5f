import functools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax.backbones import BACKBONES, mobilenet_v3
from tests import backbone_checks

small = BACKBONES["mobilenet_v3_small"]

# A network of two strided and two plain blocks for what does not depend on depth.
TINY = (
    mobilenet_v3.Block(3, 2, 8, 1, "relu", level=2),
    mobilenet_v3.Block(3, 2, 8, 2, "relu", squeeze=False, level=3),
    mobilenet_v3.Block(5, 2, 16, 2),
    mobilenet_v3.Block(5, 1, 16, 2, level=4),
    mobilenet_v3.Block(5, 2, 16, 2),
    mobilenet_v3.Block(5, 1, 16, 2),
)
tiny = functools.partial(mobilenet_v3.MobileNetV3, blocks=TINY, last_filters=32)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "channels"),
    [
        ("small", {}, (927008, 12112), (16, 16, 88, 144, 576)),
        ("small", {"backbone_width_multiplier": 0.75}, (573480, 9680), (16, 16, 88, 120, 432)),
        ("small", {"reduce_last_block_filters": True}, (390576, 8368), (16, 16, 88, 144, 288)),
        ("large", {}, (2971952, 24400), (16, 72, 120, 672, 960)),
        ("large", {"backbone_width_multiplier": 0.75}, (1789648, 19088), (16, 72, 96, 528, 720)),
        ("large", {"reduce_last_block_filters": True}, (1379184, 17776), (16, 72, 120, 672, 480)),
    ],
)
def test_parameters(name, options, parameters, channels):
    backbone = BACKBONES[f"mobilenet_v3_{name}"](**options)
    assert backbone_checks.count_parameters(backbone) == parameters
    assert backbone.channels == channels


@pytest.mark.parametrize(
    ("name", "output_stride"), [("small", 32), pytest.param("large", 32, marks=pytest.mark.slow), ("small", 8)]
)
def test_sizes(name, output_stride):
    backbone_checks.check_sizes(BACKBONES[f"mobilenet_v3_{name}"](output_stride=output_stride))


def test_output_strides_agree_without_squeeze_and_excite():
    backbone_checks.check_atrous(lambda stride: tiny(output_stride=stride), zero="squeeze_excite")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "large"])
def test_output_strides_agree_in_full(name):
    build = BACKBONES[f"mobilenet_v3_{name}"]
    backbone_checks.check_atrous(lambda stride: build(output_stride=stride), zero="squeeze_excite")


def test_shortcuts_do_not_depend_on_the_output_stride():
    for output_stride in (8, 32):
        backbone = tiny(output_stride=output_stride)
        assert [block.residual for block in backbone.blocks[1:-1]] == [False, False, False, True, False, True]


def test_training():
    backbone_checks.check_training(tiny)


@pytest.mark.parametrize(("gate", "factor"), [("sigmoid", 0.5), ("hard_sigmoid", 3 * 0.16667)])
def test_gate(gate, factor):
    backbone = tiny(squeeze_and_excite_gate=gate)
    backbone(tf.zeros([1, 33, 33, 3]))
    layer = backbone.blocks[1].squeeze_excite
    for variable in layer.variables:
        variable.assign(tf.zeros_like(variable))
    np.testing.assert_allclose(layer(tf.ones([1, 2, 2, 16])), tf.fill([1, 2, 2, 16], factor), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_squeeze_and_excite": False}, "use_squeeze_and_excite must be true, but got False"),
        ({"drop_path_keep_prob": 0.8}, "drop_path_keep_prob must be 1.0, but got 0.8"),
        ({"backbone_layer_multiplier": 2.0}, "backbone_layer_multiplier must be 1.0"),
        ({"use_sac_beyond_stride": 16}, "use_sac_beyond_stride must be -1"),
        ({"stem_width_multiplier": 0.5}, "stem_width_multiplier must be 1.0"),
        ({"squeeze_and_excite_gate": "softmax"}, "must be 'sigmoid' or 'hard_sigmoid', but got 'softmax'"),
        ({"output_stride": 12}, r"output_stride is one of \(4, 8, 16, 32\), but got 12"),
    ],
)
def test_options_that_it_does_not_have(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.build_backbone("mobilenet_v3_small", **options)


def test_with_kmax():
    backbone = BACKBONES["kmax_mobilenet_v3_large"](use_squeeze_and_excite=True)
    assert backbone.name == "kmax_mobilenet_v3_large"
    assert backbone.channels == (16, 72, 120, 672, 960)
    assert backbone.strides == (2, 4, 8, 16, 32)
    with pytest.raises(ValueError, match="output_stride must be 32"):
        BACKBONES["kmax_mobilenet_v3_small"](output_stride=16)
