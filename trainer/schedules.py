"""The learning rate as a function of finished steps: linear warm-up, then polynomial or cosine decay.

The decay counts from step 0, not from the end of the warm-up, so the rate makes a small jump down there.
"""

from __future__ import annotations

import math

import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.protos import trainer_pb2


class Poly(keras.optimizers.schedules.LearningRateSchedule):
    """(base - end) * (1 - min(t, T) / T) ^ power + end, t finished steps of T."""

    def __init__(self, base: float, *, steps: int, power: float, end: float):
        self.base, self.steps, self.power, self.end = base, steps, power, end

    def __call__(self, step):
        progress = _progress(step, self.steps)
        return (self.base - self.end) * tf.pow(1.0 - progress, self.power) + self.end

    def get_config(self):
        return {"base": self.base, "steps": self.steps, "power": self.power, "end": self.end}


class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    """base * (1 + cos(pi * min(t, T) / T)) / 2, t finished steps of T."""

    def __init__(self, base: float, *, steps: int):
        self.base, self.steps = base, steps

    def __call__(self, step):
        return self.base * 0.5 * (1.0 + tf.cos(math.pi * _progress(step, self.steps)))

    def get_config(self):
        return {"base": self.base, "steps": self.steps}


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """base * t / warmup_steps while t < warmup_steps (0 at the very first step), then `decay` at the unshifted t."""

    def __init__(self, decay: keras.optimizers.schedules.LearningRateSchedule, *, base: float, warmup_steps: int):
        self.decay, self.base, self.warmup_steps = decay, base, warmup_steps

    def __call__(self, step):
        warm = self.base * tf.cast(step, tf.float32) / float(self.warmup_steps)
        return tf.where(tf.cast(step, tf.int64) < self.warmup_steps, warm, self.decay(step))

    def get_config(self):
        return {"decay": self.decay, "base": self.base, "warmup_steps": self.warmup_steps}


DECAYS = {
    "poly": lambda base, solver: Poly(
        base,
        steps=solver.training_number_of_steps,
        power=solver.poly_learning_power,
        end=solver.poly_end_learning_rate,
    ),
    "cosine": lambda base, solver: Cosine(base, steps=solver.training_number_of_steps),
}


def build(
    solver: trainer_pb2.SolverOptions, *, multiplier: float = 1.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of a solver. `multiplier` scales the base rate; the end of the polynomial is not scaled.

    Raises:
        ValueError: unknown policy, or numbers of steps that make no schedule.
    """
    make_decay = registry.lookup(DECAYS, solver.learning_policy, "learning_policy")
    if solver.training_number_of_steps < 1:
        raise ValueError(f"training_number_of_steps must be at least 1, got {solver.training_number_of_steps}.")
    if solver.warmup_steps < 0:
        raise ValueError(f"warmup_steps must be at least 0 (0 = no warm-up), got {solver.warmup_steps}.")
    base = solver.base_learning_rate * multiplier
    decay = make_decay(base, solver)
    return WarmUp(decay, base=base, warmup_steps=solver.warmup_steps) if solver.warmup_steps else decay


def _progress(step, steps: int) -> tf.Tensor:
    """min(step, steps) / steps."""
    return tf.minimum(tf.cast(step, tf.float32), float(steps)) / float(steps)
