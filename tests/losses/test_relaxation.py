"""ReMaX: numbers one can check by hand, and that the loss without it is the one it was."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import mask_targets, masks, pixelwise, relaxation
from deeplab2_kmax.losses.mask_transformer import MaskTransformerLoss
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, MaskTransformerOutput

LOG3 = float(np.log(3.0))  # its sigmoid is 3/4
# Class ids are not in the order of the class head: thing 3, then stuff 1 and 2, then void.
CLASSES = MaskClasses((3,), (1, 2), ignore_label=0, label_divisor=256)
LOSSES = "semantic_loss {} pq_style_loss { weight: 3 } mask_id_cross_entropy_loss {} instance_discrimination_loss {}"
MASK_TERMS = ("pq_style_loss_class_term", "pq_style_loss_mask_dice_term", "mask_id_cross_entropy_loss")


def test_agreement_pairs_classes_with_their_place_in_the_class_head():
    # Semantic logits by class id 0 (void), 1, 2, 3; the pixel says 3, and void, which does not count.
    semantic = tf.constant([[[[100.0, -100.0, -100.0, LOG3]]]])
    # The slots say 3 (first output); 2 (last before void); void.
    slots = tf.constant([[[LOG3, -100, -100, -100.0], [-100, -100, 100, -100], [-100, -100, -100, 100]]])
    agreement = relaxation.class_agreement(slots, semantic, CLASSES.class_ids)
    np.testing.assert_allclose(agreement, [[[[0.75 * 0.75, 0, 0]]]], atol=1e-6)
    # Undecided everywhere: 1/2 * 1/2 for each of the three classes.
    undecided = relaxation.class_agreement(tf.zeros([1, 2, 4]), tf.zeros([1, 1, 1, 4]), CLASSES.class_ids)
    np.testing.assert_allclose(undecided, np.full([1, 1, 1, 2], 0.75))


def test_relaxed_masks_and_their_gradients():
    logits, agreement = tf.constant([[[2.0, -4.0]]]), tf.constant([[[0.5, 0.25]]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits, agreement])
        relaxed = relaxation.relax_masks(logits, agreement)
    np.testing.assert_allclose(relaxed, [[[3.0, -5.0]]])
    np.testing.assert_allclose(tape.gradient(relaxed, logits), [[[1.5, 1.25]]])
    assert tape.gradient(relaxed, agreement) is None


def test_no_gradient_passes_the_agreement_and_the_class_targets():
    slots, semantic, mask_logits = tf.zeros([1, 2, 4]), tf.zeros([1, 1, 1, 4]), tf.zeros([1, 3, 2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([slots, semantic, mask_logits])
        agreement = relaxation.class_agreement(slots, semantic, CLASSES.class_ids)
        targets = relaxation.relax_classes(
            mask_logits, tf.constant([[0, 0, 1]]), tf.constant([[0, 3]]), num_outputs=4, eta=0.1
        )
    assert tape.gradient(agreement, [slots, semantic]) == [None, None]
    assert tape.gradient(targets, mask_logits) is None


def test_relaxed_class_targets():
    # Three pixels of output 0, of which the mask covers 1/2, 3/4 and 1, one of output 1 with 3/4, one void.
    mask_logits = tf.reshape(tf.constant([0.0, LOG3, 100.0, LOG3, 100.0]), [1, 5, 1])
    outputs = tf.constant([[0, 0, 0, 1, -1]])
    relax = lambda target: relaxation.relax_classes(  # noqa: E731
        mask_logits, outputs, tf.constant([[target]]), num_outputs=4, eta=0.4
    )
    # Covers: 2.25 / 3 = 3/4 and 3/4. The slot's own class stays 1; no class gets something for the void pixel.
    np.testing.assert_allclose(relax(0), [[[1.0, 0.3, 0, 0]]], atol=1e-5)
    np.testing.assert_allclose(relax(2), [[[0.3, 0.3, 1, 0]]], atol=1e-5)
    np.testing.assert_allclose(relax(3), [[[0.3, 0.3, 0, 1]]], atol=1e-5)


def test_cross_entropy_of_targets_that_do_not_sum_to_one():
    logits, targets = tf.constant([[[0.0, LOG3]]]), tf.constant([[[1.0, 0.5]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = relaxation.cross_entropy(logits, targets)
    np.testing.assert_allclose(loss, [[np.log(4) + 0.5 * np.log(4 / 3)]], rtol=1e-6)
    # softmax * sum(targets) - targets, with the softmax (1/4, 3/4).
    np.testing.assert_allclose(tape.gradient(loss, logits), [[[1.5 / 4 - 1, 4.5 / 4 - 0.5]]], rtol=1e-5)


def batch(size=33):
    semantic = np.full([2, size, size], 1)
    semantic[:, : size // 2, : size // 2] = 3
    semantic[1, -9:] = 2
    semantic[:, -2:] = 0
    return {
        "semantic_gt": tf.constant(semantic, tf.int32),
        "thing_id_mask_gt": tf.constant(np.where(semantic == 3, 0, -1), tf.int32),
        "thing_id_class_gt": tf.constant([[3, -1]] * 2, tf.int32),
        "semantic_loss_weight": tf.ones([2, size, size]),
    }


def prediction(seed):
    normal = tf.random.stateless_normal
    return MaskPrediction(
        normal([2, 6, 4], [seed, 0]),
        normal([2, 9, 9, 6], [seed, 1]),
        tf.math.l2_normalize(normal([2, 9, 9, 8], [seed, 2]), axis=-1),
    )


def output(relaxed=()):
    """Two auxiliary predictions; those (2: the final one) in `relaxed` have semantic logits at half the resolution."""
    normal = tf.random.stateless_normal
    semantic = tuple(normal([2, 5, 5, 4], [9, i]) if i in relaxed else None for i in range(3))
    return MaskTransformerOutput(
        prediction(0), normal([2, 9, 9, 4], [0, 3]), (prediction(1), prediction(2)), None, semantic if relaxed else ()
    )


def build(remax=None, losses=LOSSES, sample_k=20):
    options = model_pb2.ModelOptions.MaXDeepLabOptions(instance_discrimination_sample_k=sample_k)
    if remax is not None:
        text_format.Parse(remax, options.remax)
        options.remax.SetInParent()
    return MaskTransformerLoss(text_format.Parse(losses, trainer_pb2.LossOptions()), options, CLASSES)


@pytest.mark.parametrize("remax", [None, "remask: false reclass: false"])
def test_off_is_the_plain_loss_to_the_last_bit(remax):
    terms = build(remax)(output(), batch())
    plain = plain_terms(output(), batch())
    assert set(plain) < set(terms) and len(terms) == 3 * 4 + 2
    for name, value in plain.items():
        np.testing.assert_array_equal(terms[name], value, err_msg=name)


def plain_terms(out, targets):
    """The mask terms of kMaX-DeepLab, from their formulas alone."""
    truth = mask_targets.prepare(targets, 9, 9, CLASSES)
    flat = [p._replace(mask_logits=tf.reshape(p.mask_logits, [2, 81, 6])) for p in (out.prediction, *out.auxiliary)]
    matched = mask_targets.match(flat[0], tf.nn.softmax(flat[0].mask_logits), truth)
    terms = {}
    for prefix, p in zip(("", "aux_0", "aux_1"), flat):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(matched.target_classes, p.class_logits)
        weights = tf.where(matched.is_matched, 0.75, 0.25) * matched.class_weights
        dice = masks.dice_term(tf.nn.softmax(p.mask_logits), matched.pixel_slots, matched.mask_weights)
        mask_id = masks.mask_id_cross_entropy(p.mask_logits, matched.pixel_slots, truth.labelled)
        for name, value in zip(MASK_TERMS, (3 * pixelwise.reduce(weights * losses), 3 * dice, mask_id)):
            terms[prefix + name] = value
    return terms


def test_remask_changes_the_masks_of_its_blocks_alone():
    plain, relaxed = build()(output(), batch()), build("reclass: false")(output(relaxed=[0]), batch())
    added = set(relaxed) - set(plain)
    assert added == {"aux_0semantic_loss"}
    changed = {name for name in plain if not np.array_equal(plain[name], relaxed[name])}
    # Class terms depend on the masks through the weights alone, which are those of the final prediction.
    assert changed == {"aux_0" + name for name in MASK_TERMS[1:]} | {"total_loss"}


def test_remask_of_the_final_prediction_takes_part_in_the_matching():
    plain, relaxed = build()(output(), batch()), build("reclass: false")(output(relaxed=[2]), batch())
    assert set(relaxed) - set(plain) == {"aux_2semantic_loss"}
    for name in MASK_TERMS:  # The weights of the class term are Dice of the relaxed masks.
        assert not np.array_equal(plain[name], relaxed[name])


def test_reclass_changes_the_class_terms_alone():
    plain, relaxed = build()(output(), batch()), build("remask: false")(output(), batch())
    changed = {name for name in plain if not np.array_equal(plain[name], relaxed[name])}
    assert changed == {prefix + MASK_TERMS[0] for prefix in ("", "aux_0", "aux_1")} | {"total_loss"}
    without = build("remask: false reclass_eta: 0")(output(), batch())
    for name, value in plain.items():
        np.testing.assert_allclose(without[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_finite_and_graph_equals_eager(compiled):
    # Without samples: XLA draws others.
    loss, targets, out = build("", sample_k=0), batch(), output(relaxed=[0, 2])

    def gradients(*parts):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            semantic = (parts[3], None, parts[4])
            total = loss(MaskTransformerOutput(*parts[:3], None, semantic), targets)["total_loss"]
        return total, tape.gradient(total, parts)

    parts = (out.prediction, out.semantic_logits, out.auxiliary, *out.block_semantic_logits[::2])
    total, found = gradients(*parts)
    traced, _ = tf.function(gradients, jit_compile=compiled)(*parts)
    np.testing.assert_allclose(traced, total, rtol=1e-5)
    for gradient in tf.nest.flatten(found):
        assert np.isfinite(gradient).all() and np.any(gradient != 0)


def test_remask_needs_the_semantic_loss():
    with pytest.raises(ValueError, match=r"remax.remask needs loss_options.semantic_loss"):
        build("", "pq_style_loss {}")
    build("remask: false", "pq_style_loss {}")
