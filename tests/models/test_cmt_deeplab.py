"""The whole CMT-DeepLab at a tiny size: modes, outputs, training steps, losses, serving."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import architectures
from deeplab2_kmax.layers import reference_masks
from deeplab2_kmax.losses import mask_targets, mask_transformer, masks
from deeplab2_kmax.models import cmt_deeplab
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.serving import network
from tests.models import small
from tests.models.test_kmax_deeplab import images, policy, randomize
from tests.trainer import tiny

LOSSES = """
semantic_loss {} pq_style_loss { weight: 3 } mask_id_cross_entropy_loss { weight: 0.3 } instance_discrimination_loss {}
"""


def build(changes="", own="", **settings):
    options = small.options(f"max_deeplab {{ cmt {{ {own} }} {changes} }}")
    model = cmt_deeplab.build(options, small.kit(small.backbone(**settings)))
    model.build_variables()
    return model


def batch(height=33, width=65):
    semantic = np.full([2, height, width], 3)
    semantic[:, : height // 2, : width // 2] = 1
    semantic[:, -2:] = 0
    return {
        "semantic_gt": tf.constant(semantic, tf.int32),
        "thing_id_mask_gt": tf.constant(np.where(semantic == 1, 0, -1), tf.int32),
        "thing_id_class_gt": tf.constant([[1, -1, -1]] * 2, tf.int32),
        "semantic_loss_weight": tf.ones([2, height, width]),
    }


def build_loss(own=""):
    options = model_pb2.ModelOptions.MaXDeepLabOptions(instance_discrimination_sample_k=20)
    text_format.Parse(f"cmt {{ {own} }}", options)
    return mask_transformer.MaskTransformerLoss(
        text_format.Parse(LOSSES, trainer_pb2.LossOptions()), options, small.CLASSES
    )


@pytest.fixture(scope="module")
def model():
    built = build()
    randomize(built)
    return built


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "graph"])
def test_training_outputs(model, graph):
    def run(x):
        return model(x, training=True)

    output = (tf.function(run) if graph else run)(images())
    assert output.prediction.class_logits.shape == (2, 6, 5)
    assert output.prediction.mask_logits.shape == (2, 9, 17, 6)
    assert output.prediction.pixel_features.shape == (2, 9, 17, 4)
    assert output.semantic_logits.shape == (2, 9, 17, 5)
    assert [p.mask_logits.shape for p in output.auxiliary] == [(2, 9, 17, 6)] * 3
    assert [tuple(r.shape) for r in output.reference_masks] == [(2, 6, 4)] * 3
    assert output.block_semantic_logits == ()


def test_inference_in_a_graph_equals_eager_at_any_size(model):
    graph = tf.function(
        lambda x: model(x, training=False).prediction, input_signature=[tf.TensorSpec([None, None, None, 3])]
    )
    for height, width in ((33, 65), (64, 50)):
        output = model(images(height, width), training=False)
        assert output.auxiliary == () and output.reference_masks == ()
        lean = model.predict_masks(images(height, width))
        for expected, traced, left in zip(output.prediction, graph(images(height, width)), lean):
            np.testing.assert_allclose(traced, expected, rtol=0, atol=1e-4 * np.std(expected))
            np.testing.assert_allclose(left, expected, rtol=0, atol=1e-4 * np.std(expected))


def test_cluster_maps_have_one_entry_per_layer(model):
    maps = model.cluster_maps(images())
    assert [tuple(m.shape) for m in maps] == [(2, 2, 3), (2, 3, 5), (2, 5, 9)]
    assert all(m.dtype == tf.int32 and int(tf.reduce_max(m)) < 6 for m in maps)


def test_what_a_layer_adds_to_pixels_reaches_finer_levels(model):
    pyramid = model.backbone(normalized(images()))
    without = model.pixel_decoder(pyramid)[-1]
    seen = []

    def update(level, pixels):
        seen.append((level, pixels.shape[1:3]))
        return pixels + 1.0 if level == 0 else pixels

    changed = model.pixel_decoder(pyramid, update=update)[-1]
    assert seen == [(0, (2, 3)), (1, (3, 5)), (2, (5, 9)), (3, (9, 17))]
    assert np.abs(changed - without).max() > 0


def normalized(pictures):
    return pictures / 127.5 - 1.0


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_steps_lower_the_loss_and_gradients_reach_everything(precision):
    with policy(precision):
        model = build(drop_path_keep_prob=0.9)
    loss, pictures, targets = build_loss(), images(), batch()

    @tf.function
    def step(seed):
        with tf.GradientTape() as tape:
            output = model(pictures, training=True, seed=seed)
            terms = loss(output, targets)
            total = tf.reduce_mean(terms["total_loss"])
        gradients = tape.gradient(total, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, tf.clip_by_global_norm(gradients, 1.0)[0]):
            variable.assign_sub(0.05 * gradient)
        return terms, gradients, [x for x in tf.nest.flatten(output) if x is not None]

    totals = []
    for _ in range(6):
        terms, gradients, tensors = step(tf.constant([0, 1]))
        totals.append(float(tf.reduce_mean(terms["total_loss"])))
    assert totals[-1] < totals[0]
    assert all(x.dtype == tf.float32 for x in tensors)
    assert all(variable.dtype == tf.float32 for variable in model.variables)
    for variable, gradient in zip(model.trainable_variables, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), variable.name
    masks_terms = {"pq_style_loss_class_term", "pq_style_loss_mask_dice_term", "mask_id_cross_entropy_loss"}
    masks_terms |= {"instance_discrimination_loss"}
    names = {prefix + name for prefix in ("", "aux_0", "aux_1", "aux_2") for name in masks_terms}
    names |= {f"aux_{i}reference_mask_loss" for i in range(3)} | {"semantic_loss", "total_loss"}
    assert set(terms) == names


def test_reference_mask_term_by_hand():
    # One row of four pixels, two slots: the first should be the left two, the second is not matched.
    log_masks = tf.math.log(tf.constant([[[1.0, 0.1], [0.5, 0.1], [0.5, 0.1], [1.0, 0.1]]]))
    slots, matched = tf.constant([[0, 0, 1, -1]]), tf.constant([[True, False]])
    # Overlap 1.5; areas 2 (the void pixel does not count) and 2.
    expected = 1 - (2 * 1.5 + 1) / (2 + 2 + 1)
    np.testing.assert_allclose(masks.reference_mask_term(log_masks, slots, matched), [expected], rtol=1e-5)


def test_reference_mask_loss_is_that_of_the_gaussians(model):
    output, targets = model(images(), training=True), batch()
    terms, double = build_loss()(output, targets), build_loss("reference_mask_loss_weight: 2")(output, targets)
    truth = mask_targets.prepare(targets, 9, 17, small.CLASSES)
    main = output.prediction._replace(mask_logits=tf.reshape(output.prediction.mask_logits, [2, 153, 6]))
    matched = mask_targets.match(main, tf.nn.softmax(main.mask_logits), truth)
    for index, references in enumerate(output.reference_masks):
        gaussians = tf.reshape(reference_masks.log_gaussian(references, 9, 17), [2, 153, 6])
        expected = masks.reference_mask_term(gaussians, matched.pixel_slots, matched.is_matched)
        np.testing.assert_allclose(terms[f"aux_{index}reference_mask_loss"], expected, rtol=1e-5)
        np.testing.assert_allclose(double[f"aux_{index}reference_mask_loss"], 2 * expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("own", ["logits_residual: GATED", "logits_residual: NONE", "reference_masks: false"])
def test_choices(own):
    model = build(own=own + " coordinates: false")
    output = model(images(), training=True)
    assert len(output.reference_masks) == (0 if "reference" in own else 3)
    assert (sum("gate" in variable.name for variable in model.trainable_variables) == 3) == ("GATED" in own)
    terms = build_loss(own)(output, batch())
    assert ("aux_0reference_mask_loss" in terms) == ("reference" not in own)


def test_recomputing_changes_nothing():
    results = []
    for recompute in ("false", "true"):
        model = build(f"kmax {{ recompute_transformer_decoder: {recompute} recompute_pixel_decoder: {recompute} }}")
        for index, variable in enumerate(model.variables):
            variable.assign(tf.random.stateless_uniform(variable.shape, [index, 1], 0.1, 0.9))
        with tf.GradientTape() as tape:
            output = model(images(), training=True, seed=tf.constant([1, 2]))
            loss = tf.reduce_mean(build_loss()(output, batch())["total_loss"])
        results.append((loss, tape.gradient(loss, model.trainable_variables)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    scale = max(float(tf.norm(gradient)) for gradient in results[0][1])
    for plain, recomputed in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(recomputed, plain, rtol=0, atol=1e-4 * scale)


def test_remax_is_not_for_cmt_deeplab():
    with pytest.raises(ValueError, match="max_deeplab.remax trains kMaX-DeepLab"):
        build("remax {}")


@pytest.mark.slow
def test_a_config_builds_and_serves_it(tmp_path):
    config = tiny.load(tmp_path, "model_options { max_deeplab { cmt {} } }")
    assert architectures.name_of(config.model_options) == "cmt_deeplab"
    model = architectures.build_model(config)
    model.build_variables()
    randomize(model)
    served = network.Network(model, config)
    pictures = images(tiny.CROP, tiny.CROP, 1)
    expected = model(pictures, training=False)
    got, named = tf.function(lambda x: (served.predict(x), served(x)), autograph=False)(pictures)
    np.testing.assert_allclose(got["transformer_class_logits"], expected.prediction.class_logits, atol=1e-4)
    np.testing.assert_allclose(got["pixel_space_mask_logits"], expected.prediction.mask_logits, atol=1e-3)
    assert named["panoptic_pred"].shape == (1, tiny.CROP, tiny.CROP)
