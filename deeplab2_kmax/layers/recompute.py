"""Gradient checkpointing: keep the input of a block, compute the rest again for the gradient (2016, arXiv 1604.06174).

Outputs and gradients are those of the plain call. Unlike in DeepLab2, the second pass leaves moving statistics alone,
so that a step moves them once; random masks it draws as the first pass did.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import drop_path


class _State(threading.local):
    """Whether this thread (replicas trace in threads of their own) is in a second pass."""

    repeating = False


_STATE = _State()


def is_repeating() -> bool:
    """Whether the present call is a second pass, which must leave no traces but its result."""
    return _STATE.repeating


def call(function: Callable[..., Any], *inputs: tf.Tensor) -> Any:
    """`function(*inputs)`, a structure of tensors and None, of which the gradient keeps the inputs alone.

    Gradients reach the floating inputs and all variables that `function` reads. There are no second derivatives.
    """
    if not drop_path.is_seeded():
        # Both passes must draw the same, so their numbers come from one seed.
        with drop_path.seeded(tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)):
            return call(function, *inputs)
    start = drop_path.position()
    is_tensor: Any = None  # as the result, with True for tensors and False for None

    def run(*inputs: tf.Tensor) -> list[tf.Tensor]:
        nonlocal is_tensor
        if is_tensor is None:
            result = function(*inputs)
            is_tensor = tf.nest.map_structure(lambda leaf: leaf is not None, result)
            return _tensors(result)
        # What depends on variables alone waits too, instead of being made early and kept.
        with _repeating(), drop_path.at(start), tf.control_dependencies(inputs):
            return _tensors(function(*inputs))

    outputs = iter(tf.recompute_grad(run)(*inputs))
    leaves = [next(outputs) if leaf else None for leaf in tf.nest.flatten(is_tensor)]
    return tf.nest.pack_sequence_as(is_tensor, leaves)


def layer(block: keras.layers.Layer, x: tf.Tensor, *, enabled: bool, training: bool | None) -> tf.Tensor:
    """`block(x, training=training)`, computed again for its gradient if this is training and it is `enabled`."""
    if training and enabled:
        return call(functools.partial(block, training=True), x)
    return block(x, training=training)


def _tensors(structure: Any) -> list[tf.Tensor]:
    return [leaf for leaf in tf.nest.flatten(structure) if leaf is not None]


@contextlib.contextmanager
def _repeating() -> Iterator[None]:
    before, _STATE.repeating = _STATE.repeating, True
    try:
        yield
    finally:
        _STATE.repeating = before
