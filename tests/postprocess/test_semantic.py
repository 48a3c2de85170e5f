import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.layers import resize
from deeplab2_kmax.postprocess import semantic


def blocks(*shape, side):
    """Logits that are alike in squares, so that most pixels have neighbours of their class."""
    coarse = np.random.RandomState(0).randn(*shape)
    return np.kron(coarse, np.ones((1, side, side, 1))).astype(np.float32)


CASES = {
    "blocks": (blocks(2, 4, 5, 7, side=6), (93, 117)),
    "noise": (blocks(1, 9, 13, 3, side=1), (33, 49)),
    "one class": (np.stack([np.ones((1, 5, 6)), np.zeros((1, 5, 6))], axis=-1).astype(np.float32), (17, 21)),
    "smaller": (blocks(1, 6, 6, 4, side=4), (9, 11)),
    "same size": (blocks(1, 3, 3, 4, side=5), (15, 15)),
    "one place": (blocks(1, 1, 1, 4, side=1), (3, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_classes_and_probabilities_are_those_of_resized_logits(name):
    logits, size = CASES[name]
    resized = resize.bilinear(tf.constant(logits), size).numpy()

    maps = semantic.classify({semantic.LOGITS: tf.constant(logits)}, size)

    expected = resized.argmax(axis=-1)
    # Where two classes are as good as equal, rounding decides.
    best = np.sort(resized, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(maps.semantic.numpy()[clear], expected[clear])
    np.testing.assert_allclose(maps.semantic_scores, tf.nn.softmax(resized).numpy().max(axis=-1), rtol=1e-4)


def test_of_equal_classes_the_lowest_in_graphs_too():
    logits = tf.zeros([1, 5, 5, 3])
    classify = tf.function(semantic.classify, autograph=False)

    assert not classify({semantic.LOGITS: logits}, (17, 17)).semantic.numpy().any()


def test_probabilities_are_their_own_scores():
    probabilities = tf.constant([[[[0.2, 0.8], [0.6, 0.4]]]])

    maps = semantic.classify({semantic.PROBABILITIES: probabilities}, (1, 3))

    np.testing.assert_array_equal(maps.semantic, [[[1, 1, 0]]])
    np.testing.assert_allclose(maps.semantic_scores, [[[0.8, 0.6, 0.6]]], rtol=1e-6)


def test_borders_are_computed_some_at_a_time(monkeypatch):
    logits = tf.constant(blocks(1, 4, 5, 7, side=6))
    whole = semantic.most_probable(logits[0], (93, 117))
    monkeypatch.setattr(semantic, "BLOCK_NUMBERS", 7 * 50)

    np.testing.assert_array_equal(semantic.most_probable(logits[0], (93, 117)), whole)
