"""Numbers one can check by hand, of the layers that decide something."""

import math

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import (
    activations,
    attention,
    axial_attention,
    drop_path,
    fuse,
    kmeans_attention,
    norm,
    residual,
    resize,
    squeeze_excite,
)

NORM = norm.batch_norm()


def test_gelu_is_the_exact_one():
    x = np.array([-3.0, -1.0, 0.0, 0.5, 2.0], np.float32)
    expected = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(activations.gelu(tf.constant(x)), expected, rtol=1e-5, atol=1e-7)


def test_activations_by_name():
    assert activations.get("ReLU")(tf.constant(-1.0)) == 0.0
    assert activations.get(None)(3.0) == 3.0
    np.testing.assert_allclose(activations.get("hard_sigmoid")(tf.constant(3.0)), 6 * 0.16667)
    np.testing.assert_allclose(activations.get("hard_swish")(tf.constant(1.0)), 4 / 6, rtol=1e-6)
    with pytest.raises(ValueError, match="Did you mean: gelu"):
        activations.get("gellu")


def test_resize_aligns_the_corners():
    x = tf.reshape(tf.constant([0.0, 2.0, 8.0]), [1, 3, 1, 1])
    np.testing.assert_allclose(resize.bilinear(x, (5, 1))[0, :, 0, 0], [0, 1, 2, 5, 8])
    np.testing.assert_allclose(resize.bilinear(x, (1, 1))[0, :, 0, 0], [0])
    assert resize.bilinear(x, (3, 1)) is x
    assert resize.bilinear(tf.cast(x, tf.bfloat16), (5, 2)).dtype == tf.bfloat16


def test_drop_path_keeps_the_expectation_and_whole_samples():
    layer = drop_path.DropPath(0.25)
    with drop_path.seeded(tf.constant([3, 4])):
        y = layer(tf.ones([4000, 2, 2, 1]), training=True).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all()
    assert abs(y.mean() - 1.0) < 0.05
    np.testing.assert_array_equal(layer(tf.ones([2, 1])), np.ones([2, 1]))


def test_random_masks_depend_on_the_seed_and_the_order_of_draws():
    x, layer = tf.ones([64, 1]), drop_path.DropPath(0.5)

    def draws(seed):
        with drop_path.seeded(tf.constant(seed)):
            return [layer(x, training=True).numpy() for _ in range(2)]

    first, second = draws([1, 2])
    assert (first != second).any()
    np.testing.assert_array_equal(draws([1, 2]), [first, second])
    assert (draws([1, 3])[0] != first).any()


@pytest.mark.parametrize("make", [drop_path.DropPath, drop_path.Dropout])
def test_rates_lie_in_range(make):
    with pytest.raises(ValueError, match="rate"):
        make(1.0)


def test_residual_block_starts_from_the_activated_input():
    """At the start the branch is 0 (its last gamma is), so a block passes on its activated, subsampled input."""
    block = residual.Bottleneck(1, stride=2, norm=NORM, activation=activations.relu)
    x = tf.random.stateless_normal([1, 5, 5, 4], [1, 2])
    np.testing.assert_allclose(block(x), tf.nn.relu(x)[:, ::2, ::2], atol=1e-6)


def test_squeeze_excite_scales_channels():
    layer = squeeze_excite.SimplifiedSqueezeExcite()
    layer(tf.zeros([1, 2, 2, 1]))
    layer.conv.kernel.assign([[[[2.0]]]])
    layer.conv.bias.assign([-1.0])
    # Mean 1: hard_sigmoid(2 * 1 - 1) = 4 * 0.16667.
    x = tf.reshape(tf.constant([0.0, 0.0, 2.0, 2.0]), [1, 2, 2, 1])
    np.testing.assert_allclose(layer(x), np.asarray(x) * 4 * 0.16667, rtol=1e-5)


def test_kmeans_sums_the_values_of_the_pixels_that_chose_a_cluster():
    layer = kmeans_attention.KMeansUpdate(3, 2, norm=norm.batch_norm(epsilon=0.0))
    values = tf.constant([[[[1.0, 10.0], [2.0, 20.0]], [[4.0, 40.0], [8.0, 80.0]]]])
    chosen = tf.constant([[[2, 0], [2, 2]]])
    layer(values, chosen)
    layer.project.conv.kernel.assign(tf.eye(2))
    layer.project.norm.gamma.assign([1.0, 1.0])
    # Cluster 1 is empty; sums, not means.
    np.testing.assert_allclose(layer(values, chosen), [[[2, 20], [0, 0], [13, 130]]], rtol=1e-5)


def test_the_first_of_equal_clusters_wins():
    logits = tf.constant([[[[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]]])
    np.testing.assert_array_equal(kmeans_attention.assign(logits), [[[1, 0]]])


def test_attention_averages_the_values_when_keys_are_alike():
    layer = attention.MultiHeadAttention(
        2, 4, num_heads=2, norm=norm.batch_norm(epsilon=0.0), activation=activations.relu
    )
    queries = tf.ones([1, 1, 2])
    keys = tf.zeros([1, 2, 2])
    values = tf.constant([[[1.0, 2.0, 3.0, -4.0], [3.0, 4.0, 5.0, -6.0]]])
    np.testing.assert_allclose(layer(queries, keys, values), [[[2.0, 3.0, 4.0, 0.0]]], rtol=1e-5)


def test_relative_positions_index_by_key_minus_query():
    layer = axial_attention.RelativePositions(1)
    layer.build([None, 3, 1])
    layer.embeddings.assign(tf.reshape(tf.range(-254.0, 255.0), [509, 1]))
    np.testing.assert_array_equal(layer.between(3, tf.float32)[..., 0], [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]])


