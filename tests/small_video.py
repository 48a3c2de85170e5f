"""A model of video small enough for tests, whose answers can be told in advance."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.models import deeplab, video


class State(NamedTuple):
    """What the tests look for in saved states."""

    count: tf.Tensor  # [] int32, frames so far
    frame: dict[str, tf.Tensor]  # "last": [1, H, W, 2] float32, its logits
    seen: tf.Tensor  # [?] float32, the largest red of every frame, of the last four


class Counting(video.VideoModel):
    """Bright pixels are the thing class 1 with the number of the frame, from 1, as their instance; others are class 0.

    Depth is the number of frames. A frame with a white corner fails an assertion. With `delayed` the answer is about
    the frame before.
    """

    def __init__(self, label_divisor: int, *, delayed: bool = False):
        keras.Model.__init__(self, name="counting", autocast=False)
        self.label_divisor, self.delay = label_divisor, int(delayed)
        self.threshold = self.add_weight(name="threshold", shape=[], trainable=True)
        self.threshold.assign(128.0)

    def build_variables(self) -> None:
        self.built = True

    def call(self, images, training=False):
        return self._answer(self.observe(images[..., :3], None), tf.constant(1))

    def start(self, size):
        return State(tf.constant(0), {"last": tf.zeros([1, *size, 2])}, tf.zeros([0]))

    def state_spec(self, size):
        return State(
            tf.TensorSpec([], tf.int32), {"last": tf.TensorSpec([1, *size, 2])}, tf.TensorSpec([None], tf.float32)
        )

    def observe(self, frame, state):
        return tf.stack([tf.zeros(tf.shape(frame)[:3]), frame[..., 0] - self.threshold], axis=-1)

    def conclude(self, frame, observed, state):
        tf.debugging.assert_less(tf.reduce_min(frame[:, :2, :2]), 252.0, "the frame is too bright")
        new = State(state.count + 1, {"last": observed}, tf.concat([state.seen, [tf.reduce_max(frame)]], axis=0)[-4:])
        return (self.finish(state) if self.delay else self.finish(new)), new

    def finish(self, state):
        return self._answer(state.frame["last"], state.count)

    def step_record(self, images, state):
        _, new = self.step(images[..., :3], state)
        return self.finish(new), new

    def _answer(self, logits: tf.Tensor, count: tf.Tensor) -> structures.DeepLabOutput:
        semantic = tf.argmax(logits, axis=-1, output_type=tf.int32)
        instance = semantic * count
        scores = tf.ones_like(logits[..., 0])
        panoptic = semantic * self.label_divisor + instance
        maps = structures.CenterMaps(panoptic, semantic, instance, scores, scores, scores)
        depth = tf.cast(count, tf.float32) * scores[..., tf.newaxis]
        return structures.DeepLabOutput(logits, depth_pred=depth, semantic_probs=tf.nn.softmax(logits), maps=maps)


def build(**options) -> deeplab.DeepLab:
    """With its variables."""
    model = Counting(**options)
    model.build_variables()
    return model
