"""Every video metric: what all promise, on random videos, and its rules against plain numpy on other random videos."""

import functools
import math
from typing import Callable, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from evaluation import (
    depth_aware_quality,
    mots,
    panoptic_quality,
    region_boundary,
    segmentation_tracking_quality,
    video_panoptic_quality,
)
from tests import replicas

SIZE, VOID = (20, 28), 2550
ARGUMENTS = (3, 255, 10, (0, 1))  # classes, void, divisor, things
LENGTHS = (5, 1, 4)
MODES = ("eager", "graph", "xla")


def video(length, seed, size=SIZE):
    """Labels of true and predicted tracks that move, appear, vanish and change their ids; crowds and void; depths."""
    rng = np.random.default_rng(seed)
    maps = np.full((2, length, *size), 20, np.int32)
    for label in [0, 1, 2, 3, 10, 11, VOID, VOID + 1]:
        row, column, height, width = rng.integers(0, 12), rng.integers(0, 18), rng.integers(3, 9), rng.integers(3, 12)
        for frame in range(length):
            for side in range(2):
                if rng.uniform() < 0.8:
                    drawn = rng.choice([label, 2, 12]) if side and rng.uniform() < 0.3 else label
                    top, left = row + frame * side % 2, column + frame
                    maps[side, frame, top : top + height, left : left + width] = drawn
    true = rng.uniform(1, 50, maps[0].shape) * (rng.uniform(size=maps[0].shape) < 0.7)
    return maps[0], maps[1], true, true * rng.uniform(0.6, 1.5, true.shape)


def frames(names, lengths=LENGTHS, seed=0):
    """All frames of some videos: lists of inputs, each frame's sequence id."""
    videos = [video(length, seed + i) for i, length in enumerate(lengths)]
    columns = [np.concatenate(each) for each in zip(*videos)]
    if names == "objects":
        columns = [np.where(each < 4, each, 0) for each in columns[:2]]
    columns = columns if names == "depth" else columns[:2]
    return columns, np.repeat(np.arange(len(lengths)), lengths)


class Row(NamedTuple):
    make: Callable
    inputs: str
    other: dict  # other options
    too_small: dict | None  # options of a capacity that is exceeded


VPQ = functools.partial(video_panoptic_quality.VideoPanopticQuality, *ARGUMENTS, windows=(1, 3), max_segments=16)
STQ = functools.partial(
    segmentation_tracking_quality.SegmentationTrackingQuality, *ARGUMENTS, max_segments=16, max_pairs=256
)
DVPQ = functools.partial(
    depth_aware_quality.DepthAwareVideoPanopticQuality, *ARGUMENTS, windows=(2, 1), max_segments=16
)
DSTQ = functools.partial(
    depth_aware_quality.DepthAwareSegmentationTrackingQuality, *ARGUMENTS, max_segments=16, max_pairs=256
)
MOTS = functools.partial(mots.TrackingAndSegmentation, *ARGUMENTS, max_segments=16, max_tracks=16)
PTQ = functools.partial(mots.PanopticTrackingQuality, *ARGUMENTS, max_segments=16, max_tracks=16)
REGION = functools.partial(region_boundary.RegionAndBoundary, max_objects=4, max_frames=8)
ROWS = {
    "vpq": Row(VPQ, "labels", {"windows": (2,)}, {"max_segments": 2}),
    "stq": Row(functools.partial(STQ, max_sequences=3), "labels", {"max_sequences": 2}, {"max_pairs": 2}),
    "dvpq": Row(DVPQ, "depth", {"depth_thresholds": (0.2,)}, {"max_segments": 2}),
    "dstq": Row(functools.partial(DSTQ, max_sequences=3), "depth", {"depth_thresholds": (2.0,)}, {"max_segments": 2}),
    "mots": Row(MOTS, "labels", {"max_tracks": 9}, {"max_tracks": 1}),
    "ptq": Row(PTQ, "labels", {"max_tracks": 9}, {"max_segments": 2}),
    "region": Row(REGION, "objects", {"tolerance": 0.1}, {"max_objects": 1}),
}


