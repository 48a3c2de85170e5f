"""Drop path, or stochastic depth: training leaves residual branches out, per sample (2016, arXiv 1603.09382).

Random numbers come from a seed where there is one, `with drop_path.seeded(seed): model(images, training=True)`, so that
a resumed run draws the same masks; without a seed from TensorFlow's global generator.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax._keras import keras


class _State(threading.local):
    """The seed in force in this thread (replicas trace in threads of their own) and the draws made from it."""

    seed: tf.Tensor | None = None
    draws = 0


_STATE = _State()


@contextlib.contextmanager
def seeded(seed: tf.Tensor | None) -> Iterator[None]:
    """Within it, random masks are a function of `seed` (int32 [2]) and of the order in which layers draw."""
    with at(Position(seed, 0)):
        yield


class Position(NamedTuple):
    """A place in the sequence of random numbers."""

    seed: tf.Tensor | None
    draws: int


def is_seeded() -> bool:
    """Whether random masks come from a seed at present."""
    return _STATE.seed is not None


def position() -> Position:
    """Where the random numbers stand now."""
    return Position(_STATE.seed, _STATE.draws)


@contextlib.contextmanager
def at(place: Position) -> Iterator[None]:
    """Within it, layers draw again what they drew from that place on; afterwards all is as before."""
    before = position()
    _STATE.seed, _STATE.draws = place
    try:
        yield
    finally:
        _STATE.seed, _STATE.draws = before


def uniform(shape: Any, dtype: tf.DType) -> tf.Tensor:
    """Numbers in [0, 1), from the seed in force if there is one."""
    if _STATE.seed is None:
        return tf.random.uniform(shape, dtype=dtype)
    _STATE.draws += 1
    seed = tf.random.experimental.stateless_fold_in(tf.cast(_STATE.seed, tf.int32), _STATE.draws)
    return tf.random.stateless_uniform(shape, seed, dtype=dtype)


class DropPath(keras.layers.Layer):
    """Multiplies each sample of [B, ...] by 0 with chance `rate`, else by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"A drop path rate lies in [0, 1), but got {rate}. (A keep probability is 1 - rate.)")
        self.rate = rate

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = [tf.shape(x)[0]] + [1] * (x.shape.rank - 1)
        return x * tf.cast(tf.floor(keep + uniform(shape, tf.float32)) / keep, x.dtype)


class Dropout(keras.layers.Layer):
    """Zeroes single values with chance `rate`, scaling the others by 1 / (1 - rate) (2014, Srivastava et al.)."""

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"A dropout rate lies in [0, 1), but got {rate}.")
        self.rate = rate

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if not training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * tf.cast(tf.floor(keep + uniform(tf.shape(x), tf.float32)) / keep, x.dtype)
