"""Batch norm and layer norm.

Batch norm (2015, arXiv 1502.03167) is a layer of its own rather than Keras's, because it may carry parameters along
several axes, synchronises its statistics across replicas, keeps its numbers in float32 under mixed precision, and hands
its affine map to a preceding convolution, so that inference needs no separate pass. Its moving variance is the biased
one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import recompute

# A factory that is chosen once and makes every norm of a network. Keyword arguments: gamma (initial value) and axes.
Norm = Callable[..., keras.layers.Layer]


def batch_norm(momentum: float = 0.99, epsilon: float = 1e-3, synchronized: bool = True) -> Norm:
    """A factory of batch norms.

    Args:
        momentum: share of the old moving statistics that a training step keeps.
        epsilon: added to the variance.
        synchronized: whether replicas share their statistics in training.
    """
    return functools.partial(BatchNorm, momentum=momentum, epsilon=epsilon, synchronized=synchronized)


def layer_norm(epsilon: float = 1e-6) -> Norm:
    """A factory of layer norms over the last axis."""
    return functools.partial(LayerNorm, epsilon=epsilon)


class BatchNorm(keras.layers.Layer):
    """Normalises every channel by the mean and variance over all other axes.

    `axes` says which axes have parameters of their own, (-1,) for ordinary channels. With one axis a parameter has
    shape [C]; with several it keeps all axes, of size 1 where the values are shared.
    """

    def __init__(
        self,
        *,
        axes: tuple[int, ...] = (-1,),
        gamma: float = 1.0,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        synchronized: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axes = axes
        self.initial_gamma = gamma
        self.momentum = momentum
        self.epsilon = epsilon
        self.synchronized = synchronized

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape).as_list()
        own = {axis % len(shape) for axis in self.axes}
        self.broadcast_shape = [size if axis in own else 1 for axis, size in enumerate(shape)]
        self.reduced_axes = [axis for axis in range(len(shape)) if axis not in own]
        parameter_shape = self.broadcast_shape if len(own) > 1 else [shape[axis] for axis in own]
        if None in parameter_shape:
            raise ValueError(f"Batch norm needs the sizes of axes {sorted(own)}, but got an input of shape {shape}.")
        # Parameters stay float32 in a layer that computes in bfloat16.
        weight = functools.partial(self.add_weight, shape=parameter_shape, dtype="float32", experimental_autocast=False)
        statistic = functools.partial(
            weight,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
        self.gamma = weight("gamma", initializer=keras.initializers.Constant(self.initial_gamma))
        self.beta = weight("beta", initializer="zeros")
        self.moving_mean = statistic("moving_mean", initializer="zeros")
        self.moving_variance = statistic("moving_variance", initializer="ones")
        self.built = True

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Scale and offset of inference: the norm of x is `x * scale + offset`. Float32, shaped as the parameters."""
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if training and self.trainable:
            return self._normalize_batch(x)
        if self._is_plain() and x.shape.rank == 4:
            return tf.compat.v1.nn.fused_batch_norm(
                x, self.gamma, self.beta, self.moving_mean, self.moving_variance, self.epsilon, is_training=False
            )[0]
        scale, offset = self.affine()
        scale = tf.reshape(scale, self.broadcast_shape)
        offset = tf.reshape(offset, self.broadcast_shape)
        return x * tf.cast(scale, x.dtype) + tf.cast(offset, x.dtype)

    def _is_plain(self) -> bool:
        return self.reduced_axes == list(range(len(self.broadcast_shape) - 1))

    def _normalize_batch(self, x: tf.Tensor) -> tf.Tensor:
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync if self.synchronized else 1
        if self._is_plain() and replicas == 1:
            rows = x if x.shape.rank == 4 else tf.reshape(x, [-1, 1, 1, self.broadcast_shape[-1]])
            y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                rows, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
            )
            count = tf.cast(tf.size(rows), tf.float32) / self.broadcast_shape[-1]
            self._move(mean, variance * tf.maximum(count - 1.0, 1.0) / count)
            return y if x.shape.rank == 4 else tf.reshape(y, tf.shape(x))
        numbers = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(numbers, self.reduced_axes, keepdims=True)
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([mean, variance + tf.square(mean)]))
            mean, square = tf.unstack(sums / replicas)
            variance = tf.nn.relu(square - tf.square(mean))
        self._move(tf.reshape(mean, self.gamma.shape), tf.reshape(variance, self.gamma.shape))
        gamma = tf.reshape(self.gamma, self.broadcast_shape)
        beta = tf.reshape(self.beta, self.broadcast_shape)
        return tf.cast((numbers - mean) * (tf.math.rsqrt(variance + self.epsilon) * gamma) + beta, x.dtype)

    def _move(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        if recompute.is_repeating():
            return
        rate = 1.0 - self.momentum
        self.moving_mean.assign_sub((self.moving_mean - tf.stop_gradient(mean)) * rate)
        self.moving_variance.assign_sub((self.moving_variance - tf.stop_gradient(variance)) * rate)


class LayerNorm(keras.layers.Layer):
    """Normalises every position over its channels (2016, arXiv 1607.06450). Statistics are float32."""

    def __init__(self, *, epsilon: float = 1e-6, gamma: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.initial_gamma = gamma

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = [tf.TensorShape(input_shape)[-1]]
        weight = functools.partial(self.add_weight, shape=channels, dtype="float32", experimental_autocast=False)
        self.gamma = weight("gamma", initializer=keras.initializers.Constant(self.initial_gamma))
        self.beta = weight("beta", initializer="zeros")
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        del training  # the same in training and inference
        numbers = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(numbers, [-1], keepdims=True)
        scale = tf.math.rsqrt(variance + self.epsilon)
        return tf.cast((numbers - mean) * scale * self.gamma + self.beta, x.dtype)
