"""Numbers of the mask predictor."""

import math

import numpy as np
import tensorflow as tf

from deeplab2_kmax.heads import masks
from deeplab2_kmax.layers import activations, norm


def predictor(num_outputs=5):
    layer = masks.MaskPredictor(
        num_outputs, head_channels=4, feature_channels=3, norm=norm.batch_norm(), activation=activations.gelu
    )
    layer.build_variables(6)
    return layer


def inputs():
    random = np.random.RandomState(0)
    return [tf.constant(random.standard_normal(shape), tf.float32) for shape in ((2, 3, 4, 6), (2, 5, 6), (2, 5, 6))]


def test_void_prior_is_added_in_every_call():
    layer = predictor()
    for variable in (layer.class_head.kernel, layer.class_head.bias):
        variable.assign(tf.zeros_like(variable))
    for training in (False, True):
        logits = layer(*inputs(), training=training).class_logits
        # Four classes share 0.1, void has 0.9.
        np.testing.assert_allclose(logits[0, 0], [0, 0, 0, 0, math.log(4 * 0.9 / 0.1)], rtol=1e-6)
        np.testing.assert_allclose(tf.nn.softmax(logits)[0, 0], [0.025] * 4 + [0.9], rtol=1e-5)


def test_coco_prior():
    assert abs(predictor(134).class_prior[-1] - 7.0876) < 1e-4


def test_features_have_unit_length_and_logits_one_scale():
    layer = predictor()
    prediction = layer(*inputs())
    np.testing.assert_allclose(tf.norm(prediction.pixel_features, axis=-1), np.ones([2, 3, 4]), rtol=1e-5)
    layer.mask_norm.gamma.assign([0.2])
    np.testing.assert_allclose(layer(*inputs()).mask_logits, 2 * prediction.mask_logits, rtol=1e-4, atol=1e-6)


def test_assignment_follows_the_sign_of_the_scale():
    layer = predictor()
    pixels, _, clusters = inputs()
    for gamma in (0.1, -0.1):
        layer.mask_norm.gamma.assign([gamma])
        layer.mask_norm.beta.assign([3.0])
        full = layer(*inputs()).mask_logits
        np.testing.assert_array_equal(
            tf.argmax(layer.assignment_logits(pixels, clusters), -1), tf.argmax(full, axis=-1)
        )
