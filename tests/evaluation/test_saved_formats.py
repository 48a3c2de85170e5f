"""Every task from files of every format: ground truth against itself, and errors against the metrics on the maps."""

import functools

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from evaluation import evaluate, metric_set
from tests.evaluation import saved_files as files
from trainer import raw_predictions

TRUTH, WRONG = files.video(0), files.video(1, change=0.3)
MAIN = {
    "panoptic": "evaluation/pq/PQ",
    "boundary_panoptic": "evaluation/boundary_pq/PQ",
    "parsing_covering": "evaluation/pc/PC",
    "semantic": "evaluation/iou/IoU",
    "video_panoptic": "evaluation/vpq/VPQ",
    "step": "evaluation/step/STQ",
    "depth_video_panoptic": "evaluation/dvpq/DVPQ",
    "depth_step": "evaluation/dstq/DSTQ",
    "depth": "evaluation/depth/DepthInlier",
}
PANOPTIC_FORMATS = {"step": files.step, "npy": files.arrays, "dvps": files.dvps_one_channel}
ROWS = [
    *((task, "step", files.step) for task in ("panoptic", "boundary_panoptic", "parsing_covering", "semantic")),
    *(("video_panoptic", name, write) for name, write in PANOPTIC_FORMATS.items()),
    ("step", "step", files.step),
    *((task, "dvps", files.dvps_three_files) for task in ("depth_video_panoptic", "depth_step", "depth")),
    ("semantic", "png", files.class_png),
    ("semantic", "cityscapes", files.label_ids),
    ("depth", "depth_png", files.depth_png),
]


