"""The whole network at a tiny size: modes, outputs, training steps; parameter counts at full size."""

import contextlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import backbones, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import norm
from deeplab2_kmax.models import building, kmax_deeplab, outputs
from deeplab2_kmax.protos import model_pb2
from tests.models import small


def images(height=33, width=65, batch=2):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


def randomize(model):
    """Moves norms off their start, where zero gammas switch most of the network off."""
    random = np.random.RandomState(1)
    for variable in model.variables:
        leaf = variable.name.split("/")[-1].split(":")[0]
        if leaf in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif leaf in ("beta", "moving_mean"):
            variable.assign(0.1 * random.standard_normal(variable.shape))


@contextlib.contextmanager
def policy(name):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@pytest.fixture(scope="module")
def model():
    built = small.build()
    randomize(built)
    return built


def test_training_outputs_share_the_grid_of_the_masks(model):
    output = model(images(), training=True, seed=tf.constant([1, 2]))
    assert output.prediction.class_logits.shape == (2, 6, 5)
    assert output.prediction.mask_logits.shape == (2, 9, 17, 6)
    assert output.prediction.pixel_features.shape == (2, 9, 17, 4)
    assert output.semantic_logits.shape == (2, 9, 17, 5)
    assert len(output.auxiliary) == 3
    for prediction in output.auxiliary:
        assert prediction.class_logits.shape == (2, 6, 5)
        assert prediction.mask_logits.shape == (2, 9, 17, 6)
        assert prediction.pixel_features.shape == (2, 9, 17, 4)
    assert output.maps is None


def test_auxiliary_features_have_unit_length_if_asked_for():
    model = small.build("max_deeplab { kmax { normalize_auxiliary_features: true } }")
    randomize(model)
    features = model(images(), training=True).auxiliary[0].pixel_features
    np.testing.assert_allclose(tf.norm(features, axis=-1), 1.0, rtol=1e-5)


def test_inference_has_no_auxiliary_predictions(model):
    output = model(images(), training=False)
    assert output.auxiliary == () and output.maps is None
    named = outputs.deeplab2_outputs(output)
    assert set(named) == {
        "transformer_class_logits",
        "pixel_space_mask_logits",
        "pixel_space_normalized_feature",
        "semantic_logits",
    }


def test_predict_masks_equals_the_full_answer(model):
    full = model(images(), training=False).prediction
    for expected, actual in zip(full, model.predict_masks(images())):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.std(expected))


def test_maps_come_from_the_postprocessing_at_image_size():
    model = small.build()

    def postprocess(prediction, size):
        zeros = tf.zeros([prediction.mask_logits.shape[0], *size])
        return structures.PanopticMaps(*[tf.cast(zeros, tf.int32)] * 3, zeros, zeros)

    model.postprocess = postprocess
    output = model(images(), training=False)
    assert output.maps.panoptic.shape == (2, 33, 65)
    assert {"panoptic_pred", "semantic_pred", "instance_pred"} < set(outputs.deeplab2_outputs(output))
    assert model(images(), training=True).maps is None


def test_cluster_maps_have_one_entry_per_block(model):
    maps = model.cluster_maps(images())
    assert [tuple(m.shape) for m in maps] == [(2, 2, 3), (2, 3, 5), (2, 5, 9)]
    assert all(m.dtype == tf.int32 and int(tf.reduce_max(m)) < 6 for m in maps)


def test_assignment_needs_only_part_of_the_predictor(model):
    pyramid = model.backbone(building.normalize(images()))
    full, lean = (model.clusters(pyramid, predict=predict) for predict in (True, False))
    for with_prediction, without in zip(full.steps, lean.steps):
        assert without.prediction is None
        np.testing.assert_array_equal(without.assignment, with_prediction.assignment)
        chosen = tf.argmax(with_prediction.prediction.mask_logits, axis=-1, output_type=tf.int32)
        np.testing.assert_array_equal(without.assignment, chosen)