def feed(metric, columns, sequences, mode="eager", batch=1, **options):
    """Updates frame by frame or batch by batch, and ends the last sequence."""
    by_mark = isinstance(metric, video_panoptic_quality.VideoPanopticQuality)
    marks = np.diff(sequences, prepend=-1) != 0 if by_mark else sequences

    def step(*inputs):
        metric.update_state(*inputs, **options)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for begin in range(0, len(marks), batch):
        step(*[tf.constant(each[begin : begin + batch]) for each in (*columns, marks)])
    if hasattr(metric, "flush"):
        metric.flush()
    return metric


def assert_same(left, right, rtol=1e-12):
    for key, value in left.result().items():
        np.testing.assert_allclose(value, right.result()[key], rtol=rtol, atol=1e-15, err_msg=key)


@functools.cache
def reference(name):
    """The metric of a row after all frames, one by one."""
    row = ROWS[name]
    return feed(row.make(), *frames(row.inputs))


@pytest.mark.parametrize("name", ROWS)
class TestContract:
    @pytest.mark.parametrize("mode", ["graph", pytest.param("xla", marks=pytest.mark.slow)])
    def test_modes_and_batches_agree(self, name, mode):
        row = ROWS[name]
        assert_same(reference(name), feed(row.make(), *frames(row.inputs), mode, batch=5))

    def test_merge_and_reset(self, name):
        row = ROWS[name]
        columns, sequences = frames(row.inputs)
        parts = [row.make() for _ in LENGTHS]
        for index, part in enumerate(parts):
            own = sequences == index
            feed(part, [each[own] for each in columns], sequences[own])
        parts[0].merge_state(parts[1:])
        assert_same(reference(name), parts[0])
        parts[0].reset_state()
        assert_same(parts[0], row.make())
        with pytest.raises(ValueError, match="Expected metrics of type"):
            parts[0].merge_state([row.make(**row.other)])

    def test_save_and_restore_in_the_middle_of_a_sequence(self, name, tmp_path):
        row = ROWS[name]
        columns, sequences = frames(row.inputs)
        begun, resumed = row.make(), row.make()
        begun.flush = lambda: None
        feed(begun, [each[:3] for each in columns], sequences[:3])
        path = tf.train.Checkpoint(metric=begun).save(str(tmp_path / "state"))
        tf.train.Checkpoint(metric=resumed).restore(path).assert_consumed()
        marks = sequences[3:]
        if isinstance(resumed, video_panoptic_quality.VideoPanopticQuality):
            marks = np.diff(sequences, prepend=-1)[3:] != 0
        for *inputs, mark in zip(*[each[3:] for each in columns], marks):
            resumed.update_state(*inputs, mark)
        if hasattr(resumed, "flush"):
            resumed.flush()
        assert_same(reference(name), resumed)

    def test_replicas_with_whole_sequences_each(self, name):
        row = ROWS[name]
        columns, _ = frames(row.inputs, (3, 3, 3, 3))
        whole = feed(row.make(), columns, np.repeat(np.arange(4), 3))
        strategy = replicas.two()
        with strategy.scope():
            metric = row.make()
        marked = isinstance(metric, video_panoptic_quality.VideoPanopticQuality)

        @tf.function
        def step(*inputs):
            strategy.run(lambda *each: metric.update_state(*each) and None, args=inputs)

        for turn in range(2):
            for frame in range(3):
                rows = [(2 * turn + replica) * 3 + frame for replica in range(2)]
                marks = [frame == 0] * 2 if marked else [2 * turn, 2 * turn + 1]
                values = [[tf.constant(each[i]) for i in rows] for each in columns] + [[tf.constant(m) for m in marks]]
                step(
                    *[
                        strategy.experimental_distribute_values_from_function(
                            lambda context, pair=pair: pair[context.replica_id_in_sync_group]
                        )
                        for pair in values
                    ]
                )
        if hasattr(metric, "flush"):
            strategy.run(tf.function(metric.flush))
        assert_same(whole, metric)
        assert_same(whole, metric)  # reading has no effect

    def test_config_makes_the_same_metric(self, name):
        metric = ROWS[name].make(**ROWS[name].other)
        copy = type(metric).from_config(metric.get_config())
        assert copy.get_config() == metric.get_config()
        assert copy.get_config() != ROWS[name].make().get_config()

    @pytest.mark.parametrize("mode", MODES)
    def test_overflow_is_seen(self, name, mode):
        row = ROWS[name]
        columns, sequences = frames(row.inputs)
        metric = feed(row.make(**row.too_small), columns, sequences, mode, batch=5)
        assert 0 < metric.result()["overflow"] <= len(sequences)
        assert all(
            np.isfinite(v).all() for k, v in metric.result().items() if v.shape.rank == 0 and k[-2:] not in ("sq", "tq")
        )
        if mode == "eager":
            with pytest.raises(tf.errors.InvalidArgumentError, match="raise it"):
                feed(row.make(**row.too_small), columns, sequences, strict=True)

    def test_states_do_not_grow(self, name):
        metric = reference(name)
        assert [v.shape for v in metric.variables] == [v.shape for v in ROWS[name].make().variables]
        integers = [v for v in metric.variables if v.dtype != tf.float64]
        assert all(v.aggregation == tf.VariableAggregation.ONLY_FIRST_REPLICA for v in integers)

    @pytest.mark.parametrize("mode", MODES)
    def test_all_void_and_one_pixel(self, name, mode):
        row = ROWS[name]
        void = [np.full((2, 1, 1), 255 if name == "region" else VOID, np.int32)] * 2
        columns = void + [np.zeros((2, 1, 1))] * (2 * (row.inputs == "depth"))
        result = feed(row.make(), columns, np.array([0, 1]), mode).result()
        for key, value in result.items():
            undefined = key.split("_")[0] in ("stq", "sq", "dstq") and "per_class" not in key
            assert undefined or np.isfinite(value).all(), key
        assert result["overflow"] == 0


