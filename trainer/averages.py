"""A running average of the weights, which evaluation and export use in place of the last weights.

"Acceleration of Stochastic Approximation by Averaging" (1992); the first steps average over fewer, as in TensorFlow's
ExponentialMovingAverage with `num_updates`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf


class Averages:
    """average = d * average + (1 - d) * weight after each step, d = min(decay, (1 + t) / (10 + t)), t finished steps.

    `tree` is what a checkpoint holds: the paths under it are those of the weights under the model. Statistics of batch
    norm are averages already and are not held here.
    """

    def __init__(self, variables: Mapping[str, tf.Variable], *, decay: float, strategy: tf.distribute.Strategy):
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema_decay must lie between 0 and 1 (0 = no average), got {decay}.")
        self._decay = decay
        self._strategy = strategy
        self._weights = list(variables.values())
        self._averages = []
        self.tree = tf.Module()
        for path, weight in variables.items():
            with strategy.extended.colocate_vars_with(weight):
                average = tf.Variable(weight.read_value(), trainable=False, name=f"average/{path}")
            self._averages.append(average)
            *folders, leaf = path.split("/")
            node = self.tree
            for folder in folders:
                if not hasattr(node, folder):
                    setattr(node, folder, tf.Module())
                node = getattr(node, folder)
            setattr(node, leaf, average)

    def update(self, step: tf.Tensor) -> None:
        """Takes the weights after `step` steps in; outside of the replicas."""
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1.0 + step) / (10.0 + step))

        def move(average, weight):
            return average.assign_sub((1.0 - decay) * (average - weight))

        for average, weight in zip(self._averages, self._weights):
            self._strategy.extended.update(average, move, args=(_plain(weight),))

    def reset(self) -> None:
        """Starts anew from the present weights."""
        for average, weight in zip(self._averages, self._weights):
            average.assign(weight.read_value())

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the model's weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, weight in zip(self._averages, self._weights):
            held = tf.identity(weight.read_value())
            weight.assign(average.read_value())
            average.assign(held)


def _plain(variable: tf.Variable) -> tf.Variable:
    """The float32 variable behind one that mixed precision reads as bfloat16."""
    return getattr(variable, "_variable", variable)
