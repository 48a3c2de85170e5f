import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.data import datasets
from evaluation import metric_set

DATASET = datasets.Dataset(
    name="tiny",
    num_classes=4,
    ignore_label=0,
    label_divisor=10,
    thing_ids=(1, 2),
    class_names=("void", "car", "person", "road"),
    colors=((0, 0, 0), (1, 2, 3), (4, 5, 6), (7, 8, 9)),
    eval_ids=(0, 1, 2, 3),
)
CAR, ROAD = 11, 30
TRUE = [[CAR, CAR, CAR, CAR, ROAD, ROAD, ROAD, 0]]
PRED = [[CAR, CAR, CAR, ROAD, ROAD, ROAD, ROAD, ROAD]]


def batch(y_true, y_pred):
    y_true, y_pred = (tf.constant([maps], tf.int32) for maps in (y_true, y_pred))
    empty = tf.zeros_like(y_true)
    maps = structures.PanopticMaps(y_pred, y_pred // 10, y_pred % 10, empty, empty)
    return {"panoptic_raw": y_true, "semantic_raw": y_true // 10}, maps


def test_names_and_values():
    metrics = metric_set.MetricSet(["panoptic", "semantic"], DATASET)
    metrics.update_state(*batch(TRUE, PRED))
    # Both segments match with an IoU of 3/4.
    assert metrics.result() == pytest.approx(
        {
            "evaluation/pq/PQ": 0.75,
            "evaluation/pq/SQ": 0.75,
            "evaluation/pq/RQ": 1.0,
            "evaluation/pq/num_classes": 2,
            "evaluation/pq/PQ_things": 0.75,
            "evaluation/pq/SQ_things": 0.75,
            "evaluation/pq/RQ_things": 1.0,
            "evaluation/pq/num_classes_things": 1,
            "evaluation/pq/PQ_stuff": 0.75,
            "evaluation/pq/SQ_stuff": 0.75,
            "evaluation/pq/RQ_stuff": 1.0,
            "evaluation/pq/num_classes_stuff": 1,
            "evaluation/pq/TP": 2,
            "evaluation/pq/FP": 0,
            "evaluation/pq/FN": 0,
            "evaluation/pq/images_left_out": 0,
            "evaluation/iou/IoU": 0.75,
            "evaluation/iou/accuracy": 6 / 7,
            "evaluation/iou/num_classes": 2,
        }
    )
    assert all(type(value) is float for value in metrics.result().values())
    car, person, road = metrics.per_class()
    assert car[:11] == (1, "car", True, (1, 2, 3), 0.75, 0.75, 1.0, 1, 0, 0, 0.75)
    assert person[:11] == (2, "person", True, (4, 5, 6), None, None, None, 0, 0, 0, None)
    assert {*car[11:]} == {None}  # of tasks that are not kept
    assert road.iou == 0.75 and not road.thing
    # A class that does not occur has no value to log.
    names = [name for name in metrics.per_class_values() if name.startswith("evaluation/pq_per_class/")]
    assert names == ["evaluation/pq_per_class/car", "evaluation/pq_per_class/road"]
    assert metrics.per_class_values()["evaluation/iou_per_class/car"] == 0.75


def test_padding_is_not_scored():
    padded, plain = (metric_set.MetricSet(["panoptic", "semantic"], DATASET) for _ in range(2))
    plain.update_state(*batch(TRUE, PRED))
    truth, maps = batch(TRUE + [[CAR] * 8], PRED + [[ROAD] * 8])

    @tf.function(jit_compile=True)
    def step(truth, maps, sizes):
        padded.update_state(truth, maps, sizes)

    step(truth, maps, tf.constant([[1, 8]]))
    assert padded.result() == plain.result()
    padded.reset_state()
    assert padded.result()["evaluation/pq/num_classes"] == 0
    padded.update_state(truth, maps, tf.constant([[1, 3]]))
    assert padded.result()["evaluation/pq/TP"] == 1


def test_one_task_only():
    metrics = metric_set.MetricSet(["semantic"], DATASET)
    truth, maps = batch(TRUE, PRED)
    metrics.update_state({"semantic_raw": truth["semantic_raw"]}, maps)
    assert not [name for name in metrics.result() if name.startswith("evaluation/pq")]
    assert metrics.per_class()[0].pq is None and metrics.per_class()[0].iou == 0.75


def test_small_integer_types():
    metrics = metric_set.MetricSet(["semantic"], dataclasses.replace(DATASET, ignore_label=255))
    y_true = np.array([[[1, 3, 255]]], np.uint8)
    metrics.update_maps("semantic", y_true, y_true, tf.constant([[1, 2]]))
    assert metrics.result()["evaluation/iou/accuracy"] == 1


def test_unknown_task():
    with pytest.raises(ValueError, match="Unknown evaluation task 'panoptik'. Did you mean: panoptic"):
        metric_set.MetricSet(["panoptik"], DATASET)
    with pytest.raises(ValueError, match="at least one task"):
        metric_set.MetricSet([], DATASET)


def test_unknown_labels_are_an_error():
    metrics = metric_set.MetricSet(["panoptic"], DATASET)
    metrics.update_state(*batch(TRUE, [[CAR] * 7 + [77]]))
    with pytest.raises(ValueError, match="tiny, task panoptic: 1 images hold labels"):
        metrics.result()


def test_too_many_segments_are_reported():
    metrics = metric_set.MetricSet(["panoptic"], DATASET, max_segments=1)
    metrics.update_state(*batch(TRUE, PRED))
    assert metrics.result()["evaluation/pq/images_left_out"] == 1


def test_table():
    metrics = metric_set.MetricSet(["panoptic", "semantic"], DATASET)
    metrics.update_state(*batch(TRUE, PRED))
    text = metric_set.table(metrics.result(), metrics.per_class())
    lines = [line.split() for line in text.splitlines()]
    assert ["all", "75.00", "75.00", "100.00", "2"] in lines
    assert ["mean", "IoU", "75.00", "pixel", "accuracy", "85.71"] in lines
    assert ["class", "PQ", "SQ", "RQ", "TP", "FP", "FN", "IoU"] in lines
    assert ["car", "75.00", "75.00", "100.00", "1", "0", "0", "75.00"] in lines
    assert "person" not in text