@functools.cache
def on_maps(task):
    """What the metrics say about the maps themselves."""
    metrics = metric_set.MetricSet([task], files.DATASET)
    for (sequence, frame), (labels, depth) in TRUTH.items():
        pred_labels, pred_depth = WRONG[sequence, frame]
        truth = {"panoptic_raw": labels, "semantic_raw": labels // files.DIVISOR, "depth_raw": depth}
        prediction = {
            "panoptic_pred": pred_labels,
            "semantic_pred": pred_labels // files.DIVISOR,
            "depth_pred": pred_depth,
        }
        truth, prediction = ({key: value[np.newaxis] for key, value in maps.items()} for maps in (truth, prediction))
        metrics.update_state({**truth, "sequence_id": [sequence]}, prediction)
    metrics.flush()
    return metrics.result()


def score(task, name, truth, predicted, **options):
    found = evaluate.evaluate(task, truth, predicted, file_format=name, dataset="cityscapes_dvps", **options)
    assert found["num_images"] == len(TRUTH)
    return found["summary"]


@pytest.mark.parametrize(("task", "name", "write"), ROWS, ids=lambda value: getattr(value, "__name__", value))
def test_files_give_what_the_maps_give(task, name, write, tmp_path):
    truth, predicted = write(tmp_path / "truth", TRUTH), write(tmp_path / "predicted", WRONG)
    if task not in ("step", "depth_step"):
        assert score(task, name, truth, truth)[MAIN[task]] == 1
    found = score(task, name, truth, predicted)
    assert 0.05 < found[MAIN[task]] < 0.95
    assert found == pytest.approx(on_maps(task), rel=1e-9, nan_ok=True)


def test_tracks_without_void_are_perfect(tmp_path):
    """Prediction of void costs STQ a class, in the official code too."""
    frames = {
        key: (np.where(labels // files.DIVISOR == files.VOID, 0, labels), d) for key, (labels, d) in TRUTH.items()
    }
    for task, write in (("step", files.step), ("depth_step", files.dvps_one_channel)):
        folder = write(tmp_path / task, frames)
        assert score(task, {"step": "step"}.get(task, "dvps"), folder, folder)[MAIN[task]] == 1


def test_panoptic_json_gives_what_the_maps_give(tmp_path):
    truth, predicted = (files.coco_panoptic(tmp_path / name, maps) for name, maps in (("t", TRUTH), ("p", WRONG)))
    found = evaluate.evaluate("panoptic", truth, predicted)
    # A crowd of persons that is predicted is a segment like others.
    assert found["summary"] == pytest.approx(on_maps("panoptic"), rel=1e-9)
    named = {row.name: row for row in found["per_class"]}
    assert (named["car"].thing, named["road"].thing) == (True, False)
    found = evaluate.evaluate("panoptic", truth, predicted, file_format="cityscapes")
    assert found["summary"] == pytest.approx(on_maps("panoptic"), rel=1e-9)


def test_formats_of_both_sides_may_differ(tmp_path):
    truth, predicted = files.step(tmp_path / "truth", TRUTH), files.arrays(tmp_path / "predicted", WRONG)
    found = score("video_panoptic", "step", truth, predicted, prediction_format="npy")
    assert found == pytest.approx(on_maps("video_panoptic"), rel=1e-9)
    depths = [files.depth_png(tmp_path / name, maps, s) for name, maps, s in (("a", TRUTH, 256), ("b", WRONG, 128))]
    options = {"groundtruth_depth": depths[0], "prediction_depth": depths[1], "prediction_depth_scale": 128.0}
    found = score("depth_step", "step", truth, predicted, prediction_format="npy", **options)
    assert found == pytest.approx(on_maps("depth_step"), rel=1e-9)


def test_two_channels_hold_small_instances(tmp_path):
    truth = files.two_channels(tmp_path / "truth", TRUTH)
    assert score("panoptic", "two_channel_png", truth, truth)["evaluation/pq/PQ"] == 1
    with pytest.raises(ValueError, match="the blue channel is not 0: expected --format=step"):
        score("panoptic", "two_channel_png", truth, files.step(tmp_path / "three", TRUTH))


def test_evaluation_ids(tmp_path):
    truth, predicted = files.class_png(tmp_path / "truth", TRUTH), tmp_path / "predicted"
    ids = np.array([*files.DATASET.eval_ids, *[0] * 240])
    for (sequence, frame), (labels, _) in WRONG.items():
        files.png(predicted / sequence / f"{frame:06d}.png", ids[labels // files.DIVISOR], np.uint8)
    found = score("semantic", "png", truth, predicted, prediction_evaluation_ids=True)
    assert found == pytest.approx(on_maps("semantic"), rel=1e-9)
    with pytest.raises(ValueError, match="expected classes of cityscapes_dvps .*found 2"):
        score("semantic", "png", truth, predicted)


def test_parts_change_nothing(tmp_path, monkeypatch):
    task = "video_panoptic"
    truth, predicted = files.step(tmp_path / "truth", TRUTH), files.step(tmp_path / "predicted", WRONG)
    monkeypatch.setattr("evaluation.scoring.PART", 1)  # a part for each sequence
    assert score(task, "step", truth, predicted) == pytest.approx(on_maps(task), rel=1e-9)


@pytest.mark.slow
def test_several_processes(tmp_path, monkeypatch):
    truth, predicted = files.step(tmp_path / "truth", TRUTH), files.step(tmp_path / "predicted", WRONG)
    monkeypatch.setattr("evaluation.scoring.PART", 1)
    one = score("video_panoptic", "step", truth, predicted, num_workers=1)
    assert score("video_panoptic", "step", truth, predicted, num_workers=2) == one
    files.png(predicted / "000001" / "000000.png", np.zeros((5, 5, 3)), np.uint8)
    with pytest.raises(ValueError, match="image 000001/000000: expected a PNG of 96x72 as the ground truth, got 5x5"):
        score("video_panoptic", "step", truth, predicted, num_workers=2)


def test_report(tmp_path):
    truth, predicted = files.step(tmp_path / "truth", TRUTH), files.step(tmp_path / "predicted", WRONG)
    pictures = files.step(tmp_path / "pictures", TRUTH)  # any RGB does
    for task in ("video_panoptic", "semantic"):
        page = tmp_path / f"{task}.html"
        score(task, "step", truth, predicted, report=page, images=pictures)
        text = page.read_text()
        assert "road" in text and "000000/00000" in text and "<img" in text


def test_bad_files(tmp_path):
    truth = files.dvps_one_channel(tmp_path / "truth", TRUTH)
    (tmp_path / "truth" / "000001_000000_town_depth.png").unlink()
    with pytest.raises(ValueError, match=r"sequence 000001, frame 0: expected \*_depth.png"):
        score("depth_step", "dvps", truth, truth)
    files.png(tmp_path / "truth" / "strange.png", np.zeros((2, 2)), np.uint8)
    with pytest.raises(ValueError, match="strange.png: expected <sequence>_<frame>_<what>.png"):
        score("video_panoptic", "dvps", truth, truth)
    step = files.step(tmp_path / "step", TRUTH)
    with pytest.raises(ValueError, match="name the folder of depth PNGs with --groundtruth_depth"):
        score("depth_step", "step", step, step)
    some = files.step(tmp_path / "some", dict(list(TRUTH.items())[:4]))
    with pytest.raises(ValueError, match="no prediction for 1 image.*example 000001/000000"):
        score("step", "step", step, some)
    depth = files.depth_png(tmp_path / "depth", dict(list(TRUTH.items())[:4]))
    with pytest.raises(ValueError, match="no depth for 1 image.*example 000001/000000.png"):
        score("depth_step", "step", step, step, groundtruth_depth=depth, prediction_depth=depth)
    for options, name in (({"depth_scale": 5.0}, "depth_scale"), ({"variant": "all"}, "goes with the task semantic")):
        with pytest.raises(ValueError, match=name):
            score("step", "step", step, step, **options)
    np.save(tmp_path / "bad.npy", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"bad.npy: expected integers \[H, W, 3\]"):
        score("panoptic", "npy", tmp_path, tmp_path)


def test_raw_predictions_of_a_run_are_read(tmp_path):
    """What `raw_formats` writes, scored against the same maps as ground truth."""
    dataset = datasets.lookup("cityscapes_panoptic")
    frames = {
        key: (np.where(labels // files.DIVISOR == files.VOID, dataset.void_id, labels), depth)
        for key, (labels, depth) in TRUTH.items()
    }
    raw = raw_predictions.RawPredictions(
        tmp_path,
        dataset,
        formats=["coco", "step", "cityscapes", "deeplab2"],
        panoptic_format="two_channel_numpy_array",
    )
    with raw as writer:
        for (sequence, frame), (labels, depth) in frames.items():
            maps = {"panoptic_pred": labels, "semantic_pred": labels // files.DIVISOR, "depth_pred": depth}
            maps["semantic_scores"] = maps["instance_scores"] = np.ones(labels.shape, np.float32)
            writer.write(f"town_{sequence}_{frame:06d}_leftImg8bit.png", maps, sequence="town")
    truth = files.step(tmp_path / "truth" / "town", frames)
    for path in sorted(truth.rglob("*.png")):
        path.rename(truth / f"town_{path.parent.name}_{path.stem}_leftImg8bit.png")
    for task, name, folder, evaluation_ids in (
        ("panoptic", "step", "step", False),
        ("panoptic", "npy", "raw_panoptic", True),
        ("semantic", "png", "raw_semantic", True),
    ):
        found = evaluate.evaluate(
            task,
            truth.parent,
            tmp_path / folder,
            file_format="step",
            prediction_format=name,
            dataset="cityscapes_panoptic",
            prediction_evaluation_ids=evaluation_ids,
        )
        # A crowd that is predicted is one more person: void and the rest are as they were.
        assert found["summary"][MAIN[task]] == 1
    truth = files.coco_panoptic(tmp_path / "panoptic", TRUTH, prefix="town_")
    found = evaluate.evaluate("panoptic", truth, tmp_path / "cityscapes" / "panoptic.json", file_format="cityscapes")
    assert found["summary"]["evaluation/pq/PQ"] == 1