@pytest.mark.parametrize("name", [name for name in ROWS if name != "region"])
def test_labels_of_no_class_are_seen(name):
    row = ROWS[name]
    columns, sequences = frames(row.inputs, (2,))
    columns[1] = np.where(columns[1] == 20, 99, columns[1])
    assert feed(row.make(), columns, sequences).result()["invalid"] == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crowd", [True, False])
def test_vpq_is_pq_of_windows_side_by_side(seed, crowd):
    (true, pred), sequences = frames("labels", (5, 1, 4), 10 * seed)
    metric = feed(VPQ(windows=(1, 2, 4), crowd=crowd), (true, pred), sequences)
    for index, window in enumerate((1, 2, 4)):
        # Without a crowd the instance 0 is one like any other.
        shift = 0 if crowd else 1
        single = panoptic_quality.PanopticQuality(3, 255, 11, (0, 1))
        count = 0
        for begin in range(len(true) - window + 1):
            if sequences[begin] == sequences[begin + window - 1]:
                pair = [each[begin : begin + window] for each in (true, pred)]
                pair = [each // 10 * 11 + each % 10 + shift for each in pair]
                single.update_state(*[each.reshape(-1, SIZE[1]) for each in pair])
                count += 1
        for key in ("tp", "fp", "fn", "iou"):
            np.testing.assert_allclose(metric.result()[key][index], single.result()[key], rtol=1e-12, err_msg=key)
        assert metric.result()["num_windows"][index] == count


def test_vpq_windows_do_not_contain_faulty_frames():
    (true, pred), sequences = frames("labels", (6,))
    true[2] = 99
    metric = feed(VPQ(windows=(1, 2, 4)), (true, pred), sequences)
    assert metric.result()["num_windows"].numpy().tolist() == [5, 3, 0]


def test_absent_classes():
    maps = np.full((1, 2, 2), 1, np.int32)
    assert feed(VPQ(), (maps, maps), np.zeros(1)).result()["pq"].numpy().tolist() == [1, 0]
    np.testing.assert_allclose(feed(VPQ(absent_as_zero=True), (maps, maps), [0]).result()["pq"], [1 / 3, 0])


@pytest.mark.parametrize("seed", range(2))
def test_dvpq_is_vpq_of_predictions_made_void(seed):
    (true, pred, depth_true, depth_pred), sequences = frames("depth", seed=20 + seed)
    metric = feed(DVPQ(depth_thresholds=(0.25, 0.1)), (true, pred, depth_true, depth_pred), sequences)
    for index, threshold in enumerate((0.25, 0.1)):
        error = np.abs(depth_pred - depth_true) / np.where(depth_true > 0, depth_true, 1)
        wrong = (depth_true > 0) & (error > threshold)
        assert wrong.any()
        plain = feed(VPQ(windows=(2, 1), crowd=False), (true, np.where(wrong, VOID, pred)), sequences)
        for key in ("tp", "fp", "fn", "iou", "pq", "n_things"):
            ours, theirs = metric.result()[f"depth_{key}"][:, index], plain.result()[key]
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=key)


