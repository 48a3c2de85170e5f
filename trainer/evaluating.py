"""The evaluation loop: every image once, predictions brought back to raw size, scored, shown and written."""

from __future__ import annotations

import contextlib
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import orbit
import tensorflow as tf
from absl import logging

from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets, preprocess
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.models import video
from deeplab2_kmax.protos import evaluator_pb2
from evaluation import metric_set, tasks
from trainer import averages as averages_lib
from trainer import inference, raw_predictions, summaries, training, video_inference

# Pictures in TensorBoard per evaluation; the folder `vis` gets num_vis_samples.
TENSORBOARD_SAMPLES = 4
_TENSORBOARD_PICTURES = ("image", "panoptic_", "semantic_prediction", "center_", "depth_", "clusters_")
# Ground truth that is padded to the largest image of a batch.
_RAW = (
    *(keys.PANOPTIC_RAW, keys.SEMANTIC_RAW, keys.NEXT_PANOPTIC_RAW),
    *(keys.DEPTH_RAW, keys.NORMALS_RAW, keys.NUM_CAMERAS_RAW),
)

Sample = Mapping[str, tf.Tensor]  # one image and its targets, keys of data/targets/keys.py, [1, ...] each
Maps = Mapping[str, tf.Tensor]  # predictions by DeepLab2's names, [1, H, W, ...] each


