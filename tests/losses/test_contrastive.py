import numpy as np
import tensorflow as tf

from deeplab2_kmax.losses import contrastive


def unit_features(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return tf.constant(values / np.linalg.norm(values, axis=-1, keepdims=True))


def test_to_masks():
    features = tf.constant([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    rows = tf.constant([[0, 0, 1, -1]])  # Mask 1 is stuff; mask 2 does not exist.
    loss = contrastive.to_masks(
        features,
        rows,
        tf.constant([[2.0, 1.0, 0.0]]),
        tf.constant([[True, True, False]]),
        tf.constant([[True, True, False, False]]),
    )
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-1 / 0.3))], rtol=1e-5)


def plain_between_pixels(features, rows):
    """The definition, with the [k, k] target."""
    masks = tf.one_hot(rows, 10)
    target = tf.matmul(masks, masks, transpose_b=True)
    target /= tf.maximum(tf.reduce_sum(target, axis=-1, keepdims=True), 1)
    logits = tf.matmul(features, features, transpose_b=True) / 0.3
    # Not TensorFlow's softmax_cross_entropy: rows of a zero target have a zero loss there, but not a zero gradient.
    losses = -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=-1)
    return tf.reduce_sum(losses, axis=1) / tf.cast(tf.math.count_nonzero(losses, axis=1), tf.float32)


def test_between_pixels_by_hand():
    features = tf.constant([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    # The third sample is void, a negative for the other two.
    loss = contrastive.between_pixels(features, tf.constant([[0, 0, -1]]), 1)
    np.testing.assert_allclose(loss, [np.log(2 * np.exp(1 / 0.3) + 1) - 1 / 0.3], rtol=1e-5)


def test_between_pixels_and_its_gradient_follow_the_definition():
    features, rows = unit_features(2, 12, 4), tf.constant(np.random.default_rng(1).integers(-1, 4, (2, 12)))
    rows = tf.cast(rows, tf.int32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        ours, plain = contrastive.between_pixels(features, rows, 10), plain_between_pixels(features, rows)
    np.testing.assert_allclose(ours, plain, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, features), tape.gradient(plain, features), atol=1e-6)


def test_no_masks_no_loss():
    features, none = unit_features(1, 5, 4), tf.fill([1, 5], -1)
    np.testing.assert_array_equal(contrastive.between_pixels(features, none, 3), [0])
    areas, absent = tf.zeros([1, 3]), tf.fill([1, 3], False)
    np.testing.assert_array_equal(contrastive.to_masks(features, none, areas, absent, none >= 0), [0])
