import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses.mask_transformer import MaskTransformerLoss
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput

CLASSES = MaskClasses((1, 2), (3,), ignore_label=0, label_divisor=256)
ALL = "semantic_loss {} pq_style_loss { weight: 3 } mask_id_cross_entropy_loss {} instance_discrimination_loss {}"


def build(losses=ALL, **sampling):
    options = text_format.Parse(losses, trainer_pb2.LossOptions())
    return MaskTransformerLoss(options, model_pb2.ModelOptions.MaXDeepLabOptions(**sampling), CLASSES)


def batch(size=33):
    semantic = np.full([2, size, size], 3)
    semantic[:, : size // 2, : size // 2] = 1
    semantic[:, -2:] = 0
    return {
        "semantic_gt": tf.constant(semantic, tf.int32),
        "thing_id_mask_gt": tf.constant(np.where(semantic == 1, 0, -1), tf.int32),
        "thing_id_class_gt": tf.constant([[1, -1, -1]] * 2, tf.int32),
        "semantic_loss_weight": tf.ones([2, size, size]),
    }


def prediction(seed, dtype=tf.float32, side=9):
    normal = tf.random.stateless_normal
    return MaskPrediction(
        tf.cast(normal([2, 6, 4], [seed, 0]), dtype),
        tf.cast(normal([2, side, side, 6], [seed, 1]), dtype),
        tf.cast(tf.math.l2_normalize(normal([2, side, side, 8], [seed, 2]), axis=-1), dtype),
    )


def output(dtype=tf.float32, auxiliary=1, semantic_side=9):
    logits = tf.cast(tf.random.stateless_normal([2, semantic_side, semantic_side, 4], [0, 3]), dtype)
    return MaskTransformerOutput(
        prediction(0, dtype), logits, tuple(prediction(index + 1, dtype) for index in range(auxiliary)), None
    )


def test_names_and_sum():
    terms = build()(output(auxiliary=2), batch())
    masks = ("pq_style_loss_class_term", "pq_style_loss_mask_dice_term", "mask_id_cross_entropy_loss")
    masks += ("instance_discrimination_loss",)
    expected = {prefix + name for prefix in ("", "aux_0", "aux_1") for name in masks} | {"semantic_loss"}
    total = terms.pop("total_loss")
    assert set(terms) == expected
    np.testing.assert_allclose(total, sum(value.numpy() for value in terms.values()), rtol=1e-6)


def test_a_loss_that_is_not_set_is_not_computed():
    terms = build("semantic_loss { weight: 2 }")(output(), batch())
    assert set(terms) == {"semantic_loss", "total_loss"}
    assert set(build("mask_id_cross_entropy_loss {}")(output(auxiliary=0)._replace(semantic_logits=None), batch())) == {
        "mask_id_cross_entropy_loss",
        "total_loss",
    }


def test_weights_multiply():
    single, double = build("semantic_loss {}"), build("semantic_loss { weight: 2 }")
    np.testing.assert_allclose(
        double(output(), batch())["semantic_loss"], 2 * single(output(), batch())["semantic_loss"], rtol=1e-6
    )


@pytest.mark.parametrize("sample_k", [0, 20])
def test_bfloat16_gives_finite_float32_losses(sample_k):
    loss = build(instance_discrimination_sample_k=sample_k, semantic_sample_k=sample_k)
    exact, rounded = loss(output(), batch()), loss(output(tf.bfloat16), batch())
    for name, value in rounded.items():
        assert value.dtype == tf.float32
        assert value.shape == [2]
        np.testing.assert_allclose(value, exact[name], rtol=0.1, err_msg=name)


@pytest.mark.parametrize("sample_k", [0, 20])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_finite_and_reach_everything(sample_k, compiled):
    loss = build(instance_discrimination_sample_k=sample_k, semantic_sample_k=sample_k)

    @tf.function(jit_compile=compiled)
    def gradients(*parts):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            total = loss(MaskTransformerOutput(*parts, None), batch())["total_loss"]
        return tape.gradient(total, parts)

    for gradient in tf.nest.flatten(gradients(*output()[:3])):
        assert np.isfinite(gradient).all()
        assert np.any(gradient != 0)


def test_weights_of_the_pq_style_terms_carry_no_gradient():
    """The class term's weights come from the masks, the Dice term's from the classes: neither learns through them."""
    out = output(auxiliary=1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(out[:3])
        terms = build("pq_style_loss {}")(out, batch())
    assert tape.gradient(terms["pq_style_loss_class_term"], out.prediction.mask_logits) is None
    assert tape.gradient(terms["pq_style_loss_mask_dice_term"], out.prediction.class_logits) is None
    for name in ("aux_0pq_style_loss_class_term", "aux_0pq_style_loss_mask_dice_term"):
        assert tape.gradient(terms[name], out.prediction) == MaskPrediction(None, None, None)


def test_more_samples_than_pixels():
    loss = build(instance_discrimination_sample_k=4096, semantic_sample_k=4096)
    terms = loss(output(), batch())
    # Drawing all pixels is not drawing at all.
    np.testing.assert_allclose(terms["semantic_loss"], build()(output(), batch())["semantic_loss"], rtol=1e-5)
    assert np.isfinite(terms["total_loss"]).all()


def test_sampling_follows_the_seed():
    loss = build(instance_discrimination_sample_k=10, semantic_sample_k=10)
    out, targets = output(), batch()
    first = loss(out, targets, seed=tf.constant([1, 2]))
    again, other = loss(out, targets, seed=tf.constant([1, 2])), loss(out, targets, seed=tf.constant([1, 3]))
    for name in ("instance_discrimination_loss", "semantic_loss"):
        np.testing.assert_array_equal(first[name], again[name])
        assert np.all(first[name] != other[name])
    # Every output draws its own sample: the same prediction twice gives two losses.
    twice = loss(out._replace(auxiliary=(out.prediction,)), targets, seed=tf.constant([1, 2]))
    assert np.all(twice["instance_discrimination_loss"] != twice["aux_0instance_discrimination_loss"])


def test_semantic_logits_may_be_coarser():
    terms = build(semantic_sample_k=8)(output(semantic_side=5), batch())
    assert np.isfinite(terms["semantic_loss"]).all()


@pytest.mark.parametrize("field", [0, 1])
def test_a_nan_stays_a_nan_of_its_example(field):
    out = output(auxiliary=0)
    spoiled = list(out.prediction)
    bad = spoiled[field].numpy()
    bad[1, 0] = np.nan
    spoiled[field] = tf.constant(bad)
    losses = build("pq_style_loss {} mask_id_cross_entropy_loss {}")
    for run in (losses, tf.function(losses), tf.function(losses, jit_compile=True)):
        terms = run(out._replace(prediction=MaskPrediction(*spoiled)), batch())
        for name, value in terms.items():
            np.testing.assert_array_equal(np.isnan(value), [False, True], err_msg=name)


def test_an_image_without_labels():
    targets = batch()
    targets["semantic_gt"] = tf.zeros_like(targets["semantic_gt"])
    targets["thing_id_mask_gt"] = tf.fill([2, 33, 33], -1)
    targets["thing_id_class_gt"] = tf.fill([2, 3], -1)
    terms = build(instance_discrimination_sample_k=10)(output(), targets)
    for name in ("semantic_loss", "mask_id_cross_entropy_loss", "pq_style_loss_mask_dice_term"):
        np.testing.assert_array_equal(terms[name], [0, 0])
    assert np.all(terms["pq_style_loss_class_term"] > 0)  # All slots learn void.


@pytest.mark.parametrize("dynamic", [False, True])
def test_sizes_may_be_unknown_until_run_time(dynamic):
    loss, out, targets = build(instance_discrimination_sample_k=10, semantic_sample_k=10), output(), batch()
    expected = loss(out, targets)["total_loss"]

    def relaxed(tensor):
        shape = [None if dynamic and size in (2, 9, 33) else size for size in tensor.shape]
        return tf.TensorSpec(shape, tensor.dtype)

    inputs = (out[:3], targets)
    run = tf.function(
        lambda parts, targets: loss(MaskTransformerOutput(*parts, None), targets),
        input_signature=tf.nest.map_structure(relaxed, inputs),
    )
    np.testing.assert_allclose(run(*inputs)["total_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ("", "loss_options is empty"),
        ("center_loss {}", "center_loss has no meaning for mask transformers"),
        ("semantic_loss { name: 'mse' }", "expected 'softmax_cross_entropy'"),
        ("pq_style_loss { name: 'dice' }", "pq_style_loss.name"),
        ("pq_style_loss { top_k_percent: 0.5 }", "remove its top_k_percent"),
        ("mask_id_cross_entropy_loss { top_k_percent: 20 }", r"must be in \(0, 1\], got 20"),
    ],
)
def test_options_without_meaning(losses, message):
    with pytest.raises(ValueError, match=message):
        build(losses)


def test_what_is_missing_is_named():
    targets = batch()
    del targets["thing_id_class_gt"]
    with pytest.raises(ValueError, match="lacks thing_id_class_gt"):
        build()(output(), targets)
    with pytest.raises(ValueError, match="no semantic logits"):
        build()(output()._replace(semantic_logits=None), batch())
    with pytest.raises(ValueError, match="no regular grid of 9 x 9"):
        build()(output(), batch(size=35))
