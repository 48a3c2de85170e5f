"""The evaluation loop over a model that reads its answer off the image."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets
from deeplab2_kmax.models import mask_transformer, outputs
from deeplab2_kmax.protos import evaluator_pb2
from evaluation import metric_set
from tests import replicas, small_video
from trainer import evaluating, inference

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


class Wrong(Model):
    """Right but for the lower half, where everything is stuff; scores depend on the place."""

    def __call__(self, images, training=False):
        output = super().__call__(images, training)
        row = tf.range(12)[:, tf.newaxis] * tf.ones([12], tf.int32)
        scores = tf.cast(row, tf.float32) / 12.0 + 0.0 * images[..., 0]
        semantic, panoptic = (tf.where(row < 4, label, 0) for label in (output.maps.semantic, output.maps.panoptic))
        return output._replace(maps=structures.PanopticMaps(panoptic, semantic, output.maps.instance, scores, scores))


ALL_TASKS = ("panoptic", "instance")


def loss(output, targets, *, seed=None):
    assert output.auxiliary == ()
    return {"total_loss": targets["value"]}


def samples(count, batch=1):
    """Images of different sizes; the left half is stuff, a square is a thing. Padded to 12 x 12.

    Ground truth of a batch is padded with labels that would count as missed segments if they were scored.
    """
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
                "image": image,
                "value": np.float32(index),
                "image_name": f"folder/image{index}.jpg",
                "size_raw": np.array([height, width], np.int32),
                "size_resized": np.array([height, width], np.int32),
                "panoptic_raw": panoptic,
                "semantic_raw": semantic,
            }

    spec = {
        "image": tf.TensorSpec([12, 12, 3], tf.float32),
        "value": tf.TensorSpec([], tf.float32),
        "image_name": tf.TensorSpec([], tf.string),
        "size_raw": tf.TensorSpec([2], tf.int32),
        "size_resized": tf.TensorSpec([2], tf.int32),
        "panoptic_raw": tf.TensorSpec([None, None], tf.int32),
        "semantic_raw": tf.TensorSpec([None, None], tf.int32),
    }
    data = tf.data.Dataset.from_generator(generate, output_signature=spec)
    fills = {"panoptic_raw": 2 * divisor, "semantic_raw": 2}
    return data.padded_batch(batch, padding_values={key: fills.get(key) for key in spec})


def make(
    folder, *, strategy=None, count=5, batch=1, model=None, data=None, tasks=("panoptic", "semantic"), dataset=DATASET,
    **options,
):  # fmt: skip
    return evaluating.Evaluator(
        model=model or Model(),
        loss=None if model else loss,
        metrics=metric_set.MetricSet(tasks, dataset),
        data=data or samples(count, batch),
        dataset=dataset,
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


def test_sizes_of_batches_change_nothing(tmp_path):
    expected = make(tmp_path, model=Wrong(), tasks=ALL_TASKS).evaluate(tf.constant(-1))
    assert 0.1 < expected["evaluation/pq/PQ"] < 0.9
    for strategy, batch in ((None, 3), (replicas.two(), 2)):
        found = make(tmp_path, model=Wrong(), tasks=ALL_TASKS, strategy=strategy, batch=batch).evaluate(tf.constant(-1))
        assert found == expected


def test_limited_number_of_images(tmp_path):
    assert make(tmp_path, tasks=("semantic",)).evaluate(tf.constant(2))["losses/eval_total_loss"] == 0.5
    values = make(tmp_path, tasks=("semantic",), batch=3).evaluate(tf.constant(4))  # cuts the second batch
    assert values["losses/eval_total_loss"] == 1.5


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


class LeftIsSky(mask_transformer.MaskTransformer):
    """Two masks, sure of themselves in the left half: class 0 there, else rather class 1."""

    def __init__(self):
        keras.Model.__init__(self)
        self.scales = set()

    def predict_masks(self, images):
        self.scales.add(images.shape[1])
        first = tf.cast(tf.linspace(1.0, 0.0, images.shape[2]) > 0.5, tf.float32) * 0.6 + 0.3  # 0.9 or 0.3
        masks = tf.math.log(tf.stack([first, 1.0 - first], axis=-1)) * tf.ones([1, images.shape[1], 1, 1])
        outputs = len(DATASET.mask_classes().class_ids) + 1
        ids = [DATASET.mask_classes().class_ids.index(index) for index in (0, 1)]
        return structures.MaskPrediction(tf.one_hot([ids], outputs, 50.0), masks, tf.zeros([0]))

    def call(self, images, training=False):
        prediction = self.predict_masks(images)
        semantic = tf.argmax(prediction.mask_logits, axis=-1, output_type=tf.int32)
        scores = tf.ones(semantic.shape)
        maps = structures.PanopticMaps(semantic * DATASET.label_divisor, semantic, 0 * semantic, scores, scores)
        return structures.MaskTransformerOutput(prediction, maps=maps)


def test_passes_of_a_mask_transformer_decide_its_semantic_map():
    images = tf.zeros([1, 9, 9, 3])
    classes = DATASET.mask_classes()
    model = LeftIsSky()
    plain = model(images).maps.semantic[0, 0].numpy().tolist()
    assert plain == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    options = evaluator_pb2.EvaluatorOptions(eval_scales=[1.0])
    assert inference.semantic_of_passes(model, options, classes) is None
    options = evaluator_pb2.EvaluatorOptions(eval_scales=[1.0, 2.0], add_flipped_images=True)
    semantic = inference.semantic_of_passes(model, options, classes)
    run = inference.Inference(
        model, None, tf.distribute.get_strategy(), label_divisor=DATASET.label_divisor, semantic=semantic
    )
    maps, _ = run([{"image": images}])[0]
    # Both halves are 0.6 class 0 on average; the masks are those of the image as it is.
    assert maps["semantic_pred"][0, 0].numpy().tolist() == [0] * 4 + [1] + [0] * 4
    assert (maps["panoptic_pred"][0, 0].numpy() // DATASET.label_divisor).tolist() == plain
    assert model.scales == {9, 17}
    per_pixel = evaluator_pb2.EvaluatorOptions(add_flipped_images=True)
    assert inference.semantic_of_passes(Model(), per_pixel, classes) is None


class Pixels(tf.Module):
    """A model of pixels with depth, as far as its outputs' names go."""

    def __call__(self, images, training=False):
        return images


