"""Tasks beside panoptic and semantic: what they read, log and print, on maps that can be scored by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config_values
from deeplab2_kmax.data import datasets, protocols
from evaluation import metric_set

CAR, ROAD = 10, 20
DATASET = datasets.Dataset(
    name="tiny",
    num_classes=3,
    ignore_label=0,
    label_divisor=10,
    thing_ids=(1,),
    class_names=("void", "car", "road"),
    colors=((0, 0, 0), (1, 2, 3), (7, 8, 9)),
    eval_ids=(0, 1, 2),
    is_video=True,
    has_depth=True,
)


def frame(*ids, label=CAR):
    """A frame of one row: [1, 1, W]."""
    return np.array([[[label + i for i in ids]]], np.int32)


def scored(task, batches, **options):
    metrics = metric_set.MetricSet([task], DATASET, **options)
    for truth, prediction in batches:
        metrics.update_state(truth, prediction)
    metrics.flush()
    return metrics


def test_tracks_of_two_sequences():
    # AQ of tracks 11111 against 11222 is 0.52, of perfect ones 1; the same ids in another sequence are other tracks.
    frames = [
        ({"panoptic_raw": frame(1, 1, 1, 1, 1), "sequence_id": ["a"]}, {"panoptic_pred": frame(1, 1, 2, 2, 2)}),
        ({"panoptic_raw": frame(1, 1, 1, 1, 1), "sequence_id": ["b"]}, {"panoptic_pred": frame(2, 2, 2, 2, 2)}),
    ]
    metrics = scored("step", frames)
    values = metrics.result()
    assert values["evaluation/step/AQ"] == pytest.approx(0.76)
    assert values["evaluation/step/IoU"] == 1
    assert values["evaluation/step/STQ"] == pytest.approx(0.76**0.5)
    assert values["evaluation/step/num_tubes"] == values["evaluation/step/num_frames"] == 2
    text = metric_set.table(values, metrics.per_class())
    assert text.split() == ["STQ", "87.18", "AQ", "76.00", "IoU", "100.00", "(2", "tracks", "in", "2", "frames)"]
    joined = scored("step", [({**truth, "sequence_id": ["a"]}, prediction) for truth, prediction in frames])
    assert joined.result()["evaluation/step/num_tubes"] == 1


def test_pixels_of_panoramas_that_two_cameras_see_count_half():
    truth = {
        "panoptic_raw": frame(1, 1, 1, 1, 1),
        "sequence_id": ["a"],
        "num_cameras_raw": frame(1, 1, 2, 2, 1, label=0),
    }
    prediction = {"panoptic_pred": frame(1, 1, 2, 2, 2)}
    # Both parts of the track weigh 2 of 4, and their IoU with it is 2 / 4. (Unweighted it would be 0.52.)
    assert scored("step", [(truth, prediction)]).result()["evaluation/step/AQ"] == pytest.approx(0.5)
    depth = {"depth_raw": np.ones((1, 1, 5)), "depth_pred": np.ones((1, 1, 5))}
    values = scored("depth_step", [({**truth, **depth}, {**prediction, **depth})]).result()
    assert values["evaluation/dstq/AQ"] == pytest.approx(0.5)


def test_frames_that_are_held_back_are_not_forgotten():
    metrics = metric_set.MetricSet(["step"], DATASET)
    metrics.update_state({"panoptic_raw": frame(1), "sequence_id": ["a"]}, {"panoptic_pred": frame(1)})
    with pytest.raises(ValueError, match=r"1 frames belong to a sequence that has not ended: call flush\(\)"):
        metrics.result()


@pytest.mark.parametrize("compiled", [False, True])
def test_windows_do_not_reach_over_sequences(compiled):
    # The id changes from frame to frame: windows of one frame are perfect, no window of two has a match.
    metrics = metric_set.MetricSet(["video_panoptic"], DATASET)

    def step(truth, prediction):
        metrics.update_state(truth, prediction)

    step = tf.function(step, autograph=False) if compiled else step
    for sequence, ids in (("a", (1, 2)), ("b", (1, 2))):
        for index in ids:
            truth = {"panoptic_raw": tf.constant(frame(1, 1)), "sequence_id": tf.constant([sequence])}
            step(truth, {"panoptic_pred": tf.constant(frame(index, index))})
    values = metrics.result()
    assert values["evaluation/vpq/VPQ_1_frames"] == 1 and values["evaluation/vpq/num_windows_1_frames"] == 4
    assert values["evaluation/vpq/VPQ_2_frames"] == 0 and values["evaluation/vpq/num_windows_2_frames"] == 2
    assert values["evaluation/vpq/num_windows_3_frames"] == 0
    assert values["evaluation/vpq/VPQ"] == values["evaluation/vpq/VPQ_things"] == 0.25
    assert metrics.per_class()[0].vpq == 0.25 and metrics.per_class()[1].vpq is None
    assert metrics.per_class_values() == {"evaluation/vpq_per_class/car": 0.25}
    metrics.reset_state()
    assert metrics.result()["evaluation/vpq/num_windows_1_frames"] == 0


def test_depth_of_half_the_pixels_is_wrong():
    truth = {
        "panoptic_raw": frame(0, 0, 0, 0, label=ROAD),
        "sequence_id": ["a"],
        "depth_raw": np.full([1, 1, 4, 1], 10.0, np.float32),
    }
    # 20 % and 100 % off.
    prediction = {"panoptic_pred": truth["panoptic_raw"], "depth_pred": np.array([[[10, 10, 12, 20]]], np.float32)}
    values = scored("depth_video_panoptic", [(truth, prediction)]).result()
    # IoU 2/4 is no match; 3/4 at thresholds of 25 and 50 %; windows of more than one frame do not occur.
    assert values["evaluation/dvpq/DVPQ_1_frames"] == pytest.approx((0 + 0.75 + 0.75) / 3)
    assert values["evaluation/dvpq/DVPQ_threshold_0.1"] == 0
    assert values["evaluation/dvpq/DVPQ_threshold_0.25"] == pytest.approx(0.75 / 4)  # of four windows
    assert values["evaluation/dvpq/AbsErrorRel"] == pytest.approx(0.3)
    values = scored("depth_step", [(truth, prediction)]).result()
    assert values["evaluation/dstq/DQ"] == pytest.approx((0.75 * 0.5) ** 0.5)  # within 1.25 and 1.1
    metrics = scored("depth", [(truth, prediction)])
    values = metrics.result()
    assert values["evaluation/depth/AbsErrorRel"] == pytest.approx(0.3)
    assert values["evaluation/depth/DepthInlier"] == 0.75
    assert values["evaluation/depth/num_images"] == 1
    assert "relative error 30.00" in metric_set.table(values)


def test_padding_is_unknown_depth():
    metrics = metric_set.MetricSet(["depth_video_panoptic"], DATASET)
    labels, depth = frame(0, 0, 0, label=ROAD), np.array([[[10.0, 10.0, 5.0]]], np.float32)
    truth = {"panoptic_raw": labels, "sequence_id": ["a"], "depth_raw": depth}
    prediction = {"panoptic_pred": labels, "depth_pred": np.full([1, 1, 3], 10.0, np.float32)}
    metrics.update_state(truth, prediction, tf.constant([[1, 2]]))
    assert metrics.result()["evaluation/dvpq/AbsErrorRel"] == 0
    sized = metric_set.MetricSet(["depth"], DATASET)
    with pytest.raises(ValueError, match="Task depth looks at the size of an image"):
        sized.update_state(truth, prediction, tf.constant([[1, 2]]))


def test_normals():
    up, right = [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]
    truth = {"normals_raw": np.array([[[up, up, up, [0, 0, 0]]]], np.float32)}
    metrics = scored("normals", [(truth, {"normals_pred": np.array([[[up, right, up, up]]], np.float32)})])
    values = metrics.result()
    assert values["evaluation/normals/mean"] == pytest.approx(30.0)
    assert values["evaluation/normals/below_30"] == pytest.approx(2 / 3)
    assert values["evaluation/normals/num_pixels"] == 3
    assert "mean 30.00" in metric_set.table(values)


def instance_case():
    """A car found and one that is not there, in a map of 4 x 4."""
    truth, prediction = np.full([1, 4, 4], ROAD, np.int32), np.full([1, 4, 4], ROAD, np.int32)
    truth[0, :2, :2] = CAR + 1
    prediction[0, :2, :2] = CAR + 1
    prediction[0, 2:, 2:] = CAR + 2
    scores = np.ones([1, 4, 4], np.float32)
    scores[0, 2:, 2:] = 0.5
    maps = {"panoptic_pred": prediction, "semantic_scores": scores, "instance_scores": scores}
    return {"panoptic_raw": truth, "image_number": [3]}, maps


def test_average_precision_of_coco():
    metrics = scored("instance", [instance_case()], detailed_ap=True)
    values = metrics.result()
    # The false detection comes last and costs nothing.
    assert values["evaluation/ap/AP_Mask"] == pytest.approx(1.0)
    assert values["evaluation/ap/AP_Mask_@IoU=0.75"] == pytest.approx(1.0)
    assert values["evaluation/ap/AP_Mask_large"] == -1  # there is none
    assert values["evaluation/ap/AR_Mask_maxdets=100"] == pytest.approx(1.0)
    assert len([name for name in values if "A" in name.split("/")[-1][:1]]) == 12
    car, road = metrics.per_class()
    assert car.ap == pytest.approx(1.0) and car.ap50 == pytest.approx(1.0) and road.ap is None
    lines = [line.split() for line in metric_set.table(values, [car]).splitlines()]
    assert ["AP_large", "-"] in lines and ["car", "100.00", "100.00"] in lines
    plain = scored("instance", [instance_case()]).result()
    assert set(plain) == {"evaluation/ap/AP_Mask", "evaluation/ap/num_classes", "evaluation/ap/images_left_out"}


def test_average_precision_of_cityscapes():
    dataset = dataclasses.replace(DATASET, name="cityscapes_panoptic")
    assert protocols.of(dataset).instances == "cityscapes"
    metrics = metric_set.MetricSet(["instance"], dataset, detailed_ap=True)
    metrics.update_state(*instance_case())
    values = metrics.result()
    # Instances of fewer than 100 pixels are no targets there.
    assert values["evaluation/ap/num_classes"] == 0 and values["evaluation/ap/AP_Mask"] == 0
    assert "evaluation/ap/AP_Mask_@IoU=0.5" in values and "evaluation/ap/AP_Mask_small" not in values


def test_boundary_and_covering_and_pairs_of_frames():
    truth, prediction = instance_case()
    truth["next_panoptic_raw"], prediction["concat_next_panoptic_pred"] = truth["panoptic_raw"], truth["panoptic_raw"]
    metrics = metric_set.MetricSet(["boundary_panoptic", "parsing_covering", "next_frame_panoptic"], DATASET)
    metrics.update_state(truth, prediction)
    values = metrics.result()
    assert values["evaluation/boundary_pq/FP"] == 1 and values["evaluation/boundary_pq/TP"] == 2
    assert values["evaluation/pc/PC_things"] == 1 and values["evaluation/pc/PC_stuff"] == pytest.approx(8 / 12)
    # In the pair, the road has 20 of 24 pixels.
    assert values["evaluation/vpq_2frames/SQ_stuff"] == pytest.approx(20 / 24)
    car, road = metrics.per_class()
    assert road.pc == pytest.approx(8 / 12) and car.bpq == pytest.approx(1 / 1.5) and car.pq is None
    assert "PQ bd." in metric_set.table(values) and "PQ 2f" in metric_set.table(values)


def test_what_is_missing_is_named():
    metrics = metric_set.MetricSet(["depth"], DATASET)
    with pytest.raises(ValueError, match="Task depth needs 'depth_pred' in the prediction; there is: panoptic_pred"):
        metrics.update_state({"depth_raw": np.ones([1, 1, 1])}, {"panoptic_pred": frame(1)})
    with pytest.raises(ValueError, match="Task step reads panoptic_raw, sequence_id, panoptic_pred: use update_state"):
        metric_set.MetricSet(["step"], DATASET).update_maps("step", frame(1), frame(1))
    with pytest.raises(ValueError, match="Unknown evaluation task of this set 'panoptic'"):
        metrics.update_maps("panoptic", frame(1), frame(1))
    with pytest.raises(ValueError, match="at least one thing id"):
        metric_set.MetricSet(["instance"], dataclasses.replace(DATASET, thing_ids=()))


def test_joining_what_two_processes_counted():
    tasks = ["panoptic", "step", "instance", "depth"]
    whole, first, second = (metric_set.MetricSet(tasks, DATASET) for _ in range(3))
    for part, sequence in ((first, "a"), (second, "b")):
        truth, prediction = instance_case()
        truth.update(sequence_id=[sequence], depth_raw=np.ones([1, 4, 4]))
        prediction["depth_pred"] = np.ones([1, 4, 4], np.float32)
        for metrics in (whole, part):
            metrics.update_state(truth, prediction)
            metrics.flush()
    first.add_state(second.state())
    assert first.result() == pytest.approx(whole.result())
    assert first.result()["evaluation/pq/TP"] == 4


def test_names_of_all_values():
    names = metric_set.MetricSet(["panoptic", "semantic", "step"], DATASET).names()
    assert {"evaluation/pq/PQ", "evaluation/iou_per_class/road", "evaluation/step/STQ"} <= names
    assert "evaluation/tp_per_class/car" not in names


def test_configs_name_the_same_tasks():
    assert set(config_values.CHOICES["EvaluatorOptions", "more_metrics"]) == set(metric_set.TASKS)


def test_protocols_are_of_data_sets():
    assert set(protocols.PROTOCOLS) <= set(datasets.DATASETS)
    assert protocols.of(datasets.lookup("semkitti_dvps")).windows == (1, 5, 10, 20)
