"""The recursive feature pyramid around a ResNet: what each pass sees, and where its weights come from."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

import deeplab2_kmax as dk
from deeplab2_kmax import architectures
from deeplab2_kmax.backbones import recursive
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.models import panoptic_deeplab, passes
from deeplab2_kmax.protos import model_pb2
from tests import backbone_checks
from tests.models import small

NARROW = {"stem_width_multiplier": 1 / 16, "backbone_width_multiplier": 1 / 32, "backbone_layer_multiplier": 0.34}
IMAGES = tf.constant(np.random.RandomState(0).standard_normal([2, 33, 65, 3]), tf.float32)
LEVELS = ("res2", "res3", "res4", "res5")


def build(name="resnet50", **options):
    settings = {"rfp_steps": 2, "rfp_channels": 8, **NARROW, **options}
    backbone = architectures.build_backbone(name, **settings)
    backbone(IMAGES)
    backbone_checks.randomize(backbone)
    return backbone


@pytest.fixture(scope="module")
def backbone():
    return build()


def zero(*layers):
    for layer in layers:
        for variable in layer.variables:
            variable.assign(tf.zeros_like(variable))


@pytest.mark.slow
def test_sizes():
    backbone_checks.check_sizes(build(output_stride=16))


def test_passes_that_are_told_nothing_and_see_the_same_blend_to_it():
    backbone = build()
    zero(*backbone.projections[0])
    for one, other in zip(backbone.networks[0].variables, backbone.networks[1].variables):
        other.assign(one)
    plain = backbone.networks[0](IMAGES)
    pyramid = backbone(IMAGES)
    expected = backbone.neck([getattr(plain, level) for level in LEVELS])
    for level, values in zip(LEVELS, expected):
        np.testing.assert_allclose(getattr(pyramid, level), values, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(pyramid.res1, plain.res1)


def test_the_second_pass_is_told_behind_the_first_blocks_of_stages_3_to_5(backbone):
    first, second = backbone.networks
    old = backbone.neck([getattr(first(IMAGES), level) for level in LEVELS])
    x = second.stage2(second.first_level(IMAGES))
    features = [x]
    for stage, level, project in zip((second.stage3, second.stage4, second.stage5), old[1:], backbone.projections[0]):
        x = stage.block1(x) + project(backbone.feedback(level))
        for number in range(2, stage.num_blocks + 1):
            x = getattr(stage, f"block{number}")(x)
        features.append(x)
    new = backbone.neck([tf.nn.relu(feature) for feature in features])
    pyramid = backbone(IMAGES)
    for name, one, other in zip(LEVELS, new, old):
        weight = tf.sigmoid(backbone.fusion.gate(one))
        expected = weight * one + (1 - weight) * other
        np.testing.assert_allclose(getattr(pyramid, name), expected, rtol=1e-3, atol=1e-4)
    assert np.abs(new[0] - old[0]).max() > 1e-3


def test_a_third_pass_and_shared_weights(backbone):
    def count(layer):
        return sum(int(np.prod(variable.shape)) for variable in layer.variables)

    shared = build(rfp_steps=3, rfp_shared=True)
    assert (len(shared.networks), len(shared.projections)) == (1, 1)
    assert count(shared) == count(backbone) - count(backbone.networks[1])
    # Its third pass says something else than the second.
    two = build(rfp_shared=True)
    for one, other in zip(shared.variables, two.variables):
        one.assign(other)
    assert np.abs(shared(IMAGES).res3 - two(IMAGES).res3).max() > 1e-3


def test_every_variable_gets_a_gradient(backbone):
    with tf.GradientTape() as tape:
        pyramid = backbone(IMAGES, training=True)
        loss = tf.add_n([tf.reduce_sum(tf.square(getattr(pyramid, level))) for level in (*LEVELS, "res1")])
    gradients = tape.gradient(loss, backbone.trainable_variables)
    paths = {variable.ref(): path for path, variable in restore.variable_paths(backbone).items()}
    idle = [
        paths[variable.ref()]
        for variable, gradient in zip(backbone.trainable_variables, gradients)
        if gradient is None or not np.isfinite(gradient).all() or not np.any(gradient)
    ]
    assert idle == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v3_small", {"use_squeeze_and_excite": True}, "mobilenet_v3_small: rfp_steps must be 1, but got 2"),
        ("kmax_resnet50", {}, "kmax_resnet50: rfp_steps must be 1, but got 2"),
        ("resnet50", {"rfp_steps": 0}, "takes 2 steps or more, but got 0"),
        ("resnet50", {"rfp_channels": 6}, "6 channels do not split"),
    ],
)
def test_options_that_do_not_fit(name, options, message):
    with pytest.raises(ValueError, match=message):
        architectures.build_backbone(name, **{"rfp_steps": 2, **options})


MODEL = """
decoder { feature_key: "res5" decoder_channels: 8 aspp_channels: 8 atrous_rates: [1, 2, 3] }
panoptic_deeplab {
  low_level { feature_key: "res3" channels_project: 4 }
  semantic_head { output_channels: 5 head_channels: 8 }
  instance { enable: false }
}
"""


def model_around(backbone):
    options = text_format.Parse(MODEL, model_pb2.ModelOptions())
    model = panoptic_deeplab.build(options, small.kit(backbone), passes=[passes.Pass()])
    model.build_variables()
    return model


def test_both_passes_start_from_a_checkpoint_without_recursion(tmp_path, backbone):
    plain = model_around(build(rfp_steps=1, rfp_channels=8))
    prefix = tf.train.Checkpoint(model=plain).write(str(tmp_path / "plain"))
    own = tf.train.Checkpoint(root=plain).write(str(tmp_path / "unnested"))
    for path in (prefix, own):
        model = model_around(build())
        report = restore.load_initial(model, path)
        for network in model.backbone.networks:
            for mine, other in zip(network.variables, plain.backbone.variables):
                np.testing.assert_array_equal(mine, other)
        assert "backbone/neck/laterals/0/kernel" in report.missing
        assert not [name for name in report.missing if name.startswith("backbone/networks")]
        np.testing.assert_array_equal(model.semantic_head.last.kernel, plain.semantic_head.last.kernel)
        assert "semantic_decoder/aspp/conv0/conv/kernel" in report.mismatched  # other channels


@pytest.mark.slow
def test_its_own_checkpoint_keeps_the_passes_apart(tmp_path):
    model = model_around(build())
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "whole"))
    other = model_around(build(rfp_steps=2))
    zero(other)
    report = restore.load_initial(other, prefix)
    assert (report.missing, report.unused, report.mismatched) == ([], [], {})
    for one, same in zip(model.variables, other.variables):
        np.testing.assert_array_equal(one, same)


def test_every_pass_takes_the_weights_of_a_classifier(tmp_path):
    plain = build(rfp_steps=1)
    names = {path: "encoder/" + restore._BACKBONE_NAMES(path) for path in restore.variable_paths(plain)}
    root = tf.train.Checkpoint()
    for path, variable in restore.variable_paths(plain).items():
        node = root
        *parts, last = names[path].split("/")
        for part in parts:
            if not hasattr(node, part):
                setattr(node, part, tf.train.Checkpoint())
            node = getattr(node, part)
        setattr(node, last, variable)
    prefix = root.write(str(tmp_path / "classifier"))
    backbone = build()
    dk.load_pretrained(backbone, prefix)
    for network in backbone.networks:
        np.testing.assert_array_equal(network.stage5.block1.conv2.conv.kernel, plain.stage5.block1.conv2.conv.kernel)
    assert isinstance(backbone, recursive.RecursivePyramid)
