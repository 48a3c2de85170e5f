"""Keypoints and offsets -> panoptic maps: votes by hand, and whole maps that are right give right answers."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import centers, keypoints, keys, segments
from deeplab2_kmax.layers import resize
from deeplab2_kmax.postprocess import center_grouping, keypoint_grouping
from deeplab2_kmax.protos import evaluator_pb2

CITYSCAPES = datasets.DATASETS["cityscapes_panoptic"]
CLASSES = CITYSCAPES.mask_classes()
PAIRS = structures.KEYPOINT_PAIRS
RADIUS = 8.0
SIZE = (65, 97)
# Two cars of which one covers a part of the other, a person, road.
BOXES = {13001: (8, 8, 40, 60), 13002: (24, 40, 56, 88), 11001: (30, 4, 60, 20)}


def label_of(boxes):
    label = np.full(SIZE, 0, np.int32)
    for number, (top, left, bottom, right) in boxes.items():
        label[top : bottom + 1, left : right + 1] = number
    return label


def perfect(label):
    """Maps of a network that knows the label, as it would give them: made at every fourth pixel and resized."""
    found = segments.find(tf.constant(label), CITYSCAPES)
    made = keypoints.make(found, centers.find(found), radius=RADIUS, dataset=CITYSCAPES)
    targets = {
        "keypoint_heatmap": 20 * made[keys.KEYPOINTS] - 10,
        "short_offset_map": made[keys.SHORT_OFFSET],
        "middle_offset_map": made[keys.MIDDLE_OFFSET],
        "long_offset_map": made[keys.LONG_OFFSET],
    }
    maps = {name: resize.bilinear(values[tf.newaxis], SIZE) for name, values in targets.items()}
    return {"semantic_logits": tf.one_hot([label // 1000], 19), **maps}


def options(**changes):
    return evaluator_pb2.EvaluatorOptions(**{"nms_kernel": 7, **changes})


def run(maps, **changes):
    postprocess = keypoint_grouping.build(options(**changes), CLASSES, radius=RADIUS)
    return postprocess(maps, SIZE)


@pytest.fixture(scope="module")
def label():
    return label_of(BOXES)


@pytest.fixture(scope="module")
def right(label):
    return run(perfect(label))


def test_right_maps_give_the_label_back(label, right):
    panoptic = right.panoptic[0].numpy()
    # Ids count from 1 in the order of first pixels, as those of the label do; maps blur at borders of instances.
    assert np.mean(panoptic == label) > 0.98
    assert sorted(np.unique(panoptic[panoptic != CITYSCAPES.void_id])) == [0, 11001, 13001, 13002]
    np.testing.assert_array_equal(panoptic[26:30, 44:56], 13002)  # inside both boxes
    heights = right.instance_centers[0].numpy()
    assert np.count_nonzero(heights) == 3
    where = centers.find(segments.find(tf.constant(label), CITYSCAPES)).points.numpy()
    found = np.argwhere(heights)
    assert all(np.abs(found - point).max(axis=1).min() <= 4 for point in where)  # cells of four pixels
    assert set(np.unique(right.instance_scores)) == {np.float32(0), *heights[heights > 0]}


def test_keypoints_are_those_of_the_instances(label):
    maps = perfect(label)
    found = keypoint_grouping.find(
        tf.sigmoid(maps["keypoint_heatmap"][0]),
        maps["short_offset_map"][0],
        maps["middle_offset_map"][0],
        rules=keypoint_grouping.Rules(RADIUS, grouping=center_grouping.Rules(nms_kernel=7)),
    )
    expected = keypoints.of_instances(centers.find(segments.find(tf.constant(label), CITYSCAPES))).numpy()
    order = np.lexsort(expected[:, 4].T)
    points = found.points.numpy()
    np.testing.assert_allclose(points[np.lexsort(np.round(points[:, 4]).T)], expected[order], atol=2.0)
    assert np.all(np.diff(found.scores) <= 0)


def test_votes_of_one_disc_by_hand():
    # One pixel in the disc of the centre says (8, 12), and one in that of a corner says the same place.
    probabilities, short, middle = (np.zeros([17, 25, channels], np.float32) for channels in (5, 10, 16))
    probabilities[4, 12, 4], probabilities[0, 0, 0], probabilities[16, 24, 1] = 0.5, 0.75, 0.05
    short[4, 12, 8:] = [4, 0]
    pair = PAIRS.index((0, 4))
    middle[0, 0, 2 * pair : 2 * pair + 2] = [8, 12]
    votes = keypoint_grouping.center_votes(*map(tf.constant, (probabilities, short, middle)), radius=4.0).numpy()
    votes *= 5 * np.pi  # one cell has the radius
    assert votes.shape == (5, 7)
    assert votes[2, 3] == pytest.approx(1.25, rel=1e-5)
    assert votes[1, 3] == pytest.approx(0.625, rel=1e-5) and votes[1, 2] == pytest.approx(0.3125, rel=1e-5)
    assert votes.sum() == pytest.approx(1.25 * 4, rel=1e-5)  # the third is too unsure to vote


def test_of_neighbouring_cells_with_equal_votes_the_first_is_the_centre():
    # Half a disc votes for (128, 256), as many pixels beyond a line between for the next cell.
    ys, xs = np.mgrid[:257, :513].astype(np.float32)
    probabilities = np.zeros([257, 513, 5], np.float32)
    probabilities[..., 4] = (ys - 128) ** 2 + (xs - 258) ** 2 <= 32**2
    short = np.zeros([257, 513, 10], np.float32)
    short[..., 8], short[..., 9] = 128 - ys, np.where(xs < 258, 256, 260) - xs
    votes = keypoint_grouping.center_votes(probabilities, short, np.zeros([257, 513, 16], np.float32), radius=32.0)
    assert votes[32, 64] == votes[32, 65] == tf.reduce_max(votes)

    rules = keypoint_grouping.Rules(32.0, grouping=center_grouping.Rules(center_threshold=0.01))
    found = keypoint_grouping.find(probabilities, short, np.zeros([257, 513, 16], np.float32), rules=rules)
    np.testing.assert_array_equal(found.cells, [[32, 64]])
    np.testing.assert_array_equal(found.points[0, 4], [128, 256])


def test_votes_that_leave_the_image_do_not_count():
    probabilities, short, middle = (np.zeros([9, 9, channels], np.float32) for channels in (5, 10, 16))
    probabilities[0, 0, 4], short[0, 0, 8:] = 1.0, [-8, 0]
    votes = keypoint_grouping.center_votes(*map(tf.constant, (probabilities, short, middle)), radius=4.0)
    assert not votes.numpy().any()


def test_pixels_join_the_nearest_in_sides_of_its_box_and_none_beyond_the_limit():
    def box(top, left, side):
        corners = [(top, left), (top, left + side), (top + side, left), (top + side, left + side)]
        return [*corners, (top + side / 2, left + side / 2)]

    found = keypoint_grouping.Instances(
        tf.constant([box(0, 0, 10), box(0, 40, 40)], tf.float32), tf.constant([0.5, 0.75]), tf.zeros([2, 2], tf.int32)
    )
    assert keypoint_grouping.sides(found.points, 4.0).numpy().tolist() == [10, 40]
    assert keypoint_grouping.sides(found.points, 16.0).numpy().tolist() == [16, 40]
    # Pixels at (0, x) that expect the second box, moved by 8, 12 pixels; a thing; one of no thing.
    long = np.zeros([1, 4, 10], np.float32)
    for x, moved in enumerate((0, 8, 12, 0)):
        long[0, x] = (np.array(box(moved, 40, 40)) - [0, x]).reshape(-1)
    things = tf.constant([[True, True, True, False]])
    rules = keypoint_grouping.Rules(radius=4.0, distance_limit=0.25)
    instance, scores = keypoint_grouping.group(found, tf.constant(long), things, rules=rules)
    assert instance.numpy().tolist() == [[2, 2, 0, 0]]  # 8 / 40 is within the limit, 12 / 40 is not
    assert scores.numpy().tolist() == [[0.75, 0.75, 0, 0]]


def test_thing_pixels_near_no_instance_are_void_and_a_batch_is_its_images(label, right):
    maps = perfect(label)
    # The second image expects its instances elsewhere.
    lost = {**maps, "long_offset_map": maps["long_offset_map"] + 300.0}
    both = tf.function(run)({name: tf.concat([maps[name], lost[name]], axis=0) for name in maps})
    np.testing.assert_array_equal(both.panoptic[0], right.panoptic[0])
    np.testing.assert_array_equal(both.panoptic[1], np.where(label == 0, 0, CITYSCAPES.void_id))


def test_without_keypoints_or_things_there_are_no_instances(label):
    maps = perfect(label)
    nothing = run({**maps, "keypoint_heatmap": tf.fill([1, *SIZE, 5], -20.0)})
    np.testing.assert_array_equal(nothing.panoptic[0], np.where(label == 0, 0, CITYSCAPES.void_id))
    road = run({**maps, "semantic_logits": tf.one_hot(tf.zeros([1, *SIZE], tf.int32), 19)})
    assert not road.panoptic.numpy().any()


def test_the_highest_are_kept(label, right):
    few = run(perfect(label), keep_k_centers=1)
    heights = few.instance_centers.numpy()
    assert np.count_nonzero(heights) == 1
    assert heights.max() == right.instance_centers.numpy().max()
