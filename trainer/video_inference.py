"""What the device computes in an evaluation of a model of video: frame after frame, with the state of their video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.models import video
from trainer import inference, training
from trainer.inference import Batch, Maps


class VideoInference:
    """Runs a model of video on batches of records, in their order.

    The state starts anew where the sequence changes, as do the metrics of videos. Frames depend on the ones before, so
    that one replica computes all of them, whatever the strategy and the size of a batch.
    """

    num_replicas = 1  # batches that are taken at a time

    def __init__(
        self, model: video.VideoModel, loss: training.Loss | None, *, label_divisor: int, compiled: bool = True
    ):
        """Keeps what it needs.

        Args:
            model: made with post-processing.
            loss: its terms come with the maps; None: no terms.
            label_divisor: of panoptic maps.
            compiled: whether the model runs as a graph.
        """
        self._model, self._loss = model, loss
        self._label_divisor, self._compiled = label_divisor, compiled
        self._run: Any = None
        self._sequence: bytes | None = None
        self._state: video.State = None

    def reset(self) -> None:
        """The next frame is the first of its video."""
        self._sequence = None

    def __call__(self, batches: list[Batch]) -> list[tuple[Maps, Mapping[str, tf.Tensor]]]:
        """The maps and the loss terms [B] of each batch.

        Raises:
            ValueError: the records do not say what video they are of.
        """
        return [self._batch(batch) for batch in batches]

    def _batch(self, batch: Batch) -> tuple[Maps, Mapping[str, tf.Tensor]]:
        if keys.SEQUENCE_ID not in batch:
            raise ValueError(
                f"{type(self._model).__name__} is a model of video: evaluation needs records with a sequence id (see "
                "docs/data_video.md), found records of pictures."
            )
        frames = inference.for_device(batch, batch[keys.IMAGE].shape[0])
        found = []
        for index, sequence in enumerate(batch[keys.SEQUENCE_ID].numpy()):
            one = {name: value[index : index + 1] for name, value in frames.items()}
            size = tuple(one[keys.IMAGE].shape[1:3])
            if sequence != self._sequence:
                self._sequence, self._state = sequence, self._model.start(size)
            maps, terms, self._state = self._step(size, one)
            found.append((maps, terms))
        maps, terms = (
            {name: tf.concat([values[name] for values in each], axis=0) for name in each[0]} for each in zip(*found)
        )
        return maps, terms

    def _step(self, size: tuple[int, int], one: Batch) -> Any:
        if self._run is None:
            # One graph for all frames, though parts of a state may grow and shrink.
            specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in one.items()}
            signature = [specs, self._model.state_spec(size)]
            compiled = tf.function(self._run_one, input_signature=signature, autograph=False)
            self._run = compiled if self._compiled else self._run_one
        return self._run(one, self._state)

    def _run_one(self, one: Batch, state: video.State) -> Any:
        output, state = self._model.step_record(one[keys.IMAGE], state)
        return *inference.answer(output, one, self._loss, label_divisor=self._label_divisor), state
