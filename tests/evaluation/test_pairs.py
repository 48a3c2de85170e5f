import numpy as np
import pytest
import tensorflow as tf

from evaluation import pairs, segments

LABELS = segments.Labels(num_classes=3, ignore_label=255, label_divisor=10)
MODES = ("eager", "graph", "xla", "xla without a table")


def run(function, *arrays, mode="eager"):
    """The function's results as NumPy values; XLA counts in a table of all pairs, or sorts the pixels."""
    call = function if mode == "eager" else tf.function(function, jit_compile=mode.startswith("xla"))
    with pytest.MonkeyPatch.context() as patch:
        if mode == "xla without a table":
            patch.setattr(pairs, "_LARGEST_TABLE", 0)
        return [np.asarray(each) for each in call(*[tf.constant(each) for each in arrays])]


def overlaps(y_true, y_pred, mode, labels=LABELS, max_segments=4):
    """Labels of the true and predicted slots, pixels of all pairs of slots [S, S], overflow, invalid."""

    def count(y_true, y_pred):
        found = pairs.overlaps(y_true, y_pred, labels, max_segments=max_segments)
        met, size = found.pairs, max_segments + 1
        table = tf.math.unsorted_segment_sum(found.counts[:, 0], met.true * size + met.pred, size * size)
        return met.true_labels, met.pred_labels, tf.reshape(table, [size, size]), found.overflow, found.invalid

    return run(count, y_true, y_pred, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_slots_and_counts(mode):
    y_true = [[10, 10, 21, 21], [2550, 10, 21, 2553]]
    y_pred = [[21, 21, 21, 2550], [10, 21, 11, 11]]
    true_labels, pred_labels, counts, overflow, invalid = overlaps(y_true, y_pred, mode)
    unused = tf.int32.max
    np.testing.assert_array_equal(true_labels, [-1, 10, 21, unused, unused])
    np.testing.assert_array_equal(pred_labels, [-1, 10, 11, 21, unused])
    expected = np.zeros((5, 5), int)
    expected[0] = [0, 1, 1, 0, 0]  # void: 2550 and 2553 are one
    expected[1] = [0, 0, 0, 3, 0]  # 10
    expected[2] = [1, 0, 1, 1, 0]  # 21
    np.testing.assert_array_equal(counts, expected)
    assert not overflow and not invalid


@pytest.mark.parametrize("mode", MODES)
def test_faults_are_seen_in_either_map(mode):
    full, void, crowded = [[0, 10, 11, 20, 20]], [[0, 10, 11, 20, 2550]], [[0, 10, 11, 20, 21]]
    for y_true, y_pred, too_many in ((full, full, 0), (void, void, 0), (crowded, void, 1), (void, crowded, 1)):
        assert overlaps(y_true, y_pred, mode)[3] == too_many  # void is no segment
    for label in (30, -1, 2540, 2560):
        bad = [[0, 10, 11, 20, label]]
        assert [overlaps(*maps, mode)[4] for maps in ((full, bad), (bad, full))] == [1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_void_inside_the_classes(mode):
    labels = segments.Labels(num_classes=3, ignore_label=1, label_divisor=10)
    true_labels, _, counts, _, _ = overlaps([[10, 13, 0, 29]], [[10, 0, 0, 0]], mode, labels)
    np.testing.assert_array_equal(true_labels[:4], [-1, 0, 29, tf.int32.max])
    assert counts[0, 0] == 1 and counts[0, 1] == 1 and counts[2, 1] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_degenerate_sizes(mode, shape):
    counts = overlaps(np.full(shape, 10, np.int32), np.full(shape, 2550, np.int32), mode)[2]
    assert counts[1, 0] == shape[0] * shape[1] and counts.sum() == shape[0] * shape[1]


def test_an_image_without_pixels():
    assert overlaps(np.zeros((0, 5), np.int32), np.zeros((0, 5), np.int32), "eager")[2].sum() == 0


@pytest.mark.parametrize("divisor", [65536, 100000])
def test_large_divisors_and_random_labels_agree_in_all_modes(divisor):
    rng = np.random.default_rng(0)
    labels = segments.Labels(3, 255, divisor)
    values = np.concatenate([rng.integers(0, 3 * divisor, 30), [255 * divisor, 255 * divisor + 1]]).astype(np.int32)
    y_true, y_pred = rng.choice(values, (2, 40, 50))
    eager, *others = (overlaps(y_true, y_pred, mode, labels, max_segments=40) for mode in MODES)
    for other in others:
        for a, b in zip(eager, other):
            np.testing.assert_array_equal(a, b)
    for row, label in enumerate(eager[0][1:31], start=1):
        assert eager[2][row].sum() == (y_true == label).sum()


def test_integers_beyond_int32_are_no_class():
    assert overlaps([[10, 10]], np.array([[2**32 + 10, -(2**40)]]), "eager")[4]
    assert overlaps([[10]], np.array([[2**31 + 10]], np.uint32), "eager")[4]


@pytest.mark.parametrize("mode", MODES)
def test_weights_and_levels(mode):
    def count(y_true, y_pred, weights, levels):
        found = pairs.overlaps(y_true, y_pred, LABELS, max_segments=3, weights=weights, levels=levels, num_levels=2)
        return found.pairs.sum_by_true(found.counts), found.pairs.sum_by_pred(found.counts)

    weights, levels = [[0.5, 0.25, 1.0, 1.0]], np.array([[0, 1, 1, 1]], np.int32)
    found = run(count, [[1, 1, 2, 2]], [[11, 11, 11, 2550]], np.float64(weights), levels, mode=mode)
    np.testing.assert_array_equal(found[0], [[0, 0], [0.5, 0.25], [0, 2], [0, 0]])
    np.testing.assert_array_equal(found[1], [[0, 1], [0.5, 1.25], [0, 0], [0, 0]])


@pytest.mark.parametrize("mode", MODES)
def test_sums_and_largest_values_of_segments(mode):
    def reduce(y_true, y_pred):
        found = pairs.overlaps(y_true, y_pred, LABELS, max_segments=3)
        met, pixels = found.pairs, found.counts[:, 0]
        of = met.of_true(met.sum_by_true(pixels)) * 100 + met.of_pred(met.sum_by_pred(pixels))
        meet = pixels > 0
        return met.max_by_true(pixels), met.max_by_pred(pixels), met.max_by_true(tf.where(meet, of, 0))

    # Slots: void, 1, 2, one unused; pixels (1, 1): 2, (1, 2): 1, (2, 2): 3.
    found = run(reduce, [[1, 1, 1, 2, 2, 2]], [[1, 1, 2, 2, 2, 2]], mode=mode)
    np.testing.assert_array_equal(found, [[0, 2, 3, 0], [0, 2, 3, 0], [0, 304, 304, 0]])


@pytest.mark.parametrize("mode", MODES)
def test_pairs_of_labels(mode):
    def areas(true, pred, pixels):
        found = pairs.pairs_of(true, pred)
        labels = found.of_true(found.true_labels), found.of_pred(found.pred_labels)
        return (*labels, found.of_true(found.sum_by_true(pixels)), found.of_pred(found.sum_by_pred(pixels)))

    true, pred = np.array([7, -1, 7, 3], np.int32), np.array([5, 5, -1, 5], np.int32)
    found = run(areas, true, pred, np.array([1, 2, 3, 4]), mode=mode)
    np.testing.assert_array_equal(found, [true, pred, [4, 2, 4, 4], [7, 7, 3, 7]])


@pytest.mark.parametrize("mode", MODES)
def test_keys_of_pairs(mode):
    true, pred = np.array([-1, 5, 2**31 - 2], np.int32), np.array([-1, -1, 2**31 - 2], np.int32)
    keys, *labels = run(lambda *each: (pairs.join(*each), *pairs.split(pairs.join(*each))), true, pred, mode=mode)
    assert keys[0] == 0 and (keys[1:] > 0).all()
    np.testing.assert_array_equal(labels, [true, pred])