def test_relative_positions_are_clipped_on_long_axes():
    layer = axial_attention.RelativePositions(1)
    layer.build([None, 3, 1])
    layer.embeddings.assign(tf.reshape(tf.range(-254.0, 255.0), [509, 1]))
    table = layer.between(300, tf.float32)[..., 0].numpy()
    assert table[0, 299] == 254 and table[299, 0] == -254 and table[10, 299] == 254 and table[20, 30] == 10


def test_axial_attention_against_the_written_formula():
    random = np.random.RandomState(0)
    heads, dk, dv, length = 2, 2, 3, 4
    layer = axial_attention.AxialAttention1D(heads * dk, heads * dv, num_heads=heads, norm=norm.batch_norm(epsilon=0.0))
    x = random.standard_normal([1, length, 5]).astype(np.float32)
    layer(tf.constant(x))
    for table in (layer.query_positions, layer.key_positions, layer.value_positions):
        table.embeddings.assign(0.5 * random.standard_normal(table.embeddings.shape))
    scale = random.uniform(0.5, 1.5, [3, 1, heads, 1, 1])
    layer.similarity_norm.gamma.assign(scale)
    q, k, v = np.split(x[0] @ layer.qkv_kernel.numpy(), [heads * dk, 2 * heads * dk], axis=-1)
    rows = {name: getattr(layer, f"{name}_positions").embeddings.numpy() for name in ("query", "key", "value")}
    expected = np.zeros([length, heads * dv])
    for head in range(heads):
        keys, values = slice(head * dk, (head + 1) * dk), slice(head * dv, (head + 1) * dv)
        for i in range(length):
            logits = [
                scale[0, 0, head, 0, 0] * q[i, keys] @ k[j, keys]
                + scale[1, 0, head, 0, 0] * q[i, keys] @ rows["query"][j - i + 254]
                + scale[2, 0, head, 0, 0] * k[j, keys] @ rows["key"][j - i + 254]
                for j in range(length)
            ]
            weights = np.exp(logits) / np.sum(np.exp(logits))
            for j in range(length):
                expected[i, values] += weights[j] * (v[j, values] + rows["value"][j - i + 254])
    np.testing.assert_allclose(layer(tf.constant(x))[0], expected, rtol=1e-4, atol=1e-5)


def test_axial_attention_strides_rows_and_columns():
    layer = axial_attention.AxialAttention(4, 4, stride=2, num_heads=2, norm=NORM)
    one = axial_attention.AxialAttention(4, 4, num_heads=2, norm=NORM)
    x = tf.random.stateless_normal([1, 5, 7, 4], [1, 2])
    layer(x), one(x)
    one.set_weights(layer.get_weights())
    assert layer(x).shape == (1, 3, 4, 4)
    np.testing.assert_allclose(layer(x), one(x)[:, ::2, ::2], rtol=1e-4, atol=1e-5)


def test_fuse_leaves_matching_channels_alone():
    layer = fuse.ResizedFuse(2, norm=NORM, activation=activations.relu)
    coarse, fine = -tf.ones([1, 2, 2, 2]), -tf.ones([1, 3, 3, 2])
    np.testing.assert_allclose(layer((coarse, fine)), -2 * np.ones([1, 3, 3, 2]))
    assert not layer.variables


def test_stacked_fuse_adds_kept_features_as_they_are():
    kept = [tf.fill([1, 3, 3, 2], -1.0), tf.fill([1, 3, 3, 2], 5.0)]
    layer = fuse.StackedFuse(2, norm=NORM, activation=activations.relu)
    np.testing.assert_allclose(layer((-tf.ones([1, 2, 2, 2]), *kept)), 3 * np.ones([1, 3, 3, 2]))
    assert not layer.variables


def test_stacked_fuse_strides_to_half_the_resolution():
    layer = fuse.StackedFuse(1, strided=True, norm=norm.batch_norm(epsilon=0.0), activation=activations.relu)
    current = tf.reshape(tf.range(-4.0, 21.0), [1, 5, 5, 1])
    layer((current, tf.zeros([1, 3, 3, 1])))
    layer.strided.conv.kernel.assign([[[[2.0]]]])
    expected = 2 * np.maximum(current[0, ::2, ::2, 0], 0)
    np.testing.assert_allclose(layer((current, tf.ones([1, 3, 3, 1])))[0, ..., 0], expected + 1, rtol=1e-5)


def test_stacked_fuse_wants_kept_features_of_its_channels():
    layer = fuse.StackedFuse(2, norm=NORM, activation=activations.relu)
    with pytest.raises(ValueError, match=r"kept features of 2 channels, but got \[3\]"):
        layer((tf.zeros([1, 2, 2, 2]), tf.zeros([1, 3, 3, 3])))
