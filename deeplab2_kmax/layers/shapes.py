"""Shapes as lists that are static where the graph knows them and tensors where it does not."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def of(x: tf.Tensor) -> list[Any]:
    """The shape of `x`: an int for every axis known while tracing, a scalar tensor for the others."""
    static = x.shape.as_list()
    if None not in static:
        return static
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(static)]
