import numpy as np
import pytest
import tensorflow as tf

from evaluation import mean_iou


def result(y_true, y_pred, *, ignore_label=255, variant="present", num_classes=3):
    metric = mean_iou.MeanIoU(num_classes, ignore_label, variant=variant)
    metric.update_state(tf.constant([y_true]), tf.constant([y_pred]))
    return {key: value.numpy() for key, value in metric.result().items()}


def test_by_hand():
    found = result([0, 0, 0, 1, 1, 255], [0, 0, 1, 1, 255, 0])
    # Class 0: 2 of 3 (the pixel on void does not count); class 1: 1 of 3, one of them predicted void.
    np.testing.assert_allclose(found["iou_per_class"], [2 / 3, 1 / 3, np.nan])
    assert found["iou"] == 0.5 and found["n"] == 2
    assert found["accuracy"] == 3 / 5
    np.testing.assert_allclose(found["frequency_weighted_iou"], 3 / 5 * 2 / 3 + 2 / 5 * 1 / 3)
    np.testing.assert_allclose(found["class_accuracy"], (2 / 3 + 1 / 2) / 2)
    assert found["n_true"] == 2
    np.testing.assert_array_equal(found["confusion"], [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])


def test_variants():
    maps = [0, 0, 0, 1, 1, 255], [0, 0, 1, 1, 255, 0]
    assert result(*maps, variant="all")["iou"] == pytest.approx(1 / 3)
    # One more class of IoU 0, because void is predicted on valid ground truth.
    assert result(*maps, variant="stq")["iou"] == pytest.approx(1 / 3)
    assert result([0, 1], [0, 1], variant="stq")["iou"] == 1


def test_ignored_class_inside_the_classes():
    found = result([0, 1, 1], [0, 1, 0], ignore_label=0, num_classes=2)
    assert found["iou"] == 0.5 and found["n"] == 1  # DeepLab2 gives 0.25
    assert result([0, 1, 1], [0, 1, 0], ignore_label=0, num_classes=2, variant="all")["n"] == 1


def test_nothing_to_score():
    assert result([255, 255], [0, 1])["iou"] == 0
    assert np.isnan(result([255, 255], [0, 1], variant="stq")["iou"])
    assert np.isnan(result([255, 255], [0, 1])["iou_per_class"]).all()


def test_unknown_classes():
    assert result([0, 7], [0, 0])["invalid"] == 1
    assert result([0, 1], [0, 7])["invalid"] == 1
    metric = mean_iou.MeanIoU(3, 255)
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither of a class nor void"):
        metric.update_state([[0, 1]], [[0, 7]], strict=True)


def test_batches_graphs_and_merging_agree():
    rng = np.random.default_rng(0)
    y_true, y_pred = (rng.choice([0, 1, 2, 255], (5, 9, 8)) for _ in range(2))
    whole, graph, xla, parts = (mean_iou.MeanIoU(3, 255) for _ in range(4))
    for image in zip(y_true, y_pred):
        whole.update_state(*image)
    for metric, jit_compile in ((graph, False), (xla, True)):

        @tf.function(jit_compile=jit_compile)
        def step(y_true, y_pred, metric=metric):
            metric.update_state(y_true, y_pred)

        step(tf.constant(y_true), tf.constant(y_pred))
    other = mean_iou.MeanIoU(3, 255)
    parts.update_state(y_true[:2], y_pred[:2])
    other.update_state(y_true[2:], y_pred[2:])
    parts.merge_state([other])
    for metric in (graph, xla, parts):
        np.testing.assert_array_equal(metric.result()["confusion"], whole.result()["confusion"])
        assert metric.result()["iou"] == whole.result()["iou"]
    with pytest.raises(ValueError, match="variant"):
        whole.merge_state([mean_iou.MeanIoU(3, 255, variant="all")])


def test_instances_weigh_the_same():
    # A thing of 1 pixel (hit) and one of 3 (missed), mean size 3: hits 3, misses 3.
    metric = mean_iou.InstanceWeightedIoU(2, 255, 10, {0: 3.0})
    metric.update_state([[1, 2, 2, 2, 10, 10]], [[0, 1, 1, 1, 1, 0]])
    found = metric.result()
    np.testing.assert_allclose(found["iiou_per_class"], [3 / (3 + 3 + 1), np.nan])
    assert found["n"] == 1


def test_config_makes_the_same_metric():
    for metric in (
        mean_iou.MeanIoU(3, 255, variant="stq"),
        mean_iou.InstanceWeightedIoU(2, 255, 10, {0: 3.0}, max_segments=9),
    ):
        assert type(metric).from_config(metric.get_config()).get_config() == metric.get_config()


def test_bad_arguments():
    with pytest.raises(ValueError, match="variant to be one of present, all, stq"):
        mean_iou.MeanIoU(3, 255, variant="some")