def pixel_outputs(images):
    panoptic = tf.cast(tf.round(images[..., 1]), tf.int32)
    return {
        "panoptic_pred": panoptic,
        "semantic_pred": panoptic // VIDEO.label_divisor,
        "semantic_probs": tf.one_hot(panoptic // VIDEO.label_divisor, VIDEO.num_classes) * 0.75,
        "instance_scores": tf.ones_like(images[..., 1]) * 0.5,
        "depth_pred": images[..., 2],
        "center_heatmap": tf.ones_like(images[..., 1]),
        "semantic_logits": images,
    }


VIDEO = datasets.lookup("synthetic_dvps")
VIDEO_TASKS = ("panoptic", "video_panoptic", "depth_video_panoptic", "depth_step", "depth", "instance")


def video(names, *, batch=2):
    """Frames of 4 x 6 with one moving thing, at half their size; the first frame of all has other ids."""
    thing = VIDEO.thing_ids[0] * VIDEO.label_divisor + 7

    def generate():
        for number, name in enumerate(names):
            panoptic = np.zeros([4, 6], np.int32)
            panoptic[:, number : number + 2] = thing
            depth = np.full([4, 6, 1], 5.0, np.float32)
            image = np.zeros([8, 12, 3], np.float32)
            image[:4, :6, 1], image[:4, :6, 2:] = panoptic, depth
            yield {
                "image": image,
                "image_name": f"{number}.png",
                "sequence_id": name,
                "size_raw": np.array([4, 6], np.int32),
                "size_resized": np.array([4, 6], np.int32),
                "panoptic_raw": panoptic,
                "depth_raw": depth,
            }

    spec = {
        "image": tf.TensorSpec([8, 12, 3], tf.float32),
        "image_name": tf.TensorSpec([], tf.string),
        "sequence_id": tf.TensorSpec([], tf.string),
        "size_raw": tf.TensorSpec([2], tf.int32),
        "size_resized": tf.TensorSpec([2], tf.int32),
        "panoptic_raw": tf.TensorSpec([4, 6], tf.int32),
        "depth_raw": tf.TensorSpec([4, 6, 1], tf.float32),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=spec).batch(batch)


def test_video_and_depth(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "deeplab2_outputs", pixel_outputs)
    evaluator = make(
        tmp_path, model=Pixels(), data=video(["a", "a", "b", "b"]), dataset=VIDEO, tasks=VIDEO_TASKS,
        strategy=replicas.two(), save_raw_predictions=True, raw_formats=["deeplab2", "step"], save_predictions=True,
        num_vis_samples=1,
    )  # fmt: skip
    for _ in range(2):
        values = evaluator.evaluate(tf.constant(-1))
        for name in ("dstq/STQ", "vpq/VPQ_2_frames", "dvpq/DVPQ_1_frames", "dstq/DSTQ", "depth/DepthInlier", "pq/PQ"):
            assert values[f"evaluation/{name}"] == pytest.approx(1.0), name
        assert values["evaluation/dstq/num_tubes"] == 2 and values["evaluation/dstq/num_frames"] == 4
        assert values["evaluation/vpq/num_windows_2_frames"] == 2
        assert values["evaluation/ap/AP_Mask"] == pytest.approx(1.0)
    assert "DSTQ" in evaluator.table()
    vis = tmp_path / "vis"
    assert np.array(Image.open(vis / "step" / "b" / "3.png"))[0, 3].tolist() == [VIDEO.thing_ids[0], 0, 7]
    assert np.array(Image.open(vis / "000000_center_prediction.png"))[0, 0].tolist() == [255, 0, 0]
    assert np.array(Image.open(vis / "000000_depth_label.png")).shape == (4, 6, 3)
    assert np.array(Image.open(vis / "raw_depth" / "a" / "0.png")).tolist() == np.full([4, 6], 5 * 256).tolist()


def test_sequences_that_are_cut_into_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "deeplab2_outputs", pixel_outputs)
    evaluator = make(tmp_path, model=Pixels(), data=video(["a", "b", "a"]), dataset=VIDEO, tasks=("step",))
    with pytest.raises(ValueError, match="sequence 'a' come after those of 'b' and before"):
        evaluator.evaluate(tf.constant(-1))


