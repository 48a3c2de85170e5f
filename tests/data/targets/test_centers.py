"""Centres, offsets and their heatmap: by hand, and against the reference."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data.datasets import DATASETS
from deeplab2_kmax.data.targets import centers, keys, segments, semantic, video
from deeplab2_kmax.layers import instance_centers
from tests import shared

CITYSCAPES = DATASETS["cityscapes_panoptic"]


def test_targets_by_hand():
    # A car of two pixels, a person of three, a crowd of cars, void.
    label = tf.constant([[13001, 13001, 11002], [7000, 11002, 11002], [13000, 255000, 7000]])
    found = segments.find(label, CITYSCAPES)
    where = centers.find(found)
    assert where.ids.numpy().tolist() == [13001, 11002]
    # Means (0, 0.5) and (2/3, 5/3): halves go to the even pixel.
    assert where.points.numpy().tolist() == [[0, 0], [1, 2]]
    assert where.extents.numpy().tolist() == [[0, 1], [1, 1]]
    made = centers.make(found, where, sigma=8.0, dataset=CITYSCAPES)
    assert made[keys.CENTER_OFFSET].numpy().tolist() == [
        [[0, 0], [0, -1], [1, 0]], [[0, 0], [0, 1], [0, 0]], [[0, 0], [0, 0], [0, 0]]
    ]  # fmt: skip
    assert made[keys.CENTER_OFFSET_WEIGHT].numpy().tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert made[keys.CENTER_WEIGHT].numpy().tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 1]]
    heat = made[keys.CENTER].numpy()
    assert heat[0, 0] == heat[1, 2] == 1.0
    np.testing.assert_allclose(heat[2, 0], np.exp(-4 / 128), rtol=1e-6)  # 2 pixels below (0, 0), sqrt(5) from (1, 2)


def test_a_heatmap_is_zero_outside_its_squares_and_highest_of_all_inside():
    heat = instance_centers.heatmap(tf.constant([[0.0, 0.0], [0.0, 20.0]]), tf.constant([60, 70]), sigma=8.0).numpy()
    assert heat[25, 0] > 0 and heat[26, 0] == 0 and heat[0, 45] > 0 and heat[0, 46] == 0
    np.testing.assert_allclose(heat[0, 8], np.exp(-0.5), rtol=1e-6)  # one sigma from the first, more from the second
    assert instance_centers.heatmap(tf.zeros([0, 2]), tf.constant([4, 5]), sigma=2.0).numpy().max() == 0


def test_an_image_without_instances_has_empty_targets():
    found = segments.find(tf.constant([[7000, 255000]]), CITYSCAPES)
    made = centers.make(found, centers.find(found), sigma=8.0, dataset=CITYSCAPES)
    assert made[keys.CENTER].numpy().max() == 0 and not made[keys.CENTER_OFFSET].numpy().any()


def test_centers_of_megapixels_are_exact():
    label = np.full([1025, 2049], 13001, np.int32)
    where = centers.find(segments.find(tf.constant(label), CITYSCAPES))
    assert where.points.numpy().tolist() == [[512, 1024]]
    assert where.extents.numpy().tolist() == [[1024, 2048]]


def test_targets_equal_the_reference():
    manifest, arrays = shared.case("panoptic_deeplab_targets")
    found, before, after = (
        segments.find(tf.constant(arrays[f"{name}panoptic_label"]), CITYSCAPES) for name in ("", "prev_", "next_")
    )
    where, previous = centers.find(found), centers.find(before)
    made = {
        **semantic.make(found, small_threshold=120, small_weight=3.0),
        **centers.make(found, where, sigma=8.0, dataset=CITYSCAPES),
        **video.make_motion(found, previous, previous.points),
        **video.make_next(where, after),
        "prev_center_heatmap_without_noise": instance_centers.heatmap(
            previous.points, tf.constant([65, 97]), sigma=8.0
        ),
        "crowd": tf.cast(found.is_crowd, tf.int32),
    }
    for key, expected in manifest["outputs"].items():
        value, wanted = made[key].numpy(), arrays[key]
        if "atol" in expected["tolerance"]:
            np.testing.assert_allclose(value, wanted, atol=1e-6, rtol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(value, wanted, err_msg=key)


def test_graph_and_eager_agree_with_operations_that_must_be_deterministic():
    label = tf.constant(np.kron(np.arange(6).reshape(2, 3), np.ones([9, 7], int)).astype(np.int32) + 13000)

    def make(label):
        found = segments.find(label, CITYSCAPES)
        return centers.make(found, centers.find(found), sigma=2.5, dataset=CITYSCAPES)

    eager, graph = make(label), tf.function(make)(label)
    for key in eager:
        np.testing.assert_array_equal(eager[key], graph[key])
    assert eager[keys.CENTER].numpy().max() == pytest.approx(np.exp(-0.25 / 2.5**2))