def test_dvpq_reads_unsigned_integers():
    maps = np.full((1, 1, 4), 1, np.int32)
    depths = np.array([[[256, 256, 256, 0]]], np.uint16), np.array([[[255, 300, 100, 7]]], np.uint16)
    result = feed(DVPQ(depth_thresholds=(0.1, 0.25)), (maps, maps, *depths), [0]).result()
    np.testing.assert_allclose(result["depth_iou"][1, :, 0], [0, 3 / 4])


def plain_stq(true, pred, sequences):
    """AQ and number of tubes by the definition."""
    total, count = 0.0, 0
    for sequence in np.unique(sequences):
        gt, seen = true[sequences == sequence], pred[sequences == sequence]
        crowd = (gt // 10 < 2) & (gt % 10 == 0)
        g_set, p_set = (gt // 10 < 2) & ~crowd, (seen // 10 < 2) & ~crowd
        for g in np.unique(gt[g_set]):
            own = (gt == g) & g_set
            for p in np.unique(seen[own & p_set]):
                other = (seen == p) & p_set
                total += (own & other).sum() ** 2 / (own | other).sum() / own.sum()
            count += 1
    return total / count, count


@pytest.mark.parametrize("seed", range(4))
def test_association_by_its_definition(seed):
    columns, sequences = frames("labels", (4, 6, 1), 30 + seed)
    result = feed(STQ(), columns, sequences).result()
    aq, num_tubes = plain_stq(*columns, sequences)
    assert result["num_tubes"] == num_tubes
    np.testing.assert_allclose(result["aq"], aq, rtol=1e-12)


THING, OTHER = 0, 10


@pytest.mark.parametrize(
    ("true", "pred", "aq", "sq"),
    [
        ([1, 1, 1, 1, 1], [1, 1, 2, 2, 2], 0.52, 1),
        ([1, 1, 1, 1, 1], [1, 2, 2, 2, 2], 0.68, 1),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], 0.2, 1),
        ([0, 1, 1, 1, 1, 1], [2, 2, 2, 2, 1, 1], 0.52, 1),
        ([1, 1, 1, 1, 1], [11, 1, 1, 1, 1], 0.64, 0.4),
        ([11, 11, 10], [11, 10, 10], 0, 1),  # class 1 is not tracked
        ([1, 1], [VOID, VOID], 0, 0),
    ],
)
def test_stq_by_hand(true, pred, aq, sq):
    metric = segmentation_tracking_quality.SegmentationTrackingQuality(2, 255, 10, [0], max_segments=8, max_pairs=64)
    result = feed(metric, np.array([[[true]], [[pred]]]), [0]).result()
    np.testing.assert_allclose([result["aq"], result["sq"], result["stq"]], [aq, sq, math.sqrt(aq * sq)], rtol=1e-12)


def test_stq_of_nothing():
    result = feed(STQ(), np.full((2, 1, 1, 4), VOID), [0]).result()
    assert result["aq"] == 0 and result["num_tubes"] == 0 and np.isnan(result["sq"]) and np.isnan(result["stq"])


def test_stq_counts_beyond_float32():
    maps = tf.ones([701, 1001], tf.int32)
    metric = STQ()
    step = tf.function(lambda: metric.update_state(maps, maps) and None)
    for _ in range(40):
        step()
    assert float(tf.reduce_max(metric.pixels)) == 28068040


def test_stq_names_forgotten_frames_and_sequences_without_a_row():
    columns, sequences = frames("labels")
    metric = STQ(max_sequences=2)
    metric.flush = lambda: None
    result = feed(metric, columns, sequences).result()
    assert result["unflushed"] == LENGTHS[-1] and result["sequences_beyond"] == LENGTHS[-1]


