import numpy as np
import pytest
import tensorflow as tf

from evaluation import segments

LABELS = segments.Labels(num_classes=3, ignore_label=255, label_divisor=10)
MODES = ("eager", "graph", "xla")


def overlaps(y_true, y_pred, mode, labels=LABELS, max_segments=4):
    def count(y_true, y_pred):
        return segments.overlaps(y_true, y_pred, labels, max_segments=max_segments)

    if mode != "eager":
        count = tf.function(count, jit_compile=mode == "xla")
    found = count(tf.constant(y_true), tf.constant(y_pred))
    return segments.Overlaps(*[value.numpy() for value in found])


@pytest.mark.parametrize("mode", MODES)
def test_slots_and_counts(mode):
    y_true = [[10, 10, 21, 21], [2550, 10, 21, 2553]]
    y_pred = [[21, 21, 21, 2550], [10, 21, 11, 11]]
    found = overlaps(y_true, y_pred, mode)
    unused = tf.int32.max
    np.testing.assert_array_equal(found.true_labels, [-1, 10, 21, unused, unused])
    np.testing.assert_array_equal(found.pred_labels, [-1, 10, 11, 21, unused])
    expected = np.zeros((5, 5), int)
    expected[0] = [0, 1, 1, 0, 0]  # void: 2550 and 2553 are one
    expected[1] = [0, 0, 0, 3, 0]  # 10
    expected[2] = [1, 0, 1, 1, 0]  # 21
    np.testing.assert_array_equal(found.counts, expected)
    assert not found.overflow and not found.invalid


@pytest.mark.parametrize("mode", MODES)
def test_overflow_is_seen_in_either_map(mode):
    four, five = [[0, 10, 11, 20]], [[0, 10, 11, 20, 2550]]
    assert not overlaps(four, four, mode).overflow
    assert not overlaps(five, five, mode).overflow  # void is no segment
    crowded = [[0, 10, 11, 20, 21]]
    assert overlaps(crowded, five, mode).overflow
    assert overlaps(five, crowded, mode).overflow


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", [30, -1, 2540, 2560])
def test_labels_of_no_class_are_seen(mode, label):
    good, bad = [[0, 10, 11]], [[0, 10, label]]
    assert not overlaps(good, good, mode).invalid
    assert overlaps(good, bad, mode).invalid
    assert overlaps(bad, good, mode).invalid


@pytest.mark.parametrize("mode", MODES)
def test_void_inside_the_classes(mode):
    labels = segments.Labels(num_classes=3, ignore_label=1, label_divisor=10)
    found = overlaps([[10, 13, 0, 29]], [[10, 0, 0, 0]], mode, labels)
    np.testing.assert_array_equal(found.true_labels[:4], [-1, 0, 29, tf.int32.max])
    assert found.counts[0, 0] == 1 and found.counts[0, 1] == 1 and found.counts[2, 1] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_degenerate_sizes(mode, shape):
    found = overlaps(np.full(shape, 10, np.int32), np.full(shape, 2550, np.int32), mode)
    assert found.counts[1, 0] == shape[0] * shape[1] and found.counts.sum() == shape[0] * shape[1]


def test_an_image_without_pixels():
    assert overlaps(np.zeros((0, 5), np.int32), np.zeros((0, 5), np.int32), "eager").counts.sum() == 0


@pytest.mark.parametrize("divisor", [65536, 100000])
def test_large_divisors_and_random_labels_agree_in_all_modes(divisor):
    rng = np.random.default_rng(0)
    labels = segments.Labels(3, 255, divisor)
    values = np.concatenate([rng.integers(0, 3 * divisor, 30), [255 * divisor, 255 * divisor + 1]]).astype(np.int32)
    y_true, y_pred = rng.choice(values, (2, 40, 50))
    eager, graph, xla = (overlaps(y_true, y_pred, mode, labels, max_segments=40) for mode in MODES)
    for a, b, c in zip(eager, graph, xla):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    for row, label in enumerate(eager.true_labels[1:31], start=1):
        assert eager.counts[row].sum() == (y_true == label).sum()


def test_runs_of_equal_pairs():
    true, pred, pixels = segments.label_pairs(tf.constant([[1, 1, 1], [2, 2, 1]]), tf.constant([[5, 5, 6], [6, 6, 6]]))
    np.testing.assert_array_equal([true, pred, pixels], [[1, 1, 2, 1], [5, 6, 6, 6], [2, 1, 2, 1]])


@pytest.mark.parametrize("length", [1, 64, 65, 4097])
def test_prefix_sum(length):
    values = np.random.default_rng(0).integers(0, 5, length).astype(np.int32)
    np.testing.assert_array_equal(segments.prefix_sum(tf.constant(values)), np.cumsum(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint32, np.uint64])
def test_integers_of_any_type(dtype):
    np.testing.assert_array_equal(segments.as_int32(tf.constant([[0, 7, 200]], dtype)), [[0, 7, 200]])


def test_integers_beyond_int32_are_no_class():
    huge = tf.constant([[2**32 + 10, -(2**40)]], tf.int64)
    np.testing.assert_array_equal(segments.as_int32(huge), [[-1, -1]])
    assert overlaps([[10, 10]], huge.numpy(), "eager").invalid
    assert overlaps([[10]], np.array([[2**31 + 10]], np.uint32), "eager").invalid


def test_bad_arguments():
    with pytest.raises(ValueError, match="integer label map, got float32"):
        segments.as_int32(tf.constant([1.0]))
    with pytest.raises(ValueError, match="do not fit into int32"):
        segments.Labels(100, 255, 10_000_000).check()
    with pytest.raises(ValueError, match="label_divisor >= 1"):
        segments.Labels(100, 255, 0).check()
