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

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets, preprocess
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import evaluator_pb2
from evaluation import metric_set
from trainer import averages as averages_lib
from trainer import distribution, raw_predictions, summaries, training

# Pictures in TensorBoard per evaluation; the folder `vis` gets num_vis_samples.
TENSORBOARD_SAMPLES = 4
_TENSORBOARD_PICTURES = ("image", "panoptic_", "clusters_")

Batch = Mapping[str, tf.Tensor]  # one image and its targets, keys of data/targets/keys.py


class Evaluator(orbit.AbstractEvaluator):
    """Orbit's evaluator: `evaluate(n)` scores n images, -1 for all, with the averaged weights where there are any.

    Images are shared among the replicas of a machine; metrics are kept on the host, so that each image counts once.
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
            data: batches of one image, in order, once.
            dataset: what the labels mean.
            options: what to save, and how.
            strategy: the one that the model was made under.
            global_step: for pictures.
            folder: the run's; pictures and label files go to `vis` in it unless the options say otherwise.
            averages: running averages of the weights.
            check_stop: called between images; raises where the run is to end.
            writes: whether this machine writes files.
        """
        self._model, self._loss, self.metrics = model, loss, metrics
        self._data, self._dataset, self._options = data, dataset, options
        self._strategy, self._global_step, self._averages = strategy, global_step, averages
        self._check_stop, self._writes = check_stop, writes
        # Several machines evaluate all images each: simple, and no machine waits for another's last image.
        self._local_replicas = strategy.num_replicas_in_sync // distribution.num_machines()
        self._folder = pathlib.Path(options.override_save_dir) if options.override_save_dir else folder / "vis"
        self._raw = None
        if options.save_raw_predictions:
            self._raw = raw_predictions.RawPredictions(
                self._folder,
                dataset,
                panoptic_format=options.raw_panoptic_format,
                convert_ids=options.convert_raw_to_eval_ids,
            )
        compiled = tf.function if options.use_tf_function else lambda function, **unused: function
        self._predict = compiled(self._predict_each, autograph=False)
        self._score = compiled(self._score_one, reduce_retracing=True)
        self._cluster_maps = compiled(model.cluster_maps, autograph=False)

    def evaluate(self, num_steps: tf.Tensor) -> dict[str, float]:
        """Scores images and returns the values to log.

        Raises:
            ValueError: there is no image.
        """
        if self.metrics is not None:
            self.metrics.reset_state()
        losses: dict[str, list[float]] = {}
        limit = None if int(num_steps) == -1 else int(num_steps)
        number = 0
        with self._averages.in_use() if self._averages is not None else contextlib.nullcontext():
            for samples in self._shares(limit):
                self._check_stop()
                for sample, (maps, terms) in zip(samples, self._outputs(samples)):
                    for name, value in terms.items():
                        losses.setdefault(name, []).append(float(value[0]))
                    self._take(sample, self._score(sample, maps), number)
                    number += 1
        if number == 0:
            raise ValueError("There is no image to evaluate: the evaluation data set is empty.")
        means = {f"losses/eval_{name}": sum(values) / len(values) for name, values in losses.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                logging.warning("%s is %s in this evaluation.", name, mean)
        if self.metrics is None:
            return means
        return {**means, **self.metrics.result(), **self.metrics.per_class_values()}

    def table(self) -> str:
        """The results of the last evaluation per class, as text."""
        return "" if self.metrics is None else metric_set.table(self.metrics.result(), self.metrics.per_class())

    def _shares(self, limit: int | None) -> Iterator[list[Batch]]:
        """The images, as many at a time as there are replicas."""
        samples = itertools.islice(iter(self._data), limit)
        while share := list(itertools.islice(samples, self._local_replicas)):
            yield share

    def _outputs(self, samples: list[Batch]) -> list[tuple[structures.PanopticMaps, Mapping[str, tf.Tensor]]]:
        """The maps at network size and the loss terms of every sample."""
        inputs = [{key: value for key, value in sample.items() if _goes_to_device(key, value)} for sample in samples]
        if self._strategy.num_replicas_in_sync == 1:
            each = inputs[0]
        else:
            # Replicas without an image of their own repeat the first one; `zip` leaves their answers out.
            each = self._strategy.experimental_distribute_values_from_function(
                lambda context: inputs[context.replica_id_in_sync_group % self._local_replicas % len(inputs)]
            )
        maps, terms = self._predict(each)
        local = [self._strategy.experimental_local_results(value) for value in maps]
        per_term = {name: self._strategy.experimental_local_results(value) for name, value in terms.items()}
        return [
            (
                structures.PanopticMaps(*(value[index] for value in local)),
                {name: value[index] for name, value in per_term.items()},
            )
            for index in range(len(samples))
        ]

    def _predict_each(self, each):
        return self._strategy.run(self._predict_one, args=(each,))

    def _predict_one(self, sample):
        """One replica's part: maps [1, H, W] and loss terms [1], without auxiliary outputs."""
        images = sample[keys.IMAGE]
        if self._loss is None:
            size = (images.shape[1], images.shape[2])
            return self._model.postprocess(self._model.predict_masks(images), size), {}
        output = self._model(images, training=False)
        return output.maps, dict(self._loss(output._replace(auxiliary=()), sample))

    def _score_one(self, sample: Batch, maps: structures.PanopticMaps) -> structures.PanopticMaps:
        """Brings maps back to raw size and adds them to the metrics."""
        kept, size = sample[keys.SIZE_RESIZED][0], sample[keys.SIZE_RAW][0]
        raw = structures.PanopticMaps(*(_undo(values, kept, size) for values in maps))
        if self.metrics is not None:
            self.metrics.update_state(sample, raw)
        return raw

    def _take(self, sample: Batch, maps: structures.PanopticMaps, number: int) -> None:
        """Shows and writes one sample."""
        if not self._writes:
            return
        if self._raw is not None:
            self._raw.write(
                sample[keys.IMAGE_NAME][0].numpy().decode(),
                maps.panoptic[0].numpy(),
                maps.semantic[0].numpy(),
                sequence=sample[keys.SEQUENCE_ID][0].numpy().decode() if keys.SEQUENCE_ID in sample else "",
            )
        saved = self._options.save_predictions and number < self._options.num_vis_samples
        if not saved and number >= TENSORBOARD_SAMPLES:
            return
        image = preprocess.undo(sample[keys.IMAGE], sample[keys.SIZE_RESIZED][0], sample[keys.SIZE_RAW][0])
        shown = summaries.pictures(
            self._dataset,
            image[0].numpy(),
            panoptic_prediction=maps.panoptic[0].numpy(),
            panoptic_label=_numpy(sample, keys.PANOPTIC_RAW),
            semantic_prediction=maps.semantic[0].numpy(),
            semantic_label=_numpy(sample, keys.SEMANTIC_RAW),
            clusters=self._clusters(sample) if number < TENSORBOARD_SAMPLES else (),
        )
        if number < TENSORBOARD_SAMPLES:
            step = int(self._global_step.numpy())
            summaries.write_pictures(shown, step=step, number=number, names=_TENSORBOARD_PICTURES)
        if saved:
            summaries.save_pictures(shown, self._folder, number=number)

    def _clusters(self, sample: Batch) -> list[np.ndarray]:
        return [clusters[0].numpy() for clusters in self._cluster_maps(sample[keys.IMAGE])]


def _goes_to_device(key: str, value: tf.Tensor) -> bool:
    """Strings and maps at raw size stay on the host."""
    raw = (
        keys.SIZE_RAW,
        keys.SIZE_RESIZED,
        keys.RESIZED_IMAGE,
        keys.SEMANTIC_RAW,
        keys.PANOPTIC_RAW,
        keys.IS_CROWD_RAW,
    )
    return value.dtype != tf.string and key not in raw


def _undo(values: tf.Tensor, kept: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """To raw size by nearest neighbour, scores included."""
    if values.dtype.is_integer:
        return preprocess.undo(values, kept, size)
    return tf.bitcast(preprocess.undo(tf.bitcast(values, tf.int32), kept, size), tf.float32)


def _numpy(sample: Batch, key: str) -> np.ndarray | None:
    return sample[key][0].numpy() if key in sample else None