@pytest.mark.parametrize("mode", MODES)
def test_more_than_255_instances_with_large_divisors(mode):
    ids = np.arange(1, 401, dtype=np.int32).reshape(1, 20, 20)
    maps = np.concatenate([ids, np.where(ids == 7, 500, ids)]).repeat(2, axis=2)  # an id changes
    options = {"max_segments": 512}
    stq = segmentation_tracking_quality.SegmentationTrackingQuality(2, 255, 65536, [0], max_pairs=1024, **options)
    result = feed(stq, (maps, maps[[0, 0]]), np.zeros(2, int), mode).result()
    assert result["num_tubes"] == 401
    np.testing.assert_allclose(result["aq"], (399 + 0.5 + 0.5) / 401, rtol=1e-12)
    vpq = video_panoptic_quality.VideoPanopticQuality(2, 255, 65536, [0], windows=(1, 2), **options)
    result = feed(vpq, (maps, maps[[0, 0]]), np.zeros(2, int), mode).result()
    # In the window of both frames tube 7 covers one half, which is no match.
    assert result["tp"][:, 0].numpy().tolist() == [800, 399]
    assert result["fn"][:, 0].numpy().tolist() == [0, 2] and result["fp"][:, 0].numpy().tolist() == [0, 1]


def test_ten_thousand_instances():
    maps = np.arange(1, 12001, dtype=np.int32).reshape(1, 100, 120)
    metric = segmentation_tracking_quality.SegmentationTrackingQuality(1, 255, 65536, [0], max_segments=16384)
    result = feed(metric, (maps, maps), [0]).result()
    assert result["num_tubes"] == 12000 and result["aq"] == 1 and result["overflow"] == 0
    vpq = video_panoptic_quality.VideoPanopticQuality(1, 255, 65536, [0], windows=(1,), max_segments=16384)
    assert feed(vpq, (maps, maps), [0]).result()["tp"][0, 0] == 12000
    small = segmentation_tracking_quality.SegmentationTrackingQuality(1, 255, 65536, [0], max_segments=10000)
    assert feed(small, (maps, maps), [0]).result()["overflow"] == 1


def test_dstq_by_hand():
    maps = np.full((1, 1, 4), 1, np.int32)
    depth_true, depth_pred = np.array([[[8.0, 8, 8, 0]]]), np.array([[[10.0, 8, 0, 3]]])
    result = feed(DSTQ(depth_thresholds=(1.25, 1.1)), (maps, maps, depth_true, depth_pred), [0]).result()
    assert result["depth_inliers"].numpy().tolist() == [2, 1] and result["depth_total"] == 3  # 1.25 is still right
    np.testing.assert_allclose(result["dq"], math.sqrt(2 / 9))
    np.testing.assert_allclose(result["dstq"], (2 / 9) ** (1 / 6))