def test_any_size_after_building(model):
    graph = tf.function(
        lambda x: model(x, training=False).prediction, input_signature=[tf.TensorSpec([None, None, None, 3])]
    )
    for height, width in ((33, 65), (64, 50)):
        expected = model(images(height, width), training=False).prediction
        for left, right in zip(graph(images(height, width)), expected):
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-4 * np.std(right))


def test_highest_stride_2_has_five_levels():
    model = small.build(
        "max_deeplab { kmax { highest_stride: 2 auxiliary_semantic_decoder: false"
        "  pixel_decoder_blocks: [1, 1, 1, 1, 1] pixel_decoder_width_multiplier: 0.03125 } }"
    )
    output = model(images(), training=False)
    assert output.prediction.mask_logits.shape == (2, 17, 33, 6)
    assert output.semantic_logits.shape == (2, 2, 3, 5)  # head directly on stage 5


def test_bottlenecks_alone_and_no_semantic_head():
    model = small.build("max_deeplab { kmax { pixel_decoder_axial_beyond_stride: 0 } }")
    assert not any("axis" in variable.name for variable in model.pixel_decoder.variables)
    options = small.options()
    options.max_deeplab.ClearField("auxiliary_semantic_head")
    model = kmax_deeplab.build(options, small.kit(small.backbone()))
    assert model(images(), training=True).semantic_logits is None
    assert model.semantic_decoder is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision, backbone",
    [
        ("float32", "kmax_resnet50"),
        pytest.param("mixed_bfloat16", "kmax_axial_resnet50", marks=pytest.mark.slow),
    ],
)
def test_training_steps_lower_a_loss(precision, backbone):
    with policy(precision):
        model = small.build(backbone_name=backbone, drop_path_keep_prob=0.9)
    batch = images()

    @tf.function
    def step(seed):
        with tf.GradientTape() as tape:
            output = model(batch, training=True, seed=seed)
            tensors = [x for x in tf.nest.flatten(output) if x is not None]
            loss = sum(tf.reduce_mean(tf.square(x - 0.5)) for x in tensors)
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients):
            variable.assign_sub(0.01 * gradient)
        return loss, gradients, tensors

    losses = []
    for number in range(3):
        loss, gradients, tensors = step(tf.constant([0, number]))
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all(x.dtype == tf.float32 for x in tensors)
    assert all(variable.dtype == tf.float32 for variable in model.variables)
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name


