"""Centres, offsets and classes -> panoptic maps, on maps small enough to check by hand."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.layers import resize
from deeplab2_kmax.models import deeplab
from deeplab2_kmax.postprocess import center_grouping
from deeplab2_kmax.protos import evaluator_pb2

# Two stuff classes, two classes of things.
CLASSES = structures.MaskClasses(thing_ids=(2, 3), stuff_ids=(0, 1), ignore_label=255, label_divisor=100)
VOID = 25500
Rules = center_grouping.Rules


def heights(rows):
    return tf.constant(rows, tf.float32)[tf.newaxis, ..., tf.newaxis]


def centers(rows, **rules):
    return center_grouping.find_centers(heights(rows), Rules(**rules))[0, ..., 0].numpy().tolist()


def group(rows, offsets=None, is_thing=None, **rules):
    found = tf.constant(rows, tf.float32)
    offsets = tf.zeros([*found.shape, 2]) if offsets is None else tf.constant(offsets, tf.float32)
    is_thing = tf.ones(found.shape, tf.bool) if is_thing is None else tf.constant(is_thing)
    instance, scores = center_grouping.group(found, offsets, is_thing, rules=Rules(**rules))
    return instance.numpy().tolist(), scores.numpy().tolist()


def merge(classes, instance, **rules):
    made = center_grouping.merge(
        tf.constant(classes), tf.constant(instance), classes=CLASSES, num_classes=4, rules=Rules(**rules)
    )
    return made.numpy().tolist()


def test_centers_are_above_the_threshold_and_highest_around():
    rows = [[0.5, 0.1, 0.0, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0, 0.25]]
    assert centers(rows, center_threshold=0.25) == pytest.approx(np.array([[0.5, 0, 0, 0.3, 0], [0, 0, 0, 0, 0]]))
    # A threshold itself is not above it; a plateau gives several centres.
    assert centers([[0.5, 0.5, 0.1]], center_threshold=0.1) == [[0.5, 0.5, 0.0]]


def test_an_even_neighbourhood_reaches_one_further_behind():
    # Of 4 pixels: one before, two behind.
    assert centers([[0.25, 0.0, 0.5, 0.0, 0.25]], nms_kernel=4) == [[0.0, 0.0, 0.5, 0.0, 0.25]]


def test_pixels_join_the_centre_they_point_to():
    offsets = [[[0, 0], [0, 2], [0, -2], [0, 0]]]
    assert group([[0.9, 0, 0, 0.4]], offsets) == (
        [[1, 2, 1, 2]],
        [[pytest.approx(0.9), pytest.approx(0.4), pytest.approx(0.9), pytest.approx(0.4)]],
    )


def test_the_first_of_two_centres_as_near_wins_and_stuff_has_none():
    instance, scores = group([[0.5, 0, 0.5, 0]], is_thing=[[True, True, True, False]])
    assert instance == [[1, 1, 2, 0]]
    assert scores == [[0.5, 0.5, 0.5, 0.0]]


def test_exactly_the_highest_centres_are_kept_in_row_major_order():
    rows = [[0.5, 0.25, 0.75, 0.25, 0.5, 0.5]]
    # 0.75 and the first two of three 0.5; numbered from left to right.
    assert group(rows, max_centers=3)[0] == [[1, 1, 2, 2, 3, 3]]
    assert max(max(row) for row in group(rows, max_centers=-1)[0]) == 6


def test_without_centres_nothing_is_an_instance():
    assert group([[0.0, 0.0]]) == ([[0, 0]], [[0.0, 0.0]])


@pytest.mark.parametrize("count", [1, 3, 60, 700])
def test_every_vote_finds_the_nearest_of_all_centres(count):
    random = np.random.RandomState(count)
    centers = random.randint(0, 100, [count, 2]).astype(np.float32)  # several in one place
    votes = random.uniform(-20, 120, [3000, 2]).astype(np.float32)
    votes[:3] = [[5000, -3000], [0, 70000], [50, 50]]  # far out, so that cells are large
    for some in (votes, votes[3:], votes[:1]):
        away = np.square(some[:, None] - centers)
        expected = np.argmin(away[..., 0] + away[..., 1], axis=1)
        np.testing.assert_array_equal(center_grouping._nearest(tf.constant(some), tf.constant(centers)), expected)


def test_offsets_that_are_no_numbers_end_somewhere():
    offsets = np.array([[[np.nan, 0], [np.inf, -np.inf], [1e30, 0], [0, 0]]])
    instance, scores = group([[0.5, 0, 0, 0.25]], offsets)
    assert set(instance[0]) <= {1, 2} and instance[0][3] == 2
    assert scores[0][3] == 0.25


def test_blocks_change_nothing(monkeypatch):
    random = np.random.RandomState(0)
    found = random.uniform(0, 1, [9, 11]) * (random.uniform(0, 1, [9, 11]) > 0.8)
    offsets = random.standard_normal([9, 11, 2]) * 4
    whole = group(found, offsets)
    monkeypatch.setattr(center_grouping, "BLOCK_NUMBERS", 50)
    assert group(found, offsets) == whole


GRIDS = [(9, 13, 4), (9, 13, 1), (1, 6, 3), (6, 1, 3), (8, 9, 2.6)]


@tf.function(autograph=False, input_signature=[tf.TensorSpec([None] * rank) for rank in (2, 3, 2)])
def settle(found, grid, things):
    """Instances by every pixel, by the grid too, and where the grid alone tells them."""
    size, is_thing, rules = tuple(tf.unstack(tf.shape(found))), things > 0.0, Rules()
    offsets = resize.bilinear(grid[tf.newaxis], size)[0]
    alone = center_grouping.group(found, offsets, is_thing, rules=rules)[0]
    places = tf.cast(tf.where(found > 0.0), tf.float32)
    with_grid = center_grouping.group(found, offsets, is_thing, rules=rules, grid=grid)[0]
    return alone, with_grid, center_grouping._between(grid, is_thing, places)


@pytest.mark.parametrize(("height", "width", "stride"), GRIDS)
@pytest.mark.parametrize("noise", [0.0, 2.0, 1e4])
def test_a_grid_of_offsets_changes_nothing(height, width, stride, noise):
    random = np.random.RandomState(height)
    size = int((height - 1) * stride) + 2, int((width - 1) * stride) + 2
    found, things = np.zeros(size, np.float32), random.uniform(-0.3, 1, size).astype(np.float32)
    found[random.randint(0, size[0], 5), random.randint(0, size[1], 5)] = 0.5
    y, x = np.meshgrid(*(np.linspace(0, side - 1, n) for side, n in zip(size, (height, width))), indexing="ij")
    here, points = np.stack([y, x], axis=-1), np.argwhere(found > 0)
    nearest = np.linalg.norm(here[:, :, None] - points, axis=-1).argmin(axis=-1)
    grid = (points[nearest] - here + noise * random.standard_normal(here.shape)).astype(np.float32)
    grid[0, 0] = np.nan
    alone, with_grid, settled = settle(found, grid, things)
    np.testing.assert_array_equal(with_grid, alone)
    told = settled.numpy() > 0
    np.testing.assert_array_equal(settled.numpy()[told & (things > 0)], alone.numpy()[told & (things > 0)])
    if min(height, width) == 1:  # nothing lies between the places
        assert not told.any()
    elif noise == 0 and stride == 4:
        assert told.mean() > 0.3


@pytest.mark.parametrize("side", [1, 3, 4, 13])
def test_centers_are_the_same_whether_all_pixels_are_compared_or_few(side, monkeypatch):
    random = np.random.RandomState(side)
    # Three values and many equal ones; also at the borders.
    maps = tf.constant(
        random.randint(1, 4, [2, 30, 200, 1]) * (random.uniform(0, 1, [2, 30, 200, 1]) > 0.99), tf.float32
    )
    few = center_grouping.find_centers(maps, Rules(nms_kernel=side))
    monkeypatch.setattr(center_grouping, "_LEAST_GAIN", 10**6)
    everywhere = center_grouping.find_centers(maps, Rules(nms_kernel=side))
    np.testing.assert_array_equal(few, everywhere)
    assert 2 <= np.count_nonzero(few) <= np.count_nonzero(maps)


def test_maps_of_a_model_carry_the_grid_of_their_offsets():
    given = {}

    def postprocess(maps, size):
        given.update(maps)
        return center_grouping.build(evaluator_pb2.EvaluatorOptions(), CLASSES)(maps, size)

    random = np.random.RandomState(2)
    maps = {
        name: tf.constant(random.standard_normal([2, 3, 5, channels]), tf.float32)
        for name, channels in (("semantic_logits", 4), ("center_heatmap", 1), ("offset_map", 2))
    }
    made = deeplab.finish(maps, (9, 17), postprocess).maps
    np.testing.assert_array_equal(given["offset_grid"], 4 * maps["offset_map"])
    del given["offset_grid"]
    plain = center_grouping.build(evaluator_pb2.EvaluatorOptions(), CLASSES)(given, (9, 17))
    for field, values in plain._asdict().items():
        np.testing.assert_array_equal(getattr(made, field), values, err_msg=field)


def test_instances_are_counted_per_class_in_the_order_of_their_first_pixels():
    classes = [[2, 3, 2, 2, 0]]
    # Numbers 9, 4 and 7 appear in this order.
    assert merge(classes, [[9, 4, 7, 7, 0]]) == [[201, 301, 202, 202, 0]]


def test_most_pixels_decide_the_class_and_the_lower_class_if_equal():
    assert merge([[3, 3, 2, 3, 2]], [[1, 1, 1, 2, 2]]) == [[301, 301, 301, 201, 201]]


def test_stuff_is_kept_at_its_area_limit_and_things_without_centre_are_void():
    classes, instance = [[0, 0, 1, 2]], [[0, 0, 0, 0]]
    assert merge(classes, instance, stuff_area=2) == [[0, 0, VOID, VOID]]


def test_rules_of_the_compiled_kernel():
    classes, none = [[0, 0, 1, 3, 3, 2]], [[0] * 6]
    rules = {"as_compiled_kernel": True}
    assert merge(classes, none, stuff_area=2, **rules) == [[VOID, VOID, VOID, 301, 301, 301]]
    assert merge(classes, none, stuff_area=1, **rules) == [[0, 0, VOID, 301, 301, 301]]
    assert merge(classes, none, stuff_area=0, **rules) == [[0, 0, 100, 301, 301, 301]]
    # Where there are centres the two agree.
    given = [[0, 0, 0, 1, 2, 2]]
    assert merge(classes, given, **rules) == merge(classes, given) == [[0, 0, 100, 301, 201, 201]]


def test_a_class_has_only_so_many_ids():
    numbers = np.arange(1, 121, dtype=np.int32)[np.newaxis]
    made = np.array(merge(np.full([1, 120], 2, np.int32), numbers))
    assert made[0, :99].tolist() == list(range(201, 300))
    assert (made[0, 99:] == VOID).all()


def test_class_0_is_stuff_where_void_has_its_number():
    coco = structures.MaskClasses(thing_ids=(1,), stuff_ids=(2,), ignore_label=0, label_divisor=256)
    made = center_grouping.merge(
        tf.constant([[0, 1, 2]]), tf.constant([[0, 1, 0]]), classes=coco, num_classes=3, rules=Rules()
    )
    assert made.numpy().tolist() == [[0, 257, 512]]


def test_images_of_a_batch_do_not_know_each_other():
    random = np.random.RandomState(1)
    maps = {
        "semantic_logits": tf.constant(random.standard_normal([3, 5, 7, 4]), tf.float32),
        "center_heatmap": tf.constant(random.uniform(0, 1, [3, 9, 13, 1]), tf.float32),
        "offset_map": tf.constant(random.standard_normal([3, 9, 13, 2]) * 3, tf.float32),
    }
    options = evaluator_pb2.EvaluatorOptions(keep_k_centers=4, stuff_area_limit=5)
    postprocess = center_grouping.build(options, CLASSES)
    together = tf.function(lambda: postprocess(maps, (9, 13)))()
    assert together.instance.numpy().max() == 4
    for index in range(3):
        alone = postprocess({name: values[index : index + 1] for name, values in maps.items()}, (9, 13))
        for field, values in alone._asdict().items():
            np.testing.assert_array_equal(values[0], getattr(together, field)[index], err_msg=field)


def test_a_mean_of_probabilities_decides_where_there_is_one():
    maps = {
        "semantic_logits": tf.constant([[[[9.0, 0.0, 0.0, 0.0]]]]),
        "semantic_probs": tf.constant([[[[0.1, 0.7, 0.1, 0.1]]]]),
        "center_heatmap": tf.zeros([1, 1, 1, 1]),
        "offset_map": tf.zeros([1, 1, 1, 2]),
    }
    made = center_grouping.build(evaluator_pb2.EvaluatorOptions(), CLASSES)(maps, (1, 1))
    assert made.semantic.numpy().tolist() == [[[1]]]
    assert made.semantic_scores.numpy().item() == pytest.approx(0.7)
    del maps["semantic_probs"]
    made = center_grouping.build(evaluator_pb2.EvaluatorOptions(), CLASSES)(maps, (1, 1))
    assert made.semantic_scores.numpy().item() == pytest.approx(np.exp(9) / (np.exp(9) + 3))


def test_an_image_without_things_has_no_instances_despite_its_centres():
    nothing = [[0, 0, 0]], [[0.0, 0.0, 0.0]]
    assert group([[0.9, 0, 0.4]], is_thing=[[False, False, False]]) == nothing
    traced = tf.function(lambda found, things: center_grouping.group(found, tf.zeros([1, 3, 2]), things, rules=Rules()))
    instance, scores = traced(tf.constant([[0.9, 0, 0.4]]), tf.zeros([1, 3], tf.bool))
    assert (instance.numpy().tolist(), scores.numpy().tolist()) == nothing
