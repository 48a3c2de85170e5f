"""Activation functions by name.

GELU is the exact one, written as `x * ((erf(x / sqrt 2) + 1) / 2)`: the form that TensorFlow's graph rewriter folds
into a preceding matrix product with bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import tensorflow as tf

from deeplab2_kmax import registry

Activation = Callable[[tf.Tensor], tf.Tensor]
OptionalActivation = Optional[Activation]


def identity(x: tf.Tensor) -> tf.Tensor:
    """`x` itself."""
    return x


def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0)."""
    return tf.nn.relu(x)


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Exact GELU: x times the normal distribution's value at x (2016, arXiv 1606.08415)."""
    return x * ((tf.math.erf(x * 0.7071067811865476) + 1.0) * 0.5)


def approximated_gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU with the normal distribution replaced by a hyperbolic tangent."""
    return tf.nn.gelu(x, approximate=True)


def hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """relu6(x + 3) * 0.16667, the rounded constant of the public weights."""
    return tf.nn.relu6(x + 3.0) * 0.16667


def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """x * relu6(x + 3) / 6 (MobileNetV3, 2019, arXiv 1905.02244)."""
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


ACTIVATIONS: dict[str, Activation] = {
    "none": identity,
    "identity": identity,
    "relu": relu,
    "relu6": tf.nn.relu6,
    "gelu": gelu,
    "approximated_gelu": approximated_gelu,
    "swish": tf.nn.silu,
    "silu": tf.nn.silu,
    "sigmoid": tf.nn.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
}


def get(activation: str | Activation | None) -> Activation:
    """The activation of that name; functions pass through, None is the identity.

    Raises:
        ValueError: there is no such name.
    """
    if activation is None:
        return identity
    if callable(activation):
        return activation
    return registry.lookup(ACTIVATIONS, activation.lower(), "activation")
