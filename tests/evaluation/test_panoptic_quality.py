import functools

import numpy as np
import pytest
import tensorflow as tf

from evaluation import panoptic_quality
from tests import replicas

MODES = ("eager", "graph", "xla")
THING, OTHER, ROAD = 0, 1, 2  # classes; 0 and 1 are things
VOID = 2550


def metric(**options):
    return panoptic_quality.PanopticQuality(3, 255, 10, [THING, OTHER], **options)


def update(quality, y_true, y_pred, mode="eager", **options):
    def step(y_true, y_pred):
        quality.update_state(y_true, y_pred, **options)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    step(tf.constant(y_true, tf.int32), tf.constant(y_pred, tf.int32))


@functools.cache
def compiled(mode, **options):
    """A metric and its update for maps [1, 8], traced once."""
    quality = metric(**options)
    return quality, tf.function(lambda *maps: quality.update_state(*maps) and None, jit_compile=mode == "xla")


def counts(y_true, y_pred, mode, **options):
    """tp, fp, fn, iou as lists over the classes. What is void in both maps counts nowhere, so it can fill them up."""
    y_true, y_pred = (tf.constant([labels + [VOID] * (8 - len(labels))]) for labels in (y_true, y_pred))
    quality, step = compiled(mode, **options)
    quality.reset_state()
    (quality.update_state if mode == "eager" else step)(y_true, y_pred)
    result = quality.result()
    return [result[key].numpy().tolist() for key in ("tp", "fp", "fn", "iou")]


@pytest.mark.parametrize("mode", MODES)
class TestRules:
    def test_match(self, mode):
        # Thing 1: 3 of 4 pixels; road: 4 of 5.
        tp, fp, fn, iou = counts([1, 1, 1, 1, 20, 20, 20, 20], [1, 1, 1, 20, 20, 20, 20, 20], mode)
        assert (tp, fp, fn) == ([1, 0, 1], [0, 0, 0], [0, 0, 0])
        assert iou == [0.75, 0, 0.8]

    def test_iou_of_exactly_a_half_is_no_match(self, mode):
        assert counts([1, 1, 20, 20, 20, 20], [1, VOID, 20, 20, 20, 20], mode)[:3] == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
        assert counts([1, 1, 1, 20], [1, 1, VOID, 20], mode)[0] == [1, 0, 1]

    def test_two_halves_match_nothing(self, mode):
        assert counts([1, 1, 1, 1], [1, 1, 2, 2], mode)[:3] == [[0, 0, 0], [2, 0, 0], [1, 0, 0]]

    def test_classes_do_not_match_each_other(self, mode):
        assert counts([1, 1, 1], [11, 11, 11], mode)[:3] == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]

    def test_a_stuff_class_with_an_instance_is_a_segment_of_its_own(self, mode):
        assert counts([20, 20, 20, 21, 21], [20, 20, 20, 21, 21], mode)[0] == [0, 0, 2]

    def test_predicted_void_is_nothing(self, mode):
        assert counts([1, 1, 20, 20], [VOID, VOID, VOID, VOID], mode)[:3] == [[0, 0, 0], [0, 0, 0], [1, 0, 1]]

    def test_void_leaves_the_union(self, mode):
        # 2 shared pixels, 3 of the prediction on void, whatever the instance of void.
        tp, _, _, iou = counts([1, 1, VOID, VOID, VOID + 7], [1, 1, 1, 1, 1], mode)
        assert tp == [1, 0, 0] and iou == [1, 0, 0]

    def test_void_excuses_more_than_half_only(self, mode):
        assert counts([VOID, VOID, VOID, 20], [1, 1, 1, 1], mode)[1] == [0, 0, 0]
        assert counts([VOID, VOID, 20, 20], [1, 1, 1, 1], mode)[1] == [1, 0, 0]

    def test_crowd_is_never_matched_nor_missed_and_excuses_its_class(self, mode):
        assert counts([0, 0, 0, 20], [1, 1, 1, 1], mode)[:3] == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
        assert counts([0, 0, 0, 20], [0, 0, 0, 20], mode)[:3] == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
        assert counts([0, 0, 20, 20], [1, 1, 1, 1], mode)[1] == [1, 0, 0]
        assert counts([0, 0, 0, 20], [11, 11, 11, 11], mode)[1] == [0, 1, 0]

    def test_crowd_and_void_excuse_together(self, mode):
        assert counts([0, 0, VOID, 20, 20], [1, 1, 1, 1, 1], mode)[1] == [0, 0, 0]

    def test_crowd_stays_in_the_union(self, mode):
        tp, _, _, iou = counts([1, 1, 1, 0], [1, 1, 1, 1], mode)
        assert tp == [1, 0, 0] and iou == [0.75, 0, 0]

    def test_crowd_as_void(self, mode):
        assert counts([1, 1, 1, 0], [1, 1, 1, 1], mode, crowd_as_void=True)[3] == [1, 0, 0]
        assert counts([0, 0, 0, 20], [11, 11, 11, 11], mode, crowd_as_void=True)[1] == [0, 0, 0]

    def test_a_predicted_thing_without_instance_is_a_segment(self, mode):
        assert counts([1, 1], [0, 0], mode)[0] == [1, 0, 0]

    def test_all_void(self, mode):
        quality = metric()
        update(quality, [[VOID, VOID]], [[1, 20]], mode)
        result = quality.result()
        for group in ("", "_things", "_stuff"):
            assert [float(result[key + group]) for key in ("pq", "sq", "rq", "n")] == [0, 0, 0, 0]

    def test_overflow_leaves_the_image_out(self, mode):
        quality = metric(max_segments=2)
        update(quality, [[1, 2, 3]], [[1, 1, 1]], mode)
        update(quality, [[1, 1, 20]], [[1, 1, 20]], mode)
        result = quality.result()
        assert result["overflow"] == 1 and result["tp"].numpy().tolist() == [1, 0, 1] and result["pq"] == 1

    def test_unknown_labels_leave_the_image_out(self, mode):
        quality = metric()
        update(quality, [[1, 1, 20]], [[1, 1, 30]], mode)
        assert quality.result()["invalid"] == 1 and quality.result()["n"] == 0

    def test_batch(self, mode):
        y_true, y_pred = scenes(3)
        batch, single = metric(), metric()
        update(batch, y_true, y_pred, mode)
        for pair in zip(y_true, y_pred):
            update(single, *pair)
        assert_same(batch, single)