class Evaluator(orbit.AbstractEvaluator):
    """Orbit's evaluator: `evaluate(n)` scores n images, -1 for all, with the averaged weights where there are any.

    Each replica takes a batch; models of video run on one replica, frame after frame. Metrics are kept on the host and
    scored image by image, in order and without padding, so that each image counts once, and sequences stay whole,
    whatever the size of a batch and the number of replicas.
    """

    def __init__(
        self,
        *,
        model: keras.Model,
        loss: training.Loss | None,
        metrics: metric_set.MetricSet | None,
        data: tf.data.Dataset,
        dataset: datasets.Dataset,
        options: evaluator_pb2.EvaluatorOptions,
        strategy: tf.distribute.Strategy,
        global_step: tf.Variable,
        folder: pathlib.Path,
        averages: averages_lib.Averages | None = None,
        check_stop: Callable[[], None] = lambda: None,
        writes: bool = True,
    ):
        """Keeps what an evaluation needs.

        Args:
            model: made with post-processing.
            loss: its terms are averaged over the images; None where labels or losses are missing.
            metrics: None where labels are missing.
            data: batches of images, in order, once.
            dataset: what the labels mean.
            options: what to save, and how.
            strategy: the one that the model was made under.
            global_step: for pictures.
            folder: the run's; pictures and label files go to `vis` in it unless the options say otherwise.
            averages: running averages of the weights.
            check_stop: called between images; raises where the run is to end.
            writes: whether this machine writes files.
        """
        self.metrics = metrics
        self._data, self._dataset, self._options = data, dataset, options
        self._global_step, self._averages = global_step, averages
        self._check_stop, self._writes = check_stop, writes
        self._folder = pathlib.Path(options.override_save_dir) if options.override_save_dir else folder / "vis"
        self._raw = None
        if options.save_raw_predictions:
            self._raw = raw_predictions.RawPredictions(
                self._folder,
                dataset,
                formats=options.raw_formats,
                panoptic_format=options.raw_panoptic_format,
                convert_ids=options.convert_raw_to_eval_ids,
            )
        common = {"label_divisor": dataset.label_divisor, "compiled": options.use_tf_function}
        self._infer: inference.Inference | video_inference.VideoInference
        if isinstance(model, video.VideoModel):
            self._infer = video_inference.VideoInference(model, loss, **common)
        else:
            semantic = inference.semantic_of_passes(model, options, dataset.mask_classes())
            self._infer = inference.Inference(model, loss, strategy, semantic=semantic, **common)
        self._compiles = options.use_tf_function
        self._score: Callable[[Sample, Maps, tf.Tensor], Maps] | None = None
        self._cluster_maps = getattr(model, "cluster_maps", None)
        if self._compiles and self._cluster_maps is not None:
            self._cluster_maps = tf.function(self._cluster_maps, autograph=False)
        self._summary: metric_set.Summary | None = None

    def evaluate(self, num_steps: tf.Tensor) -> dict[str, float]:
        """Scores images and returns the values to log.

        Raises:
            ValueError: there is no image, or the frames of a sequence do not follow each other.
        """
        if self.metrics is not None:
            self.metrics.reset_state()
        losses: dict[str, list[float]] = {}
        limit = None if int(num_steps) == -1 else int(num_steps)
        number, order = 0, _Order()
        with contextlib.ExitStack() as stack:
            if self._averages is not None:
                stack.enter_context(self._averages.in_use())
            if self._raw is not None and self._writes:
                stack.enter_context(self._raw)
            for sample, maps, terms in itertools.islice(self._predictions(), limit):
                self._check_stop()
                for name, value in terms.items():
                    losses.setdefault(name, []).append(float(value[0]))
                if self.metrics is not None and self.metrics.follows_sequences:
                    order.check(_text(sample, keys.SEQUENCE_ID))
                maps = self._scored(_on_host(sample), maps, tf.constant([number], tf.int64))
                self._take(sample, maps, number)
                number += 1
        if number == 0:
            raise ValueError("There is no image to evaluate: the evaluation data set is empty.")
        means = {f"losses/eval_{name}": sum(values) / len(values) for name, values in losses.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                logging.warning("%s is %s in this evaluation.", name, mean)
        if self.metrics is None:
            return means
        self.metrics.flush()
        self._summary = self.metrics.summary()
        return {**means, **self._summary.values, **self._summary.per_class_values()}

    def table(self) -> str:
        """The results of the last evaluation per class, as text."""
        return "" if self._summary is None else metric_set.table(self._summary.values, self._summary.rows)

    def _predictions(self) -> Iterator[tuple[Sample, Maps, Mapping[str, tf.Tensor]]]:
        """Every image with its maps at the network's size and its loss terms."""
        batches = iter(self._data)
        self._infer.reset()
        while share := list(itertools.islice(batches, self._infer.num_replicas)):
            for batch, (maps, terms) in zip(share, self._infer(share)):
                for index in range(batch[keys.IMAGE].shape[0]):
                    yield _one(batch, index), _one(maps, index), _one(terms, index)

    def _scored(self, *inputs) -> Maps:
        """Calls `_score_one`, compiled for images of any raw size."""
        if self._score is None:
            specs = tf.nest.map_structure(_any_size, inputs)
            compiled = tf.function(self._score_one, input_signature=specs, autograph=False)
            self._score = compiled if self._compiles else self._score_one
        return self._score(*inputs)

    def _score_one(self, sample: Sample, maps: Maps, number: tf.Tensor) -> Maps:
        """Brings maps back to raw size and adds them to the metrics."""
        kept, size = sample[keys.SIZE_RESIZED][0], sample[keys.SIZE_RAW][0]
        raw = {name: _undo(name, values, kept, size) for name, values in maps.items()}
        if self.metrics is not None:
            truth = {key: value[:, : size[0], : size[1]] if key in _RAW else value for key, value in sample.items()}
            self.metrics.update_state({**truth, tasks.IMAGE_NUMBER: number}, raw)
        return raw

    def _take(self, sample: Sample, maps: Maps, number: int) -> None:
        """Shows and writes one sample."""
        if not self._writes:
            return
        if self._raw is not None:
            self._raw.write(
                _text(sample, keys.IMAGE_NAME),
                {name: values[0].numpy() for name, values in maps.items()},
                sequence=_text(sample, keys.SEQUENCE_ID),
            )
        saved = self._options.save_predictions and number < self._options.num_vis_samples
        if not saved and number >= TENSORBOARD_SAMPLES:
            return
        image = preprocess.undo(sample[keys.IMAGE][..., :3], sample[keys.SIZE_RESIZED][0], sample[keys.SIZE_RAW][0])
        size = tuple(image.shape[1:3])
        shown = summaries.pictures(
            self._dataset,
            image[0].numpy(),
            panoptic_prediction=_numpy(maps, "panoptic_pred", size),
            panoptic_label=_numpy(sample, keys.PANOPTIC_RAW, size),
            semantic_prediction=_numpy(maps, "semantic_pred", size),
            semantic_label=_numpy(sample, keys.SEMANTIC_RAW, size),
            center_prediction=_numpy(maps, "center_heatmap", size),
            depth_prediction=_numpy(maps, "depth_pred", size),
            depth_label=_numpy(sample, keys.DEPTH_RAW, size),
            clusters=self._clusters(sample) if number < TENSORBOARD_SAMPLES else (),
        )
        if number < TENSORBOARD_SAMPLES:
            step = int(self._global_step.numpy())
            summaries.write_pictures(shown, step=step, number=number, names=_TENSORBOARD_PICTURES)
        if saved:
            summaries.save_pictures(shown, self._folder, number=number)

    def _clusters(self, sample: Sample) -> list[np.ndarray]:
        if self._cluster_maps is None:
            return []
        return [clusters[0].numpy() for clusters in self._cluster_maps(sample[keys.IMAGE])]


class _Order:
    """Sees to it that sequences come one after the other."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._last: str | None = None

    def check(self, sequence: str) -> None:
        """The next frame belongs to this sequence."""
        if sequence != self._last and sequence in self._seen:
            raise ValueError(
                f"Frames of sequence {sequence!r} come after those of {self._last!r} and before: video metrics need "
                "the records of a sequence one after the other, in the order of its frames."
            )
        self._seen.add(sequence)
        self._last = sequence


def _one(values: Mapping[str, tf.Tensor], index: int) -> dict[str, tf.Tensor]:
    """What belongs to one image of a batch."""
    return {name: value[index : index + 1] for name, value in values.items()}


def _on_host(sample: Sample) -> dict[str, tf.Tensor]:
    """What scoring reads: ground truth at raw size, sizes and names."""
    wanted = (*_RAW, keys.SIZE_RAW, keys.SIZE_RESIZED, keys.SEQUENCE_ID)
    return {key: sample[key] for key in wanted if key in sample}


def _any_size(value: tf.Tensor) -> tf.TensorSpec:
    """One map [1, H, W, ...] whose height and width may change; other values as they are."""
    shape = value.shape.as_list()
    return tf.TensorSpec([1, None, None, *shape[3:]] if len(shape) > 2 else shape, value.dtype)


def _undo(name: str, values: tf.Tensor, kept: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """To raw size: by nearest neighbour, scores included, but depth and normals bilinearly."""
    if values.dtype.is_integer or name in inference.BILINEAR:
        return preprocess.undo(values, kept, size)
    return tf.bitcast(preprocess.undo(tf.bitcast(values, tf.int32), kept, size), tf.float32)


def _numpy(maps: Mapping[str, tf.Tensor], key: str, size: tuple[int, int]) -> np.ndarray | None:
    """A map [H, W] without its padding."""
    return maps[key][0, : size[0], : size[1]].numpy().reshape(size) if key in maps else None


def _text(sample: Sample, key: str) -> str:
    return sample[key][0].numpy().decode() if key in sample else ""
