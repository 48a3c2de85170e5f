"""The losses of models of pixels, on numbers that can be checked by hand."""

import types

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import depth, pixel_terms
from deeplab2_kmax.protos import trainer_pb2


def make(text):
    return pixel_terms.PixelLoss(text_format.Parse(text, trainer_pb2.LossOptions()), ignore_label=255)


def image(values):
    return tf.constant(values, tf.float32)[tf.newaxis]


def test_terms_are_weighted_and_pixels_without_error_do_not_count():
    loss = make('center_loss { name: "mse" weight: 200 } regression_loss { name: "l1" weight: 0.5 }')
    output = types.SimpleNamespace(
        center_heatmap=image([[0.5, 1.0, 2.0]]), offset_map=image([[[1.0, 0.0], [3.0, 1.0], [9.0, 9.0]]])
    )
    targets = {
        "instance_center_gt": image([[0.0, 1.0, 1.0]]),
        "center_loss_weight": image([[1.0, 1.0, 0.0]]),
        "instance_regression_gt": image([[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]),
        "regression_loss_weight": image([[1.0, 1.0, 0.0]]),
    }
    terms = {name: float(values[0]) for name, values in loss(output, targets).items()}
    # One pixel of error 0.25; two pixels of errors 0.5 and 2.
    assert terms == {"center_loss": 50.0, "regression_loss": 0.625, "total_loss": 50.625}


def test_the_hardest_pixels_alone():
    loss = make("center_loss { top_k_percent: 0.5 }")
    output = types.SimpleNamespace(center_heatmap=image([[1.0, 2.0, 3.0, 4.0]]))
    targets = {"instance_center_gt": image([[0.0] * 4]), "center_loss_weight": image([[1.0] * 4])}
    assert float(loss(output, targets)["center_loss"][0]) == (9 + 16) / 2


def test_ignored_classes_and_class_weights():
    loss = make("semantic_loss {}")
    output = types.SimpleNamespace(semantic_logits=tf.zeros([1, 1, 3, 2]))
    targets = {
        "semantic_gt": tf.constant([[[0, 1, 255]]]),
        "semantic_loss_weight": image([[1.0, 3.0, 1.0]]),
    }
    assert float(loss(output, targets)["semantic_loss"][0]) == pytest.approx(np.log(2) * (1 + 3) / 2)


def test_depth_by_hand_and_without_a_known_pixel():
    # Twice too deep everywhere: the logarithms differ by a constant, the relative error is 1.
    found = depth.depth_loss(tf.constant([[2.0, 4.0], [1.0, 1.0]]), tf.constant([[1.0, 2.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-6)


def test_depth_has_a_finite_gradient_everywhere():
    predicted = tf.Variable([[0.0, 2.0], [1.0, 1.0], [3.0, 3.0]])
    with tf.GradientTape() as tape:
        loss = depth.depth_loss(predicted, tf.constant([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0]]))
    assert np.isfinite(tape.gradient(loss, predicted)).all()


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", "loss_options is empty"),
        ("pq_style_loss {}", "pq_style_loss has no meaning"),
        ('center_loss { name: "l1" }', "expected 'mse', got 'l1'"),
        ("depth_loss { top_k_percent: 0.5 }", "remove its top_k_percent"),
        ("unmatched_slot_weight: UNIFORM", "unmatched_slot_weight has no meaning"),
    ],
)
def test_options_without_a_meaning(options, expected):
    with pytest.raises(ValueError, match=expected):
        make(options)


def test_what_a_model_or_a_batch_lacks():
    loss = make("motion_loss {}")
    with pytest.raises(ValueError, match="the model has no frame_offset_map"):
        loss(types.SimpleNamespace(), {})
    with pytest.raises(ValueError, match="lacks frame_offset_gt, frame_regression_loss_weight"):
        loss(types.SimpleNamespace(frame_offset_map=tf.zeros([1, 1, 1, 2])), {})
