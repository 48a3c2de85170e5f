"""Which metrics follow from a model's tasks, the data set and the options."""

import dataclasses

import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.protos import evaluator_pb2
from evaluation import metric_set
from tests.trainer import tiny
from trainer import eval_metrics

STREET, CLIPS = datasets.lookup("cityscapes_panoptic"), datasets.lookup("cityscapes_dvps")


def choose(tasks, dataset, **options):
    return eval_metrics.choose(tasks, dataset, evaluator_pb2.EvaluatorOptions(**options))


def test_tasks_of_images_and_videos():
    assert choose(("panoptic", "semantic"), STREET) == ("panoptic", "semantic")
    tasks = ("panoptic", "semantic", "video_panoptic", "depth_video_panoptic", "depth")
    assert choose(tasks, STREET) == ("panoptic", "semantic")
    video = dataclasses.replace(CLIPS, has_depth=False)
    assert choose(tasks, video) == ("panoptic", "semantic", "video_panoptic", "step")
    assert choose(tasks, CLIPS) == (
        *("panoptic", "semantic", "video_panoptic", "step", "depth_video_panoptic", "depth_step", "depth"),
    )


def test_what_the_options_add():
    assert choose(("semantic",), STREET, more_metrics=["parsing_covering"]) == ("semantic", "parsing_covering")
    assert choose(("panoptic",), STREET, detailed_ap_metrics=True) == ("panoptic", "instance")
    twice = choose(("panoptic",), STREET, more_metrics=["instance", "panoptic"], detailed_ap_metrics=True)
    assert twice == ("panoptic", "instance")


def test_detailed_average_precision():
    options = evaluator_pb2.EvaluatorOptions(detailed_ap_metrics=True)
    names = eval_metrics.make(("panoptic",), datasets.lookup("synthetic_panoptic"), options).names()
    assert {"evaluation/ap/AP_Mask", "evaluation/ap/AR_Mask_maxdets=10", "evaluation/ap50_per_class/car"} <= names
    with pytest.raises(ValueError, match="stuff has no instances"):
        eval_metrics.make(("semantic",), datasets.lookup("nyud_v2"), options)


def test_names_that_can_be_logged(tmp_path):
    config = tiny.load(tmp_path)
    names = eval_metrics.names(metric_set.MetricSet(["semantic"], STREET), config)
    assert {"losses/eval_total_loss", "losses/eval_pq_style_loss", "evaluation/iou/IoU"} <= names
    assert "losses/eval_center_loss" not in names
    config.trainer_options.ClearField("loss_options")
    assert eval_metrics.names(None, config) == set()


def test_every_task_of_an_architecture_has_metrics():
    from deeplab2_kmax import architectures

    for row in architectures.ARCHITECTURES.values():
        assert choose(row.tasks, CLIPS)
