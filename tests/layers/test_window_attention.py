import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import window_attention


def filled(layer, x, seed=0):
    """The layer with random numbers in all its variables, biases included."""
    layer(x)
    for index, weight in enumerate(layer.weights):
        weight.assign(tf.random.stateless_normal(weight.shape, [seed, index]))
    return layer


def inputs(height, width, channels=4, batch=2):
    return tf.random.stateless_normal([batch, height, width, channels], [7, 7])


def straightforward(layer, x, side_y, side_x):
    """Attention position by position, over the real positions of the same window."""
    x = np.asarray(x, np.float64)
    weights = {w.name.split("/")[-1].split(":")[0]: np.asarray(w, np.float64) for w in layer.weights}
    q, k, v = (
        np.einsum("bhwc,cnd->bhwnd", x, weights[f"{name}_weight"]) + weights[f"{name}_bias"]
        for name in ("query", "key", "value")
    )
    table = tf.image.resize(
        tf.transpose(layer.position_bias, [1, 2, 0])[tf.newaxis], [2 * side_y - 1, 2 * side_x - 1], "bilinear"
    )[0].numpy()
    y = np.zeros_like(x)
    batch, height, width, _ = x.shape
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                top, left = i // side_y * side_y, j // side_x * side_x
                cells = [
                    (u, w)
                    for u in range(top, min(top + side_y, height))
                    for w in range(left, min(left + side_x, width))
                ]
                heads = []
                for n in range(layer.num_heads):
                    logits = np.array(
                        [
                            q[b, i, j, n] @ k[b, u, w, n] * layer.head_channels**-0.5
                            + table[u - i + side_y - 1, w - j + side_x - 1, n]
                            for u, w in cells
                        ]
                    )
                    shares = np.exp(logits - logits.max())
                    shares /= shares.sum()
                    heads.append(sum(share * v[b, u, w, n] for share, (u, w) in zip(shares, cells)))
                y[b, i, j] = np.einsum("nd,ndc->c", np.array(heads), weights["output_weight"]) + weights["output_bias"]
    return y


@pytest.mark.parametrize("height, width", [(3, 3), (4, 6), (5, 7), (1, 2)])
@pytest.mark.parametrize("window", [0, 2, 3])
def test_equals_the_definition(height, width, window):
    x = inputs(height, width)
    layer = filled(window_attention.WindowAttention(window=window, head_channels=2, position_span=3), x)
    expected = straightforward(layer, x, window or height, window or width)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-4)
    in_graph = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 4])])
    np.testing.assert_allclose(in_graph(x), expected, rtol=1e-4, atol=1e-4)


def test_padding_around_a_map_changes_nothing_within():
    x = inputs(4, 4)
    layer = filled(window_attention.WindowAttention(window=2, head_channels=2, position_span=2), x)
    np.testing.assert_allclose(layer(x)[:, :2, 2:], layer(x[:, :2, 2:]), rtol=1e-5, atol=1e-5)


def test_position_bias_is_read_at_every_call():
    x = inputs(3, 3)
    layer = filled(window_attention.WindowAttention(head_channels=2, position_span=3), x)
    run = tf.function(layer)
    before = run(x)
    layer.position_bias.assign_add(tf.random.stateless_normal(layer.position_bias.shape, [1, 1]))
    assert np.abs(before - run(x)).max() > 1e-2


def test_without_positions_the_order_of_pixels_does_not_matter():
    x = inputs(3, 3)
    layer = filled(window_attention.WindowAttention(head_channels=2), x)
    assert layer.position_bias is None
    np.testing.assert_allclose(layer(x)[:, ::-1], layer(x[:, ::-1]), rtol=1e-5, atol=1e-5)


def test_wrong_settings():
    with pytest.raises(ValueError, match="6 channels do not split into heads of 4"):
        window_attention.WindowAttention(head_channels=4)(inputs(2, 2, channels=6))
    with pytest.raises(ValueError, match="got -1"):
        window_attention.WindowAttention(window=-1)