@pytest.mark.parametrize("compiled", [True, False])
def test_models_of_video_keep_their_state_within_a_sequence(tmp_path, compiled):
    """Frames are white but for the label's sake; the thing's id in a prediction is the number of the frame."""
    model = small_video.build(label_divisor=VIDEO.label_divisor)
    data = video(["a", "a", "a", "b", "c"]).map(lambda one: {**one, "image": tf.fill(tf.shape(one["image"]), 250.0)})
    evaluator = make(
        tmp_path, model=model, data=data, dataset=VIDEO, tasks=("step", "depth"), use_tf_function=compiled,
        strategy=replicas.two(), save_raw_predictions=True, raw_formats=["step"],
    )  # fmt: skip
    for _ in range(2):  # nothing is left over from the evaluation before
        values = evaluator.evaluate(tf.constant(-1))
        assert values["evaluation/step/num_frames"] == 5
        found = {path: np.array(Image.open(path))[0, 0, 2] for path in (tmp_path / "vis" / "step").rglob("*.png")}
        assert {f"{path.parent.name}/{path.stem}": number for path, number in found.items()} == {
            "a/0": 1, "a/1": 2, "a/2": 3, "b/3": 1, "c/4": 1,
        }  # fmt: skip


def test_models_of_video_need_sequences(tmp_path):
    model = small_video.build(label_divisor=DATASET.label_divisor)
    with pytest.raises(ValueError, match="Counting is a model of video: evaluation needs records with a sequence id"):
        make(tmp_path, model=model).evaluate(tf.constant(-1))
