"""DeepLabV3, DeepLabV3+ and Panoptic-DeepLab: options, modes, several passes, names of variables."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.layers import aspp, conv
from deeplab2_kmax.models import deeplab, deeplab_v3, deeplab_v3_plus, outputs, panoptic_deeplab, passes
from deeplab2_kmax.postprocess import center_grouping
from deeplab2_kmax.protos import evaluator_pb2, model_pb2
from tests.models import small

PLAIN = (passes.Pass(),)
DECODER = 'decoder { feature_key: "res5" decoder_channels: 8 aspp_channels: 8 atrous_rates: [1, 2, 3] }'
V3 = DECODER + "deeplab_v3 { num_classes: 5 }"
PLUS = DECODER + 'deeplab_v3_plus { num_classes: 5 low_level { feature_key: "res2" channels_project: 4 } }'
PANOPTIC = (
    DECODER
    + """
panoptic_deeplab {
  low_level { feature_key: "res3" channels_project: 4 }
  low_level { feature_key: "res2" channels_project: 4 }
  semantic_head { output_channels: 5 head_channels: 8 }
  instance {
    low_level_override { feature_key: "res3" channels_project: 2 }
    instance_decoder_override {
      feature_key: "res5" decoder_channels: 4 aspp_channels: 4 aspp_use_only_1x1_proj_conv: true
    }
    center_head { output_channels: 1 head_channels: 4 }
    regression_head { output_channels: 2 head_channels: 4 }
  }
}
"""
)
BUILDS = {
    "deeplab_v3": (deeplab_v3.build, V3),
    "deeplab_v3_plus": (deeplab_v3_plus.build, PLUS),
    "panoptic_deeplab": (panoptic_deeplab.build, PANOPTIC),
}


def build(name, changes="", wanted=PLAIN, postprocess=None) -> deeplab.DeepLab:
    make, text = BUILDS[name]
    options = text_format.Parse(text, model_pb2.ModelOptions())
    options.MergeFrom(text_format.Parse(changes, model_pb2.ModelOptions()))
    kit = small.kit(small.backbone("resnet50"))._replace(postprocess=postprocess)
    model = make(options, kit, passes=wanted)
    model.build_variables()
    return model


@pytest.fixture(scope="module")
def panoptic():
    return build("panoptic_deeplab")


def images(height=65, width=97, batch=1):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


@pytest.mark.parametrize("name", ["deeplab_v3_plus", "panoptic_deeplab"])
def test_training_gives_maps_of_the_images_size_and_every_weight_a_gradient(name):
    model = build(name)
    with tf.GradientTape() as tape:
        output = model(images(batch=2), training=True, seed=tf.constant([1, 2]))
        maps = {key: value for key, value in output._asdict().items() if value is not None}
        loss = sum(tf.reduce_mean(tf.square(values - 1)) for values in maps.values())
    expected = {"semantic_logits": (2, 65, 97, 5)}
    if name == "panoptic_deeplab":
        expected.update(center_heatmap=(2, 65, 97), offset_map=(2, 65, 97, 2))
    assert {key: tuple(value.shape) for key, value in maps.items()} == expected
    gradients = tape.gradient(loss, model.trainable_variables)
    assert [v.name for v, g in zip(model.trainable_variables, gradients) if g is None or not np.isfinite(g).all()] == []


def test_offsets_grow_with_the_map(panoptic):
    raw = panoptic.predict(images())
    output = panoptic(images(), training=False)
    assert tuple(raw["offset_map"].shape) == (1, 17, 25, 2) or tuple(raw["offset_map"].shape) == (1, 9, 13, 2)
    stride = 64 // (raw["offset_map"].shape[1] - 1)
    np.testing.assert_allclose(
        output.offset_map[:, ::stride, ::stride], stride * raw["offset_map"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(tf.reduce_sum(output.semantic_probs, -1), np.ones([1, 65, 97]), rtol=1e-5)
    assert output.maps is None


def test_a_mirrored_image_has_mirrored_maps_and_the_mean_is_symmetric(panoptic):
    wanted = passes.make([1.0], add_mirrored=True)
    panoptic.passes = wanted
    try:
        one, other = (panoptic(x, training=False) for x in (images(), tf.reverse(images(), [2])))
    finally:
        panoptic.passes = PLAIN
    np.testing.assert_allclose(one.semantic_probs, tf.reverse(other.semantic_probs, [2]), atol=1e-5)
    np.testing.assert_allclose(one.center_heatmap, tf.reverse(other.center_heatmap, [2]), atol=1e-5)
    np.testing.assert_allclose(one.offset_map, tf.reverse(other.offset_map, [2]) * [1.0, -1.0], atol=1e-3)


def test_names_of_outputs_and_maps():
    classes = small.CLASSES
    postprocess = center_grouping.build(evaluator_pb2.EvaluatorOptions(), classes)
    named = outputs.deeplab2_outputs(build("panoptic_deeplab", postprocess=postprocess)(images(), training=False))
    assert sorted(named) == sorted(
        [
            *("semantic_logits", "semantic_probs", "center_heatmap", "offset_map"),
            *("panoptic_pred", "semantic_pred", "instance_pred", "instance_center_pred"),
            *("semantic_scores", "instance_scores"),
        ]
    )
    assert all(tuple(value.shape[:3]) == (1, 65, 97) for value in named.values())


def test_without_instances_there_are_classes_alone():
    model = build("panoptic_deeplab", "panoptic_deeplab { instance { enable: false } }")
    assert sorted(outputs.deeplab2_outputs(model(images(), training=False))) == ["semantic_logits", "semantic_probs"]
    assert not [path for path in restore.variable_paths(model) if path.startswith(("instance", "center", "offset"))]


def test_types_of_convolutions_and_of_aspp():
    v3 = build("deeplab_v3")
    assert isinstance(v3.classifier, conv.ConvNormAct)  # as DeepLab2, if not asked otherwise
    changed = 'decoder { decoder_conv_type: "depthwise_separable_conv" aspp_use_only_1x1_proj_conv: true }'
    v3 = build("deeplab_v3", changed)
    assert isinstance(v3.classifier, conv.SeparableConvNormAct)
    assert isinstance(v3.aspp, aspp.Projection)
    plus = build("deeplab_v3_plus", 'decoder { decoder_conv_type: "standard_conv" }')
    assert [type(fusion) for fusion in plus.fusions] == [conv.ConvNormAct] * 2


def test_instances_have_a_decoder_of_their_own(panoptic):
    assert isinstance(panoptic.semantic_decoder.aspp, aspp.ASPP)
    assert isinstance(panoptic.instance_decoder.aspp, aspp.Projection)
    assert panoptic.semantic_decoder.low_features == ["res3", "res2"]
    assert panoptic.instance_decoder.low_features == ["res3"]
    shared = build("panoptic_deeplab", "panoptic_deeplab { instance { } }")
    assert shared.instance_decoder is not shared.semantic_decoder


def test_the_pooling_window_slides_over_larger_images_and_scales_with_them():
    model = build("deeplab_v3", "decoder { aspp_pool_size: [3, 3] }")
    whole = build("deeplab_v3")
    for variable, other in zip(model.variables, whole.variables):
        other.assign(variable)
    same, larger = images(65, 65), images(129, 129)
    np.testing.assert_allclose(model(same).semantic_logits, whole(same).semantic_logits, atol=1e-6)
    assert np.abs(model(larger).semantic_logits - whole(larger).semantic_logits).max() > 1e-6
    # Scaled by 2, a window of 3x3 becomes one of 5x5, which covers the features of 129x129.
    features = model.backbone(larger / 127.5 - 1, training=False)
    np.testing.assert_allclose(
        model.decode(features, training=False, pool_scale=2.0)["semantic_logits"],
        whole.decode(features, training=False)["semantic_logits"],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "name, changes",
    [
        ("deeplab_v3_plus", ""),
        ("panoptic_deeplab", ""),
        ("panoptic_deeplab", "panoptic_deeplab {" + 3 * 'low_level { feature_key: "res1" channels_project: 4 }' + "}"),
        ("deeplab_v3", "decoder { aspp_use_only_1x1_proj_conv: true }"),
    ],
)
def test_every_variable_has_a_name_of_its_own_in_deeplab2(name, changes):
    names = restore._model_names(restore.built_variables(build(name, changes)))
    assert None not in names.values()
    assert len(set(names.values())) == len(names)
    own = {"deeplab_v3": "classifier_conv_bn_act/_conv/kernel", "deeplab_v3_plus": "deeplab_v3plus_fuse/_conv2_bn_act/"}
    assert any(value.startswith(own.get(name, "instance_center_head_last_layer/")) for value in names.values())


def test_low_levels_go_from_coarse_to_fine():
    with pytest.raises(ValueError, match=r"'res3' has 9x9 places where what came before it has 17x17"):
        build("panoptic_deeplab", 'panoptic_deeplab { low_level { feature_key: "res3" channels_project: 4 } }')


def test_bfloat16_stays_near(panoptic):
    from deeplab2_kmax import architectures
    from deeplab2_kmax.protos import trainer_pb2

    with architectures.precision(trainer_pb2.TrainerOptions.BFLOAT16):
        model = build("panoptic_deeplab")
    for variable, other in zip(panoptic.variables, model.variables):
        other.assign(variable)
    for full, half in zip(panoptic(images()), model(images())):
        if full is not None:
            assert half.dtype == tf.float32
            assert np.mean(np.abs(full - half)) < 0.1 * np.std(full) + 1e-3