def test_averages():
    quality = metric()
    update(quality, [[1, 1, 20, 20, 20, 20]], [[1, 1, 20, 20, 20, 11]])
    result = {key: value.numpy() for key, value in quality.result().items()}
    # Things: class 0 has PQ 1, class 1 one false positive; stuff: 3 of 4 pixels.
    np.testing.assert_allclose(result["pq_per_class"], [1, 0, 0.75])
    np.testing.assert_allclose([result["pq"], result["pq_things"], result["pq_stuff"]], [1.75 / 3, 0.5, 0.75])
    np.testing.assert_allclose([result["sq"], result["rq"]], [1.75 / 3, 2 / 3])
    assert [result["n"], result["n_things"], result["n_stuff"]] == [3, 2, 1]


def scenes(count, seed=0, size=(24, 31)):
    """Random maps of rectangles, the prediction shifted by a pixel."""
    rng = np.random.default_rng(seed)
    values = [0, 1, 2, 3, 10, 11, 12, 20, VOID, VOID + 1]
    maps = np.full((count, *size), 20, np.int32)
    for image in maps:
        for label in rng.permutation(values):
            row, column = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
            image[row : row + rng.integers(4, 12), column : column + rng.integers(4, 12)] = label
    return maps, np.roll(maps, 1, axis=2)


def assert_same(left, right):
    for key, value in left.result().items():
        np.testing.assert_allclose(value, right.result()[key], rtol=1e-12, err_msg=key)


def test_eager_graph_and_xla_agree():
    y_true, y_pred = scenes(1)
    found = {mode: metric() for mode in MODES}
    for mode, quality in found.items():
        update(quality, y_true[0], y_pred[0], mode)
    for key in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(found["eager"].result()[key], found["graph"].result()[key])
        np.testing.assert_array_equal(found["eager"].result()[key], found["xla"].result()[key])
    assert_same(found["eager"], found["graph"])
    assert_same(found["eager"], found["xla"])


