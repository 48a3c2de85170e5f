"""What every metric of videos promises, on random videos."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import replicas
from tests.evaluation import videos

SLOW = pytest.mark.slow


@functools.cache
def reference(name):
    """The metric of a row after all frames, one by one."""
    row = videos.ROWS[name]
    return videos.feed(row.make(), *videos.frames(row.inputs))


@pytest.mark.parametrize("name", videos.ROWS)
class TestContract:
    @pytest.mark.parametrize("mode", ["graph", pytest.param("xla", marks=SLOW)])
    def test_modes_and_batches_agree(self, name, mode):
        row = videos.ROWS[name]
        columns, sequences = videos.frames(row.inputs)
        if mode == "xla":
            found = videos.feed(row.make(), columns, sequences, mode, batch=5)
        else:
            found = videos.advance(name, row.make(), columns, sequences)
        videos.assert_same(reference(name), found)

    def test_merge_and_reset(self, name):
        row = videos.ROWS[name]
        columns, sequences = videos.frames(row.inputs)
        parts = [row.make() for _ in videos.LENGTHS]
        for index, part in enumerate(parts):
            own = sequences == index
            videos.advance(name, part, [each[own] for each in columns], sequences[own])
        parts[0].merge_state(parts[1:])
        videos.assert_same(reference(name), parts[0])
        parts[0].reset_state()
        videos.assert_same(parts[0], row.make())
        with pytest.raises(ValueError, match="Expected metrics of type"):
            parts[0].merge_state([row.make(**row.other)])

    def test_save_and_restore_in_the_middle_of_a_sequence(self, name, tmp_path):
        row = videos.ROWS[name]
        columns, sequences = videos.frames(row.inputs)
        begun, resumed = row.make(), row.make()
        videos.advance(name, begun, [each[:3] for each in columns], sequences[:3], ends=False)
        path = tf.train.Checkpoint(metric=begun).save(str(tmp_path / "state"))
        tf.train.Checkpoint(metric=resumed).restore(path).assert_consumed()
        videos.advance(name, resumed, [each[3:] for each in columns], sequences[3:], begins=False)
        videos.assert_same(reference(name), resumed)

    def test_replicas_with_whole_sequences_each(self, name):
        row = videos.ROWS[name]
        columns, sequences = videos.frames(row.inputs, (3, 3, 3, 3))
        whole = videos.advance(name, row.make(), columns, sequences)
        strategy = replicas.two()
        with strategy.scope():
            metric = row.make()
        marks = videos.marks_of(metric, sequences)

        @tf.function
        def step(*inputs):
            strategy.run(lambda *each: metric.update_state(*each) and None, args=inputs)

        for turn in range(2):
            for frame in range(3):
                rows = [(2 * turn + replica) * 3 + frame for replica in range(2)]
                step(
                    *[
                        strategy.experimental_distribute_values_from_function(
                            lambda context, each=each: tf.constant(each[rows[context.replica_id_in_sync_group]])  # noqa: B023
                        )
                        for each in (*columns, marks)
                    ]
                )
        if hasattr(metric, "flush"):
            strategy.run(tf.function(metric.flush))
        videos.assert_same(whole, metric)
        videos.assert_same(whole, metric)  # reading has no effect

    def test_config_makes_the_same_metric(self, name):
        metric = videos.ROWS[name].make(**videos.ROWS[name].other)
        copy = type(metric).from_config(metric.get_config())
        assert copy.get_config() == metric.get_config()
        assert copy.get_config() != videos.ROWS[name].make().get_config()

    @pytest.mark.parametrize("mode", ["eager", pytest.param("graph", marks=SLOW), pytest.param("xla", marks=SLOW)])
    def test_overflow_is_seen(self, name, mode):
        row = videos.ROWS[name]
        columns, sequences = videos.frames(row.inputs)
        result = videos.feed(row.make(**row.too_small), columns, sequences, mode, batch=5).result()
        assert 0 < result["overflow"] <= len(sequences)
        assert all(np.isfinite(v).all() for k, v in result.items() if v.shape.rank == 0 and k[-2:] not in ("sq", "tq"))
        if mode == "eager":
            with pytest.raises(tf.errors.InvalidArgumentError, match="raise it"):
                videos.feed(row.make(**row.too_small), columns, sequences, strict=True)

    def test_states_do_not_grow(self, name):
        metric = reference(name)
        assert [v.shape for v in metric.variables] == [v.shape for v in videos.ROWS[name].make().variables]
        integers = [v for v in metric.variables if v.dtype != tf.float64]
        assert all(v.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA for v in integers)

    @pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=SLOW)])
    def test_all_void_and_one_pixel(self, name, mode):
        row = videos.ROWS[name]
        void = [np.full((2, 1, 1), 255 if name == "region" else videos.VOID, np.int32)] * 2
        columns, sequences = void + [np.zeros((2, 1, 1))] * (2 * (row.inputs == "depth")), np.array([0, 1])
        if mode == "graph":
            result = videos.advance(name, row.make(), columns, sequences).result()
        else:
            result = videos.feed(row.make(), columns, sequences, mode).result()
        for key, value in result.items():
            undefined = key.split("_")[0] in ("stq", "sq", "dstq") and "per_class" not in key
            assert undefined or np.isfinite(value).all(), key
        assert result["overflow"] == 0

    def test_labels_of_no_class_are_seen(self, name):
        row = videos.ROWS[name]
        if row.inputs == "objects":
            return  # every number is an object
        columns, sequences = videos.frames(row.inputs, (2,))
        columns[1] = np.where(columns[1] == 20, 99, columns[1])
        assert videos.feed(row.make(), columns, sequences).result()["invalid"] == 2


def test_bad_arguments():
    with pytest.raises(ValueError, match="different lengths of windows"):
        videos.VPQ(windows=(1, 1))
    with pytest.raises(ValueError, match="max_pairs >= 1"):
        videos.STQ(max_pairs=0)
    with pytest.raises(ValueError, match="depth thresholds above 0"):
        videos.DVPQ(depth_thresholds=(0.0,))
    with pytest.raises(ValueError, match="ratios of depths, 1 or more"):
        videos.DSTQ(depth_thresholds=(0.5,))
    with pytest.raises(ValueError, match="max_tracks >= 1"):
        videos.MOTS(max_tracks=0)
    with pytest.raises(ValueError, match="max_frames >= 3"):
        videos.REGION(max_frames=2)
    maps = tf.zeros([2, 3], tf.int32)
    with pytest.raises(ValueError, match="Expected depth_true of the shape of the label maps"):
        videos.DVPQ().update_state(maps, maps, tf.zeros([3, 3]), tf.zeros([2, 3]))
    with pytest.raises(ValueError, match="Expected weights of the shape"):
        videos.STQ().update_state(maps, maps, 0, tf.zeros([1, 1]))
