"""metrics.jsonl and pictures."""

import json

import numpy as np
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.data import datasets
from trainer import summaries

DATASET = datasets.lookup("synthetic_panoptic")


def test_metrics_file_adds_lines(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    file = summaries.MetricsFile(path)
    file.append(5, "train", {"losses/train_total_loss": np.float32(1.5)})
    file.append(5, "eval", {"evaluation/pq/PQ": float("nan")})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 5, "mode": "train", "losses/train_total_loss": 1.5},
        {"step": 5, "mode": "eval", "evaluation/pq/PQ": None},
    ]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5, "mo')
    summaries.MetricsFile(path).append(10, "train", {})
    lines = path.read_text().splitlines()
    assert lines[0] == '{"step": 5, "mo'
    assert json.loads(lines[1]) == {"step": 10, "mode": "train"}


class Model(tf.Module):
    """Takes red for the panoptic label."""

    def __call__(self, images, training=False):
        panoptic = tf.cast(images[..., 0], tf.int32)
        scores = tf.ones_like(images[..., 0])
        maps = structures.PanopticMaps(panoptic, panoptic, panoptic, scores, scores)
        return structures.MaskTransformerOutput(structures.MaskPrediction(scores, scores, scores), None, (), maps)

    def cluster_maps(self, images):
        return [tf.cast(images[:, ::2, ::2, 0], tf.int32)]


def test_sample_pictures(tmp_path):
    # As Motion-DeepLab's: two frames, and a heat map of centres.
    batch = {"image": tf.zeros([2, 4, 6, 7]), "panoptic_gt": tf.zeros([2, 4, 6], tf.int32)}
    asked = []

    def data():
        asked.append(True)
        return tf.data.Dataset.from_tensors(batch)

    sample = summaries.SamplePictures(Model(), DATASET, data)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        sample.write(10)
        sample.write(20)
    assert len(asked) == 1
    (path,) = tmp_path.glob("events*")
    events = list(tf.compat.v1.train.summary_iterator(str(path)))
    found = sorted((event.step, value.tag) for event in events for value in event.summary.value)
    names = ["clusters_0/0", "image/0", "panoptic_label/0", "panoptic_prediction/0"]
    assert found == [(step, name) for step in (10, 20) for name in names]


def test_pictures():
    label = np.zeros([4, 6], np.int32)
    label[:, 3:] = DATASET.ignore_label
    prediction = np.zeros([4, 6], np.int32)
    prediction[:, 2:] = 1
    shown = summaries.pictures(
        DATASET,
        np.full([4, 6, 3], 300.0),
        semantic_prediction=prediction,
        semantic_label=label,
        clusters=[np.array([[0, 1], [2, 3]])],
    )
    assert set(shown) == {"image", "semantic_prediction", "semantic_label", "semantic_error", "clusters_0"}
    assert shown["image"].max() == 255
    assert shown["semantic_prediction"][0, 5].tolist() == list(DATASET.colors[1])
    # Wrong in column 2; columns from 3 on are void.
    assert shown["semantic_error"][0, :, 0].tolist() == [0, 0, 255, 0, 0, 0]
    assert shown["clusters_0"].shape == (4, 6, 3)
    assert (shown["clusters_0"][0, 0] == shown["clusters_0"][1, 2]).all()


def test_pictures_of_heat_maps_and_depth():
    heat, depth = np.zeros([1, 4]), np.array([[0.0, 2.0, 4.0, 1000.0]])
    heat[0, 1:3] = 1.5, 0.5  # heat maps may exceed 1
    shown = summaries.pictures(
        DATASET, np.full([1, 4, 3], 100.0), center_prediction=heat, depth_prediction=depth, depth_label=np.zeros([1, 4])
    )
    assert shown["center_prediction"][0].tolist() == [[100] * 3, [255, 0, 0], [177, 50, 50], [100] * 3]
    grey = shown["depth_prediction"][0, :, 0].tolist()
    assert grey[0] == 0 and grey[1] > 250 and grey[2] == 132 and grey[3] == 0  # nearest: 2.08 m
    assert shown["depth_label"].max() == 0
