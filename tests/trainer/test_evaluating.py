"""The evaluation loop over a model that reads its answer off the image."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import structures
from deeplab2_kmax.data import datasets
from deeplab2_kmax.protos import evaluator_pb2
from evaluation import metric_set
from tests import replicas
from trainer import evaluating

DATASET = datasets.lookup("synthetic_panoptic")


class Model(tf.Module):
    """Red is the class, green the instance: a model that is always right."""

    def __call__(self, images, training=False):
        assert not training
        semantic = tf.cast(tf.round(images[..., 0]), tf.int32)
        instance = tf.cast(tf.round(images[..., 1]), tf.int32)
        scores = tf.ones_like(images[..., 0])
        maps = structures.PanopticMaps(semantic * DATASET.label_divisor + instance, semantic, instance, scores, scores)
        return structures.MaskTransformerOutput(structures.MaskPrediction(scores, scores, scores), None, (), maps)

    def cluster_maps(self, images):
        return [tf.cast(images[:, ::4, ::4, 0], tf.int32)] * 2


def loss(output, targets, *, seed=None):
    assert output.auxiliary == ()
    return {"total_loss": targets["value"]}


def samples(count):
    """Images of different sizes; the left half is stuff, a square is a thing. Padded to 12 x 12."""
    divisor, thing = DATASET.label_divisor, DATASET.thing_ids[0]

    def generate():
        for index in range(count):
            height, width = 8 + index % 3, 10
            semantic = np.zeros([height, width], np.int32)
            semantic[:, 5:] = 1
            semantic[2:5, 2:5] = thing
            panoptic = semantic * divisor
            panoptic[2:5, 2:5] += 1
            image = np.zeros([12, 12, 3], np.float32)
            image[:height, :width, 0] = semantic
            image[:height, :width, 1] = panoptic % divisor
            yield {
                "image": image[np.newaxis],
                "value": np.array([float(index)], np.float32),
                "image_name": np.array([f"folder/image{index}.jpg"]),
                "size_raw": np.array([[height, width]], np.int32),
                "size_resized": np.array([[height, width]], np.int32),
                "panoptic_raw": panoptic[np.newaxis],
                "semantic_raw": semantic[np.newaxis],
            }

    spec = {
        "image": tf.TensorSpec([1, 12, 12, 3], tf.float32),
        "value": tf.TensorSpec([1], tf.float32),
        "image_name": tf.TensorSpec([1], tf.string),
        "size_raw": tf.TensorSpec([1, 2], tf.int32),
        "size_resized": tf.TensorSpec([1, 2], tf.int32),
        "panoptic_raw": tf.TensorSpec([1, None, None], tf.int32),
        "semantic_raw": tf.TensorSpec([1, None, None], tf.int32),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=spec)


def make(folder, *, strategy=None, count=5, **options):
    return evaluating.Evaluator(
        model=Model(),
        loss=loss,
        metrics=metric_set.MetricSet(("panoptic", "semantic"), DATASET),
        data=samples(count),
        dataset=DATASET,
        options=evaluator_pb2.EvaluatorOptions(**options),
        strategy=strategy or tf.distribute.OneDeviceStrategy("CPU:0"),
        global_step=tf.Variable(7, dtype=tf.int64),
        folder=folder,
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_perfect_predictions_at_raw_size(tmp_path, compiled):
    values = make(tmp_path, use_tf_function=compiled).evaluate(tf.constant(-1))
    assert values["evaluation/pq/PQ"] == pytest.approx(1.0)
    assert values["evaluation/iou/IoU"] == pytest.approx(1.0)
    assert values["evaluation/pq/TP"] == 15  # three segments in each of five images
    assert values["losses/eval_total_loss"] == pytest.approx((0 + 1 + 2 + 3 + 4) / 5)


def test_two_replicas_count_every_image_once(tmp_path):
    evaluator = make(tmp_path, strategy=replicas.two())
    for _ in range(2):  # the second evaluation starts from nothing again
        values = evaluator.evaluate(tf.constant(-1))
        assert values["evaluation/pq/TP"] == 15
        assert values["evaluation/pq/FP"] == values["evaluation/pq/FN"] == 0
        assert values["losses/eval_total_loss"] == pytest.approx(2.0)


def test_limited_number_of_images(tmp_path):
    assert make(tmp_path).evaluate(tf.constant(2))["evaluation/pq/TP"] == 6


def test_pictures_and_raw_files(tmp_path):
    evaluator = make(
        tmp_path, count=3, save_predictions=True, num_vis_samples=2, save_raw_predictions=True,
        convert_raw_to_eval_ids=False,
    )  # fmt: skip
    with tf.summary.create_file_writer(str(tmp_path / "events")).as_default():
        evaluator.evaluate(tf.constant(-1))
    vis = tmp_path / "vis"
    assert sorted(path.name for path in vis.glob("000001_*")) == [
        "000001_clusters_0.png",
        "000001_clusters_1.png",
        "000001_image.png",
        "000001_panoptic_label.png",
        "000001_panoptic_prediction.png",
        "000001_semantic_error.png",
        "000001_semantic_label.png",
        "000001_semantic_prediction.png",
    ]
    assert not list(vis.glob("000002_*"))
    assert np.array(Image.open(vis / "000001_semantic_error.png")).max() == 0
    assert np.array(Image.open(vis / "000001_image.png")).shape == (9, 10, 3)
    panoptic = np.array(Image.open(vis / "raw_panoptic" / "image2.png"))
    assert panoptic[3, 3].tolist() == [DATASET.thing_ids[0], 1, 0]
    assert panoptic[0, 9].tolist() == [1, 0, 0]
    assert np.array(Image.open(vis / "raw_semantic" / "image0.png")).shape == (8, 10)


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(ValueError, match="empty"):
        make(tmp_path, count=0).evaluate(tf.constant(-1))
