"""The updates of a clustering layer, with numbers one can check by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.heads import masks
from deeplab2_kmax.layers import activations, norm, reference_masks, soft_assignment
from deeplab2_kmax.transformer_decoders import cmt

NORM = norm.batch_norm()
LOG3 = float(np.log(3.0))
PIXELS, CLUSTERS = (2, 3, 4, 6), (2, 5, 8)


def predictor():
    return masks.MaskPredictor(4, head_channels=8, feature_channels=8, norm=NORM, activation=activations.gelu)


def block(**changes):
    sizes = {"cluster_channels": 8, "filters": 4, "hidden": 8, "num_heads": 2, "pixel_channels": 6}
    layer = cmt.CMTBlock(predictor=predictor(), norm=NORM, activation=activations.gelu, **{**sizes, **changes})
    layer(*inputs(references=layer.reference_head is not None))
    random = np.random.RandomState(0)
    for variable in layer.variables:  # Gammas of 0 would hide the updates.
        if variable.name.endswith("gamma:0"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return layer


def inputs(logits=None, references=True):
    normal = tf.random.stateless_normal
    zeros = tf.zeros([2, 5, 4]) if references else None
    return normal(PIXELS, [0, 1]), cmt.Clusters(normal(CLUSTERS, [0, 2]), logits, zeros)


def test_one_table_of_logits_is_read_along_both_axes():
    logits = tf.constant([[[0.0, LOG3], [LOG3, 0.0], [0.0, 0.0]]])  # three pixels, two clusters
    np.testing.assert_allclose(
        soft_assignment.over_clusters(logits)[0], [[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]], rtol=1e-6
    )
    np.testing.assert_allclose(soft_assignment.over_pixels(logits)[0], [[0.2, 0.6], [0.6, 0.2], [0.2, 0.2]], rtol=1e-6)


def test_centres_get_both_sums_and_pixels_get_theirs():
    layer = soft_assignment.Retrieval(2, norm=norm.batch_norm(epsilon=1e-12))
    assignment = tf.constant([[[0.25, 0.75], [0.75, 0.25], [0.5, 0.5]]])
    values = tf.constant([[[4.0, 0.0], [0.0, 8.0], [2.0, 2.0]]])
    layer(values, tf.transpose(assignment, [0, 2, 1]))
    layer.project.conv.kernel.assign(tf.eye(2))
    layer.project.norm.gamma.assign(tf.ones([2]))
    # A^T v: 1/4 (4, 0) + 3/4 (0, 8) + 1/2 (2, 2), and the same with the second column.
    clustered = layer(values, tf.transpose(assignment, [0, 2, 1]))
    np.testing.assert_allclose(clustered[0], [[2, 7], [4, 3]], rtol=1e-5)
    # A v for clusters with the values (1, 0) and (0, 1) is A.
    np.testing.assert_allclose(layer(tf.eye(2)[tf.newaxis], assignment), assignment, rtol=1e-5)


def test_what_a_layer_sums_up(monkeypatch):
    """The three updates use one table of logits: over pixels, over clusters, over clusters."""
    layer, seen = block(), {}
    for name in ("pixel_attention", "clustering", "pixel_update"):
        child = getattr(layer, name)

        def call(values, weights, training=False, name=name, plain=child.call):
            seen[name] = weights
            return plain(values, weights, training=training)

        monkeypatch.setattr(child, "call", call)
    pixels, clusters = inputs()
    after, moved, step = layer(pixels, clusters)
    logits = tf.reshape(step.prediction.mask_logits, [2, 12, 5])
    np.testing.assert_allclose(seen["pixel_attention"], tf.nn.softmax(tf.transpose(logits, [0, 2, 1])), rtol=1e-5)
    np.testing.assert_allclose(seen["clustering"], tf.transpose(tf.nn.softmax(logits), [0, 2, 1]), rtol=1e-5)
    np.testing.assert_allclose(seen["pixel_update"], tf.nn.softmax(logits), rtol=1e-5)
    assert after.shape == pixels.shape and np.abs(after - pixels).max() > 0
    assert np.abs(moved.centers - clusters.centers).max() > 0


def test_updates_start_at_zero():
    layer = cmt.CMTBlock(predictor=predictor(), norm=NORM, activation=activations.identity, pixel_channels=6,
                         cluster_channels=8, filters=4, hidden=8, num_heads=2)  # fmt: skip
    pixels, clusters = inputs()
    after, moved, _ = layer(pixels, clusters)
    np.testing.assert_allclose(after, pixels)
    np.testing.assert_allclose(moved.centers, clusters.centers)


@pytest.mark.parametrize("residual, share", [("ADD", 1.0), ("GATED", 0.5), ("NONE", 0.0)])
def test_logits_of_the_layer_before(residual, share):
    layer = block(residual=cmt.Residual[residual])
    if layer.gate is not None:
        assert float(layer.gate) == 1.0
        layer.gate.assign(0.5)
    before = tf.random.stateless_normal([2, 3, 4, 5], [3, 3])
    _, first, _ = layer(*inputs())
    _, then, step = layer(*inputs(before))
    np.testing.assert_allclose(then.logits - first.logits, share * before, atol=1e-5)
    # The latest Gaussians count once: they are not in what the next layer gets.
    gaussians = reference_masks.log_gaussian(step.references, 3, 4)
    np.testing.assert_allclose(step.prediction.mask_logits, then.logits + gaussians, atol=1e-5)


def test_logits_are_resized_when_the_stride_changes():
    layer = block()
    before = tf.reshape(tf.constant([0.0, 2.0]), [1, 1, 2, 1]) * tf.ones([2, 1, 1, 5])  # [2, 1, 2, 5]
    _, first, _ = layer(*inputs())
    _, then, _ = layer(*inputs(before))
    difference = (then.logits - first.logits)[0, ..., 0]
    np.testing.assert_allclose(difference, [[0, 2 / 3, 4 / 3, 2]] * 3, atol=1e-5)


def test_references_are_refined():
    layer = block()
    layer.reference_head.kernel.assign(tf.zeros_like(layer.reference_head.kernel))
    layer.reference_head.bias.assign([0.0, LOG3, -1.0, 0.5])
    pixels, clusters = inputs()
    _, first, _ = layer(pixels, clusters)
    np.testing.assert_allclose(first.references, np.broadcast_to([0, LOG3, -1, 0.5], [2, 5, 4]), rtol=1e-6)
    _, second, _ = layer(pixels, clusters._replace(references=first.references))
    np.testing.assert_allclose(second.references, 2 * first.references, rtol=1e-6)


def test_without_coordinates_equal_pixels_are_equal():
    for coordinates in (True, False):
        layer = block(coordinates=coordinates, references=False)
        _, clusters = inputs(references=False)
        _, after, step = layer(tf.ones([2, 7, 8, 6]), clusters)
        assert step.references is None and after.references is None
        # The 5x5 convolution of the pixels in the middle does not see the border.
        middle = step.prediction.mask_logits[:, 3, 3:5]
        assert np.allclose(middle[:, 0], middle[:, 1], atol=1e-6) != coordinates


def test_recomputed_layers_give_the_same():
    results = []
    for recompute in (False, True):
        decoder = cmt.CMTTransformerDecoder(
            5, pixel_channels=(6, 6, 6), make_predictor=predictor, blocks=(1, 1, 0), cluster_channels=8,
            recompute=recompute, norm=NORM, activation=activations.gelu,
            block_options={"filters": 4, "hidden": 8, "num_heads": 2},
        )  # fmt: skip

        def run(pixels, decoder=decoder):
            x, clusters, steps = decoder(pixels, None, level=0, training=True)
            x, clusters, more = decoder(x[:, ::2], clusters, level=1, training=True)
            return x, clusters, steps + more

        pixels, _ = inputs()
        run(pixels)
        decoder.embeddings(run(pixels)[1])
        for variable in decoder.variables:
            start = tf.random.stateless_uniform(variable.shape, [len(variable.shape), 5], 0.5, 1.5)
            variable.assign(start)
        with tf.GradientTape() as tape:
            x, clusters, steps = run(pixels)
            loss = sum(tf.reduce_sum(t**2) for t in tf.nest.flatten((x, clusters, steps)))
        results.append((loss, tape.gradient(loss, decoder.trainable_variables)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    pairs = [(a, b) for a, b in zip(results[0][1], results[1][1]) if a is not None]
    assert len(pairs) > 50
    for plain, recomputed in pairs:
        np.testing.assert_allclose(recomputed, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max() + 1e-4)


def test_blocks_are_three_counts():
    with pytest.raises(ValueError, match="has 3 counts, not all 0"):
        cmt.CMTTransformerDecoder(
            5,
            pixel_channels=(6, 6, 6),
            make_predictor=predictor,
            blocks=(0, 0, 0),
            norm=NORM,
            activation=activations.gelu,
        )
