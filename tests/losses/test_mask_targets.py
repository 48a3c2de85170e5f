import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.losses import mask_targets
from deeplab2_kmax.losses.mask_targets import UnmatchedWeight
from deeplab2_kmax.protos import trainer_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction

# Things 5 and 3 (in data set order), stuff 1, ignore 255.
CLASSES = MaskClasses((5, 3), (1,), 255, 256)


def batch(semantic, thing_ids, thing_classes):
    return {
        "semantic_gt": tf.constant([semantic]),
        "thing_id_mask_gt": tf.constant([thing_ids]),
        "thing_id_class_gt": tf.constant([thing_classes]),
    }


# 2 x 3 pixels: instance 0 (class 3), instance 1 (class 5), crowd of class 5, two of stuff, void; room for 3 instances.
BATCH = batch([[3, 5, 5], [1, 1, 255]], [[0, 1, -1], [-1, -1, -1]], [3, 5, -1])


def test_prepare():
    truth = mask_targets.prepare(BATCH, 2, 3, CLASSES)
    np.testing.assert_array_equal(truth.rows, [[0, 1, -1, 3, 3, -1]])
    np.testing.assert_array_equal(truth.labelled, [[1, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(truth.is_thing, [[1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(truth.areas, [[1, 1, 0, 2]])
    np.testing.assert_array_equal(truth.is_real, [[1, 1, 0, 1]])
    np.testing.assert_array_equal(truth.class_outputs, [[1, 0, 3, 2]])  # Outputs: class 5, 3, 1, void.
    np.testing.assert_array_equal(truth.inverse_areas, [[6, 6, 6, 3, 3, 6]])


def test_instances_lost_at_a_coarser_grid_are_not_real():
    semantic, thing_ids = np.full([5, 9], 1), np.full([5, 9], -1)
    semantic[1, 1] = 3  # Between the points of stride 4.
    thing_ids[1, 1] = 0
    truth = mask_targets.prepare(batch(semantic, thing_ids, [3]), 2, 3, CLASSES)
    np.testing.assert_array_equal(truth.areas, [[0, 6]])
    np.testing.assert_array_equal(truth.is_real, [[0, 1]])


@pytest.mark.parametrize("dynamic", [False, True])
def test_subsample(dynamic):
    subsample = mask_targets.subsample
    if dynamic:
        spec = tf.TensorSpec([None, None, None], tf.int32)
        size = tf.TensorSpec([], tf.int32)
        subsample = tf.function(subsample, input_signature=[spec, size, size])
    labels = tf.reshape(tf.range(5 * 9), [1, 5, 9])
    np.testing.assert_array_equal(subsample(labels, 2, 3), [[0, 4, 8, 36, 40, 44]])
    np.testing.assert_array_equal(subsample(labels, 5, 9), [np.arange(45)])
    np.testing.assert_array_equal(subsample(labels, 1, 3), [[0, 4, 8]])
    np.testing.assert_array_equal(subsample(labels, 1, 1), [[0]])
    for grid in ((3, 3), (2, 4), (4, 9)):  # Steps 2 and 4; 8 / 3; 4 / 3.
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="aligned corners"):
            subsample(labels, *grid)


def prediction(mask_probabilities, class_probabilities):
    logits = tf.math.log(tf.constant([mask_probabilities], tf.float32))
    return MaskPrediction(tf.math.log(tf.constant([class_probabilities], tf.float32)), logits, None)


def matched(pred, truth, **options):
    return mask_targets.match(pred, tf.nn.softmax(pred.mask_logits), truth, **options)


def test_match():
    truth = mask_targets.prepare(BATCH, 2, 3, CLASSES)
    # Slot 0 covers the stuff, slot 1 instance 1, slot 2 instance 0, slot 3 nothing but a part of void.
    masks = np.full([6, 4], 0.01)
    for pixel, slot in enumerate((2, 1, 1, 0, 0, 3)):
        masks[pixel, slot] = 0.97
    classes = [[0.1, 0.1, 0.7, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.8, 0.05, 0.05], [0.1, 0.1, 0.1, 0.7]]
    result = matched(prediction(masks, classes), truth)

    np.testing.assert_array_equal(result.row_slots, [[2, 1, -1, 0]])
    np.testing.assert_array_equal(result.pixel_slots, [[2, 1, -1, 0, 0, -1]])
    np.testing.assert_array_equal(result.is_matched, [[1, 1, 1, 0]])
    np.testing.assert_array_equal(result.target_classes, [[2, 0, 1, 3]])
    np.testing.assert_allclose(result.mask_weights, [[0.7, 0.6, 0.8, 0]], rtol=1e-5)
    areas = np.array([1.97, 1.97, 1.01])  # Of slots 0, 1, 2 on the labelled pixels; crowd counts.
    dice = [1.94 / ((2 + areas[0]) / 2), 0.97 / ((1 + areas[1]) / 2), 0.97 / ((1 + areas[2]) / 2)]
    np.testing.assert_allclose(result.class_weights, [[*dice, 0.97 / 1.02]], rtol=1e-4)
    np.testing.assert_array_equal(result.poison, [0])

    weights = {
        option: matched(prediction(masks, classes), truth, unmatched_weight=option) for option in UnmatchedWeight
    }
    assert weights[UnmatchedWeight.UNIFORM].class_weights[0, 3] == 1
    np.testing.assert_allclose(weights[UnmatchedWeight.LABELLED_RATIO].class_weights[0, 3], 0.05 / 1.02, rtol=1e-3)
    without_crowd = matched(prediction(masks, classes), truth, ignore_crowd=True)
    np.testing.assert_allclose(without_crowd.class_weights[0, 1], 0.97 / ((1 + 1.0) / 2), rtol=1e-4)


def test_more_masks_than_slots():
    truth = mask_targets.prepare(BATCH, 2, 3, CLASSES)
    result = matched(prediction(np.ones([6, 1]), [[0.2, 0.2, 0.5, 0.1]]), truth)
    # The stuff is the largest and likeliest; the instances have no slot, and leave no trace in slot 0's target.
    np.testing.assert_array_equal(result.row_slots, [[-1, -1, -1, 0]])
    np.testing.assert_array_equal(result.pixel_slots, [[-1, -1, -1, 0, 0, -1]])
    np.testing.assert_array_equal(result.target_classes, [[2]])


def test_similarities_of_any_scale_are_told_apart():
    """Early in training they are tiny; DeepLab2's padding to a square rounds them away."""
    truth = mask_targets.prepare(BATCH, 2, 3, CLASSES)
    classes = np.array([[1e-6, 1e-6, 3e-6, 1.0], [1e-6, 3e-6, 1e-6, 1.0], [3e-6, 1e-6, 1e-6, 1.0]])
    result = matched(prediction(np.ones([6, 3]), classes), truth)
    np.testing.assert_array_equal(result.row_slots, [[1, 2, -1, 0]])


def test_a_nan_poisons_its_example_alone():
    good = prediction(np.ones([6, 3]), np.ones([3, 4]))
    both = MaskPrediction(
        tf.repeat(good.class_logits, 2, axis=0),
        tf.concat([good.mask_logits, tf.fill([1, 6, 3], np.nan)], axis=0),
        None,
    )
    truth = mask_targets.prepare({key: tf.repeat(value, 2, axis=0) for key, value in BATCH.items()}, 2, 3, CLASSES)
    for solver in mask_targets.hungarian.Solver:
        result = matched(both, truth, solver=solver)
        np.testing.assert_array_equal(result.poison, [0, np.nan])
        np.testing.assert_array_equal(result.row_slots[0] >= 0, [1, 1, 0, 1])


def test_weights_of_configs_have_the_same_numbers():
    assert {weight.name: weight.value for weight in UnmatchedWeight} == dict(
        trainer_pb2.LossOptions.UnmatchedSlotWeight.items()
    )