def plain_mots(true, pred, sequences, cls):
    """masks, tp, fp, fn, ids, ignored and the sum of IoU by the definition."""
    counts, last = np.zeros(7), {}
    for frame, sequence in enumerate(sequences):
        gt, seen = true[frame], pred[frame]
        ignore = (gt >= VOID) | ((gt // 10 < 2) & (gt % 10 == 0))
        ids = [g for g in np.unique(gt) if g // 10 == cls and g % 10]
        found = [p for p in np.unique(seen) if p // 10 == cls]
        counts[0] += len(ids)
        for p in found:
            area = seen == p
            scores = {g: (area & (gt == g)).sum() / (area | (gt == g)).sum() for g in ids}
            hit = [g for g, iou in scores.items() if iou > 0.5]
            if hit:
                counts[1] += 1
                counts[6] += scores[hit[0]]
                counts[4] += last.get((sequence, hit[0]), p) != p
                last[sequence, hit[0]] = p
            elif (area & ignore).sum() * 2 > area.sum():
                counts[5] += 1
            else:
                counts[2] += 1
    counts[3] = counts[0] - counts[1]
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_mots_by_its_definition(seed):
    columns, sequences = frames("labels", (8, 1, 9), 40 + seed)
    result = feed(MOTS(), columns, sequences).result()
    for cls in (0, 1):
        ours = [result[key][cls] for key in ("masks", "tp", "fp", "fn", "ids", "ignored", "iou")]
        np.testing.assert_allclose(ours, plain_mots(*columns, sequences, cls), rtol=1e-12)


def test_switches_are_seen_after_gaps_and_by_sequence():
    true = np.full((4, 1, 4), 1, np.int32)
    pred = np.array([[[1, 1, 1, 1]], [[20] * 4], [[2, 2, 2, 20]], [[2, 2, 2, 2]]], np.int32)
    assert feed(MOTS(), (true, pred), [0, 0, 0, 0]).result()["ids"][0] == 1
    assert feed(MOTS(), (true, pred), [0, 0, 1, 1]).result()["ids"][0] == 0
    result = feed(PTQ(), (true, pred), [0, 0, 0, 0]).result()
    # Three matches with IoU 1, 0.75 and 1, the second a switch; one miss.
    np.testing.assert_allclose(result["ptq_per_class"][0], (2.75 - 1) / 3.5)
    np.testing.assert_allclose(result["sptq_per_class"][0], 2 / 3.5)


def plain_f(true, pred, radius):
    def boundary(mask):
        height, width = mask.shape
        result = np.zeros_like(mask)
        for y, x in np.ndindex(height, width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [mask[p] for p in others if p[0] < height and p[1] < width]
            if y == height - 1 or x == width - 1:
                inside = [mask[p] for p in others[:2] if p[0] < height and p[1] < width]
            result[y, x] = any(value != mask[y, x] for value in inside)
        return np.argwhere(result)

    true, pred = boundary(true), boundary(pred)
    if not len(true) or not len(pred):
        return float(len(true) == len(pred))
    near = ((true[:, None] - pred[None]) ** 2).sum(-1) <= radius**2
    recall, precision = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_boundary_measure_by_its_definition(seed):
    rng = np.random.default_rng(seed)
    true, pred = (np.kron(rng.uniform(size=(4, 5)) < 0.4, np.ones((4, 3))).astype(bool) for _ in range(2))
    for radius in (1, 2, 3):
        ours = region_boundary.boundary_f(tf.constant(true), tf.constant(pred), radius)
        np.testing.assert_allclose(ours, plain_f(true, pred, radius), rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 300])
def test_region_of_short_and_long_sequences(length):
    maps = np.zeros((length, 6, 6), np.int32)
    maps[:, 1:3, 1:3], maps[:, 4:, 4:] = 1, 2
    pred = maps.copy()
    pred[length // 2 :] = 0
    metric = region_boundary.RegionAndBoundary(max_objects=2, max_frames=300)
    result = feed(metric, (maps, pred), np.zeros(length, int), "graph", batch=length).result()
    count = max(length - 2, 0)
    assert result["num_objects"] == (2 if count else 0)
    hits = np.arange(1, length - 1) < length // 2
    np.testing.assert_allclose(result["j_mean"], hits.mean() if count else 0)
    if length == 300:
        assert result["j_decay"] == 1 and result["f_decay"] == 1


def test_region_without_objects_in_a_frame():
    true, pred = np.zeros((4, 4, 4), np.int32), np.zeros((4, 4, 4), np.int32)
    true[0], pred[1, 0, 0], true[2, :2], pred[2, :2] = 1, 1, 255, 7  # background where ignored, unknown object
    result = feed(REGION(), (true, pred), np.zeros(4, int)).result()
    np.testing.assert_allclose([result["j_mean"], result["f_mean"]], [0.5, 0.5])


def test_bad_arguments():
    with pytest.raises(ValueError, match="different lengths of windows"):
        VPQ(windows=(1, 1))
    with pytest.raises(ValueError, match="max_pairs >= 1"):
        STQ(max_pairs=0)
    with pytest.raises(ValueError, match="depth thresholds above 0"):
        DVPQ(depth_thresholds=(0.0,))
    with pytest.raises(ValueError, match="ratios of depths, 1 or more"):
        DSTQ(depth_thresholds=(0.5,))
    with pytest.raises(ValueError, match="max_tracks >= 1"):
        MOTS(max_tracks=0)
    with pytest.raises(ValueError, match="max_frames >= 3"):
        REGION(max_frames=2)
    maps = tf.zeros([2, 3], tf.int32)
    with pytest.raises(ValueError, match="Expected depth_true of the shape of the label maps"):
        DVPQ().update_state(maps, maps, tf.zeros([3, 3]), tf.zeros([2, 3]))
    with pytest.raises(ValueError, match="Expected weights of the shape"):
        STQ().update_state(maps, maps, 0, tf.zeros([1, 1]))