def test_order_and_instance_ids_do_not_matter():
    y_true, y_pred = scenes(4)
    quality, shuffled = metric(), metric()
    update(quality, y_true, y_pred)

    def renamed(maps):
        table = np.arange(VOID + 10)
        table[[1, 2, 3]], table[[11, 12]] = [3, 1, 2], [12, 11]
        return table[maps]

    update(shuffled, renamed(y_true[::-1]), renamed(y_pred[::-1]))
    assert_same(quality, shuffled)


def test_ground_truth_against_itself():
    y_true, _ = scenes(4)
    quality = metric()
    update(quality, y_true, y_true)
    result = quality.result()
    np.testing.assert_array_equal(result["pq_per_class"], [1, 1, 1])
    assert result["fp"].numpy().sum() == 0


def test_states_add_reset_and_are_float64():
    y_true, y_pred = scenes(4)
    whole, first, second, third = metric(), metric(), metric(), metric()
    update(whole, y_true, y_pred)
    update(first, y_true[:1], y_pred[:1])
    update(second, y_true[1:3], y_pred[1:3])
    update(third, y_true[3:], y_pred[3:])
    first.merge_state([second, third])
    assert_same(whole, first)
    assert all(variable.dtype == tf.float64 for variable in whole.variables)
    first.reset_state()
    assert_same(first, metric())
    with pytest.raises(ValueError, match="max_segments"):
        whole.merge_state([metric(max_segments=7)])


def test_save_and_restore_in_the_middle(tmp_path):
    y_true, y_pred = scenes(4)
    whole, begun, resumed = metric(), metric(), metric()
    update(whole, y_true, y_pred)
    update(begun, y_true[:2], y_pred[:2])
    path = tf.train.Checkpoint(metric=begun).save(str(tmp_path / "state"))
    tf.train.Checkpoint(metric=resumed).restore(path).assert_consumed()
    update(resumed, y_true[2:], y_pred[2:])
    assert_same(whole, resumed)


def test_replicas_count_each_image_once(tmp_path):
    y_true, y_pred = scenes(6)
    whole = metric()
    update(whole, y_true, y_pred)
    strategy = replicas.two()
    with strategy.scope():
        shared, restored = metric(), metric()
    dataset = tf.data.Dataset.from_tensor_slices((y_true, y_pred)).batch(2)

    def run(quality, batches):
        @tf.function
        def step(maps):
            strategy.run(lambda y_true, y_pred: quality.update_state(y_true, y_pred) and None, args=maps)

        for maps in strategy.experimental_distribute_dataset(batches):
            step(maps)

    run(shared, dataset)
    assert_same(whole, shared)
    assert_same(whole, shared)  # reading has no effect
    # Odd totals survive the checkpoint, which divides them by the number of replicas.
    shared.reset_state()
    assert shared.result()["n"] == 0
    run(shared, dataset.take(1))
    path = tf.train.Checkpoint(metric=shared).save(str(tmp_path / "state"))
    tf.train.Checkpoint(metric=restored).restore(path).assert_consumed()
    run(restored, dataset.skip(1))
    assert_same(whole, restored)
    restored.merge_state([whole])
    np.testing.assert_array_equal(restored.result()["tp"], 2 * whole.result()["tp"])


def test_strict_raises():
    with pytest.raises(tf.errors.InvalidArgumentError, match="raise it"):
        update(metric(max_segments=1), [[1, 2]], [[1, 1]], strict=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither of a class nor void"):
        update(metric(), [[1, 2]], [[1, 99]], "graph", strict=True)
    update(metric(), [[1, 2]], [[1, 1]], strict=True)


def test_config_makes_the_same_metric():
    quality = metric(max_segments=9, crowd_as_void=True)
    copy = panoptic_quality.PanopticQuality.from_config(quality.get_config())
    assert copy.get_config() == quality.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"thing_ids in \[0, 3\)"):
        panoptic_quality.PanopticQuality(3, 255, 10, [3])
    with pytest.raises(ValueError, match="without the ignored class"):
        panoptic_quality.PanopticQuality(3, 0, 10, [0])
    with pytest.raises(ValueError, match="max_segments >= 1"):
        metric(max_segments=0)
    with pytest.raises(ValueError, match="of the same shape"):
        update(metric(), [[1, 1]], [[1]])
    with pytest.raises(ValueError, match="of the same shape"):
        update(metric(), [1, 1], [1, 1])
    with pytest.raises(ValueError, match="integer label map"):
        metric().update_state(tf.zeros([2, 2]), tf.zeros([2, 2]))
