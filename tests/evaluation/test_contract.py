"""What every metric of single images promises, on random scenes."""

import functools
from typing import Callable, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from evaluation import (
    boundary_quality,
    depth,
    instance_ap,
    mean_iou,
    panoptic_quality,
    parsing_covering,
    surface_normals,
)
from tests import replicas

NUM_IMAGES, SIZE = 6, (24, 40)
LABELS = (3, 255, 10)  # classes, void, divisor
THINGS = (0, 1)
VOID = 2550


@functools.cache
def scenes():
    """Maps of rectangles with a crowd and void, the prediction shifted by a pixel; scores; depth; normals."""
    rng = np.random.default_rng(0)
    maps = np.full((NUM_IMAGES, *SIZE), 20, np.int32)
    for image in maps:
        for label in rng.permutation([0, 1, 2, 3, 10, 11, 12, 20, VOID, VOID + 1]):
            row, column = rng.integers(0, SIZE[0] - 6), rng.integers(0, SIZE[1] - 6)
            image[row : row + rng.integers(4, 14), column : column + rng.integers(4, 14)] = label
    depths = rng.uniform(0.5, 90.0, maps.shape).astype(np.float32)
    return {
        "panoptic": (maps, np.roll(maps, 1, axis=2)),
        "semantic": (maps // 10, np.roll(maps, 1, axis=2) // 10),
        "scores": tuple(rng.uniform(0, 1, (2, *maps.shape)).astype(np.float32)),
        "ids": (np.arange(NUM_IMAGES),),
        "depth": (depths * (rng.uniform(size=maps.shape) < 0.4), depths * rng.uniform(0.7, 1.4, maps.shape)),
        "normals": tuple(rng.normal(size=(2, *maps.shape, 3)).astype(np.float32)),
    }


class Row(NamedTuple):
    make: Callable
    inputs: tuple[str, ...]
    other: Callable  # with other options


def row(kind, arguments, inputs, **options):
    return Row(functools.partial(kind, *arguments), inputs, functools.partial(kind, *arguments, **options))


PANOPTIC = (*LABELS, THINGS)
RANKED = ("panoptic", "scores", "ids")
ROWS = {
    "panoptic_quality": row(panoptic_quality.PanopticQuality, PANOPTIC, ("panoptic",), max_segments=9),
    "boundary_quality": row(boundary_quality.BoundaryQuality, PANOPTIC, ("panoptic",), dilation_ratio=0.05),
    "parsing_covering": row(parsing_covering.ParsingCovering, PANOPTIC, ("panoptic",), relative_area=False),
    "mean_iou": row(mean_iou.MeanIoU, LABELS[:2], ("semantic",), variant="stq"),
    "coco_ap": row(
        functools.partial(instance_ap.CocoAveragePrecision, max_detections=120),
        PANOPTIC,
        RANKED,
        boundary_ratio=0.02,
    ),
    "cityscapes_ap": row(
        functools.partial(instance_ap.CityscapesAveragePrecision, min_region=20, max_detections=120),
        PANOPTIC,
        RANKED,
        min_region=0,
    ),
    "depth": row(functools.partial(depth.DepthErrors, max_depth=80.0), (), ("depth",), crop="garg"),
    "normals": row(surface_normals.SurfaceNormalErrors, (), ("normals",)),
}


def arrays(case):
    return tuple(each for name in case.inputs for each in scenes()[name])


def of(case, start, stop=None):
    """The inputs of some images, as a batch."""
    stop = start + 1 if stop is None else stop
    return tuple(tf.constant(each[start:stop]) for each in arrays(case))


def assert_same(left, right, rtol=1e-12):
    left, right = left.result(), right.result()
    assert left.keys() == right.keys()
    for key, value in left.items():
        np.testing.assert_allclose(value, right[key], rtol=rtol, atol=1e-13, err_msg=key)


@functools.cache
def whole(name):
    """The result of all images, one by one."""
    metric = ROWS[name].make()
    for index in range(NUM_IMAGES):
        metric.update_state(*[each[0] for each in of(ROWS[name], index)])
    return metric


@pytest.mark.parametrize("name", ROWS)
class TestContract:
    def test_the_result_is_pure_and_not_trivial(self, name):
        first = {key: value.numpy() for key, value in whole(name).result().items()}
        for key, value in whole(name).result().items():
            np.testing.assert_array_equal(first[key], value)
        assert sum(np.any(value > 0) for value in first.values()) > len(first) / 3
        assert all(variable.dtype == tf.float64 for variable in whole(name).variables)

    @pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
    def test_a_batch_is_its_images(self, name, mode):
        metric = ROWS[name].make()

        def step(*batch):
            metric.update_state(*batch)

        if mode != "eager":
            step = tf.function(step, jit_compile=mode == "xla")
        step(*of(ROWS[name], 0, 3))
        step(*of(ROWS[name], 3, 6))
        assert_same(metric, whole(name))

    def test_any_size_in_one_graph(self, name):
        metric, expected = ROWS[name].make(), ROWS[name].make()
        batch = of(ROWS[name], 0, 2)
        specs = [tf.TensorSpec([None] * min(each.shape.rank, 3) + each.shape[3:], each.dtype) for each in batch]
        step = tf.function(lambda *inputs: metric.update_state(*inputs) and None, input_signature=specs)
        for columns in (40, 17, 1):
            cut = [each if each.shape.rank == 1 else each[:, :, :columns] for each in batch]
            step(*cut)
            expected.update_state(*cut)
        assert_same(metric, expected)

    def test_merging(self, name):
        parts = [ROWS[name].make() for _ in range(3)]
        for metric, (start, stop) in zip(parts, ((0, 1), (1, 4), (4, 6))):
            metric.update_state(*of(ROWS[name], start, stop))
        parts[0].merge_state(parts[1:])
        assert_same(parts[0], whole(name))

    def test_save_and_restore_in_the_middle(self, name, tmp_path):
        begun, resumed = ROWS[name].make(), ROWS[name].make()
        begun.update_state(*of(ROWS[name], 0, 3))
        path = tf.train.Checkpoint(metric=begun).save(str(tmp_path / "state"))
        tf.train.Checkpoint(metric=resumed).restore(path).assert_consumed()
        resumed.update_state(*of(ROWS[name], 3, 6))
        assert_same(resumed, whole(name))

    def test_replicas_and_restoring_them(self, name, tmp_path):
        strategy = replicas.two()
        with strategy.scope():
            metric = ROWS[name].make()
        dataset = tf.data.Dataset.from_tensor_slices(arrays(ROWS[name])).batch(2, drop_remainder=True)

        @tf.function
        def step(batch):
            strategy.run(lambda *inputs: metric.update_state(*inputs) and None, args=batch)

        def run(batches):
            for batch in strategy.experimental_distribute_dataset(batches):
                step(batch)

        run(dataset.take(1))
        checkpoint = tf.train.Checkpoint(metric=metric)
        path = checkpoint.save(str(tmp_path / "state"))
        metric.reset_state()
        assert_same(metric, ROWS[name].make())
        checkpoint.restore(path).assert_consumed()
        run(dataset.skip(1))
        assert_same(metric, whole(name))
        single = ROWS[name].make()
        single.merge_state([metric])
        assert_same(single, whole(name))

    def test_nothing_seen_is_not_an_error(self, name):
        result = ROWS[name].make().result()
        assert all(np.ndim(value) > 0 or float(value) in (0.0, -1.0) for value in result.values())

    def test_config_makes_the_same_metric(self, name):
        for metric in (ROWS[name].make(), ROWS[name].other()):
            assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()
        if ROWS[name].make().get_config() != ROWS[name].other().get_config():
            with pytest.raises(ValueError, match="Expected metrics of type"):
                ROWS[name].make().merge_state([ROWS[name].other()])
        with pytest.raises(ValueError, match="Expected metrics of type"):
            ROWS[name].make().merge_state([mean_iou.MeanIoU(2, 255)])

    def test_one_pixel_and_one_row(self, name):
        for rows, columns in ((1, 1), (1, 40), (24, 1)):
            metric = ROWS[name].make()
            batch = of(ROWS[name], 0, 1)
            cut = [each if each.shape.rank == 1 else each[:, :rows, :columns] for each in batch]
            metric.update_state(*cut)
            metric.result()

    def test_maps_of_other_sizes(self, name):
        first, second, *rest = of(ROWS[name], 0, 2)
        with pytest.raises(ValueError, match=r"of the same shape|of the shape"):
            ROWS[name].make().update_state(first, second[:, 1:], *rest)


@pytest.mark.parametrize(
    "name", ["panoptic_quality", "boundary_quality", "parsing_covering", "coco_ap", "cityscapes_ap"]
)
@pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
def test_faulty_images_are_left_out(name, mode):
    case = ROWS[name]

    def result(change, **options):
        metric = case.make(**options)
        maps = list(of(case, 0, 2))
        y_true = maps[0].numpy()
        change(y_true)
        maps[0] = tf.constant(y_true)
        step = metric.update_state
        if mode != "eager":
            step = tf.function(lambda *batch: metric.update_state(*batch) and None, jit_compile=mode == "xla")
        step(*maps)
        return metric

    def unknown(y_true):
        y_true[0, 0, 0] = 30

    def crowded(y_true):
        y_true[0, :4] = np.arange(1, 161).reshape(4, 40) % 10 + 10 * np.arange(2).repeat(2)[:, np.newaxis]

    second = case.make()
    second.update_state(*of(case, 1))
    found = result(unknown)
    assert found.result()["invalid"] == 1 and found.result()["overflow"] == 0
    found.invalid.assign(0.0)
    assert_same(found, second)
    found = result(crowded, max_segments=13)
    assert found.result()["overflow"] == 1 and found.result()["invalid"] == 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_segments"):
        case.make(max_segments=2).update_state(*of(case, 0), strict=True)


def test_the_named_results_of_no_class_at_all():
    for name in ("panoptic_quality", "boundary_quality", "parsing_covering"):
        metric = ROWS[name].make()
        y_true = np.full((4, 4), VOID)
        metric.update_state(y_true, np.zeros((4, 4), np.int32) + 1)
        result = metric.result()
        key = "pc" if name == "parsing_covering" else "pq"
        for group in ("", "_things", "_stuff"):
            assert result[key + group] == 0 and result["n" + group] == 0
