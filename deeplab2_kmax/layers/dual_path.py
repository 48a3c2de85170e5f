"""The dual-path transformer layer of MaX-DeepLab (2021, arXiv 2012.00759): pixels and memory attend to each other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, attention, conv, shapes
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation


class DualPathTransformer(keras.layers.Layer):
    """pixels [B, h, w, C] un-activated, memory [B, N, D] -> both updated; the memory is activated, the pixels are not.

    The memory attends to the pixels and, with `memory_self_attention`, to itself under the same softmax; with
    `pixel_feedback` the pixels attend to the memory as it was.

    Args:
        pixel_channels: C.
        memory_channels: D.
        filters: keys have `filters` channels, values and bottlenecks twice as many.
        hidden: channels of the feed-forward network.
        drop_path: chance to leave out each of the residual updates, drawn separately.
    """

    def __init__(
        self,
        pixel_channels: int,
        memory_channels: int,
        *,
        filters: int = 128,
        num_heads: int = 8,
        hidden: int = 2048,
        memory_self_attention: bool = True,
        pixel_feedback: bool = True,
        norm: norms.Norm,
        activation: activations.Activation,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.activation = activation
        self.memory_self_attention = memory_self_attention
        self.pixel_feedback = pixel_feedback
        self.key_channels = filters
        self.value_channels = width = 2 * filters

        def projection(channels: int) -> conv.DenseNormAct:
            initializer = keras.initializers.TruncatedNormal(stddev=width**-0.5)
            return conv.DenseNormAct(channels, norm=norm, kernel_initializer=initializer)

        def attend() -> attention.MultiHeadAttention:
            return attention.MultiHeadAttention(filters, width, num_heads=num_heads, norm=norm, activation=activation)

        self.memory_conv1 = conv.DenseNormAct(width, norm=norm, activation=activation)
        self.pixel_conv1 = conv.DenseNormAct(width, norm=norm, activation=activation)
        if memory_self_attention or pixel_feedback:
            self.memory_qkv = projection(4 * filters)
        else:
            self.memory_query = projection(filters)
        if pixel_feedback:
            self.pixel_qkv = projection(4 * filters)
            self.pixel_attention = attend()
            self.pixel_conv3 = conv.DenseNormAct(pixel_channels, norm=norm, gamma=0.0)
        else:
            self.pixel_kv = projection(3 * filters)
        self.memory_attention = attend()
        self.memory_conv3 = conv.DenseNormAct(memory_channels, norm=norm, gamma=0.0)
        self.feed_forward = attention.FeedForward(memory_channels, hidden, norm=norm, activation=activation)
        self.memory_drop_path = drop_paths.DropPath(drop_path)
        self.feed_forward_drop_path = drop_paths.DropPath(drop_path)
        self.pixel_drop_path = drop_paths.DropPath(drop_path)

    def call(self, pixels: tf.Tensor, memory: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        memory = tf.cast(memory, pixels.dtype)  # Keras casts the first argument only.
        batch, height, width, channels = shapes.of(pixels)
        flat = tf.reshape(pixels, [batch, height * width, channels])
        memory_query, memory_key, memory_value = self._project_memory(memory, training)
        pixel_query, pixel_key, pixel_value = self._project_pixels(flat, training)

        keys, values = pixel_key, pixel_value
        if self.memory_self_attention:
            keys = tf.concat([pixel_key, memory_key], axis=1)
            values = tf.concat([pixel_value, memory_value], axis=1)
        update = self.memory_attention(memory_query, keys, values, training=training)
        update = self.memory_conv3(update, training=training)
        memory = self.activation(memory + self.memory_drop_path(update, training=training))
        update = self.feed_forward(memory, training=training)
        memory = self.activation(memory + self.feed_forward_drop_path(update, training=training))

        if self.pixel_feedback:
            update = self.pixel_attention(pixel_query, memory_key, memory_value, training=training)
            update = self.pixel_conv3(update, training=training)
            flat += self.pixel_drop_path(update, training=training)
        return tf.reshape(flat, [batch, height, width, channels]), memory

    def _project_memory(self, memory: tf.Tensor, training: bool | None) -> list[tf.Tensor]:
        x = self.memory_conv1(memory, training=training)
        if not (self.memory_self_attention or self.pixel_feedback):
            return [self.memory_query(x, training=training), None, None]
        sizes = [self.key_channels, self.key_channels, self.value_channels]
        return tf.split(self.memory_qkv(x, training=training), sizes, axis=-1)

    def _project_pixels(self, flat: tf.Tensor, training: bool | None) -> list[tf.Tensor]:
        x = self.pixel_conv1(self.activation(flat), training=training)
        if self.pixel_feedback:
            sizes = [self.key_channels, self.key_channels, self.value_channels]
            return tf.split(self.pixel_qkv(x, training=training), sizes, axis=-1)
        keys, values = tf.split(self.pixel_kv(x, training=training), [self.key_channels, self.value_channels], axis=-1)
        return [None, keys, values]


class DualPathStage(keras.layers.Layer):
    """Blocks, as in `residual.Stage`, each followed by a dual-path layer.

    Un-activated pixels [B, h, w, C] and memory [B, N, D] -> both, updated. With `recompute` training keeps of the
    dual-path layers the inputs alone; blocks decide for themselves.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        transformers: Sequence[DualPathTransformer],
        *,
        recompute: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_blocks = len(blocks)
        self.recompute = recompute
        for number, (block, transformer) in enumerate(zip(blocks, transformers), start=1):
            setattr(self, f"block{number}", block)
            setattr(self, f"transformer{number}", transformer)

    def call(self, x: tf.Tensor, memory: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        for number in range(1, self.num_blocks + 1):
            x = getattr(self, f"block{number}")(x, training=training)
            transformer = getattr(self, f"transformer{number}")
            if training and self.recompute:
                x, memory = recomputation.call(functools.partial(transformer, training=True), x, memory)
            else:
                x, memory = transformer(x, memory, training=training)
        return x, memory


def apply(
    stage: keras.layers.Layer | None, x: tf.Tensor, memory: tf.Tensor | None, training: bool | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Pixels and memory behind a stage with dual-path layers, a plain one, which leaves the memory alone, or none."""
    if stage is None:
        return x, memory
    if isinstance(stage, DualPathStage):
        return stage(x, memory, training=training)
    return stage(x, training=training), memory