def test_random_masks_follow_the_seed():
    model = small.build(drop_path_keep_prob=0.5)
    randomize(model)
    run = tf.function(lambda seed: model(images(), training=True, seed=seed).prediction.mask_logits)
    first, again, other = (run(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@pytest.mark.slow
def test_recomputing_changes_nothing():
    """Of blocks, fusions and k-means steps; statistics move once, random masks are the same."""
    images = tf.random.stateless_uniform([2, 65, 65, 3], [1, 2], 0, 255)
    results = []
    for recompute in ("false", "true"):
        parts = f"recompute_pixel_decoder: {recompute} recompute_transformer_decoder: {recompute} "
        parts += f"recompute_heads: {recompute}"
        model = small.build(f"max_deeplab {{ transformer_decoder_drop_path_keep_prob: 0.5 kmax {{ {parts} }} }}")
        for index, variable in enumerate(model.variables):
            variable.assign(tf.random.stateless_uniform(variable.shape, [index, 1], 0.1, 0.9))
        with tf.GradientTape() as tape:
            output = model(images, training=True, seed=tf.constant([1, 2]))
            predictions = tf.nest.flatten([output.prediction, output.semantic_logits, *output.auxiliary])
            loss = tf.add_n([tf.reduce_mean(tf.sin(x)) for x in predictions if x is not None])
        gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        results.append([loss, *gradients, *model.non_trainable_variables])
    scale = max(float(tf.norm(gradient)) for gradient in results[0])
    for plain, recomputed in zip(*results):
        np.testing.assert_allclose(recomputed, plain, rtol=1e-5, atol=1e-5 * scale)


def test_norms_use_batch_statistics_in_training_everywhere(model):
    """One training call moves the statistics of every norm, those of the auxiliary predictors too."""
    model = small.build()
    before = {v.ref(): v.numpy() for v in model.non_trainable_variables}
    model(images(), training=True)
    still = [v.name for v in model.non_trainable_variables if (v.numpy() == before[v.ref()]).all()]
    # Where a zero gamma comes before, the mean stays 0; variances move always.
    assert not [name for name in still if "variance" in name]


@pytest.mark.parametrize(
    "changes, message",
    [
        ("max_deeplab { kmax { highest_stride: 8 } }", "highest_stride is 2 or 4, but got 8"),
        ("max_deeplab { kmax { pixel_decoder_blocks: [1, 1] } }", "takes 4 entries"),
        ("max_deeplab { kmax { num_heads: 3 } }", "heads"),
        ("max_deeplab { kmax { pixel_decoder_width_multiplier: 0.001 } }", "pixel_decoder_width_multiplier"),
        ('decoder { feature_key: "rse5" }', "Did you mean: .*res5"),
        ('max_deeplab { pixel_space_head { head_conv_type: "conv" } }', "head_conv_type"),
        ("decoder { atrous_rates: [4] }", "three atrous rates"),
    ],
)
def test_bad_options_are_told(changes, message):
    with pytest.raises(ValueError, match=message):
        small.build(changes)


def coco(num_things=80, num_stuff=53):
    return structures.MaskClasses(tuple(range(num_things)), tuple(range(num_things, num_things + num_stuff)), 0, 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone, kmax, classes, total, semantic, parts",
    [
        ("kmax_resnet50", "", coco(), 72_436_862, 15_856_742, (23_508_032, 21_151_040, 11_747_472)),
        ("kmax_axial_resnet50", "", coco(), 90_272_254, 15_856_742, (41_343_424, 21_151_040, 11_747_472)),
        ("kmax_resnet50", "ade20k", coco(100, 50), 72_471_814, 15_861_111, (23_508_032, 21_151_040, 11_773_686)),
        ("kmax_resnet50", "cityscapes", coco(8, 11), 56_986_125, 584_979, (23_508_032, 21_180_608, 11_604_452)),
        ("kmax_axial_resnet50", "cityscapes", coco(8, 11), 74_823_693, 584_979, (41_343_424, 21_182_784, 11_604_452)),
    ],
)
def test_parameter_counts(backbone, kmax, classes, total, semantic, parts):
    """The reference's counts; Cityscapes has 19 semantic outputs and void beside them, the others count void in."""
    outputs = classes.num_outputs - (kmax == "cityscapes")
    options = text_format.Parse(
        f"""
        decoder {{ feature_key: "feature_semantic" atrous_rates: [6, 12, 18] }}
        max_deeplab {{
          auxiliary_low_level {{ feature_key: "res3" channels_project: 64 }}
          auxiliary_low_level {{ feature_key: "res2" channels_project: 32 }}
          auxiliary_semantic_head {{ output_channels: {outputs} head_channels: 256 }}
        }}
        """,
        model_pb2.ModelOptions(),
    )
    if kmax == "cityscapes":
        text_format.Merge(
            "kmax { num_mask_slots: 256 highest_stride: 2 auxiliary_semantic_decoder: false }", options.max_deeplab
        )
    made_norm = norm.batch_norm()
    model = kmax_deeplab.build(options, building.Kit(backbones.BACKBONES[backbone](norm=made_norm), classes, made_norm))
    model.build_variables()

    def count(*layers):
        return sum(int(np.prod(v.shape)) for layer in layers if layer is not None for v in layer.trainable_variables)

    assert count(model.semantic_decoder, model.semantic_head) == semantic
    assert tuple(map(count, (model.backbone, model.pixel_decoder, model.transformer_decoder))) == parts
    assert count(model) == total
