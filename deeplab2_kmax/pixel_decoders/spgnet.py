"""What SPGNet has between and behind its encoders: decoders, and guidance by what the first one says of the classes.

SPGNet: Semantic Prediction Guidance for Scene Parsing (2019, arXiv 1908.09798).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, residual, resize, shapes
from deeplab2_kmax.layers import norm as norms

Levels = tuple[tf.Tensor, ...]  # 2 to 5, fine to coarse


class UpwardDecoder(keras.layers.Layer):
    """Features of levels 2 to 5 -> as many with `channels` channels, each told by all that are coarser.

    [B, h, w, C] each. From the top: a projection and that of its mean; then at every level what comes from above,
    resized, plus a projection of the level's own feature, through a bottleneck block. `channels` is a multiple of 4.
    """

    def __init__(self, channels: int, *, norm: norms.Norm, activation: activations.Activation, **kwargs: Any):
        super().__init__(**kwargs)
        if channels % 4:
            raise ValueError(f"The decoder's channels must be a multiple of 4, but got {channels}.")
        self.top = conv.ConvNormAct(channels, norm=norm, activation=activation)
        self.pool = conv.ConvNormAct(channels, norm=norm, activation=activation)
        self.laterals = [conv.ConvNormAct(channels, norm=norm) for _ in range(3)]
        # As stages, which end in a way that TensorFlow's graph rewriter can take.
        self.blocks = [
            residual.Stage([residual.Bottleneck(channels // 4, norm=norm, activation=activation)]) for _ in range(3)
        ]
        self.activation = activation

    def call(self, levels: Levels, training: bool | None = False) -> Levels:
        *finer, top = levels
        pooled = self.pool(tf.reduce_mean(top, [1, 2], keepdims=True), training=training)
        x = self.top(top, training=training) + pooled
        found = [x]
        for level, lateral, block in zip(reversed(finer), self.laterals, self.blocks):
            height, width = shapes.of(level)[1:3]
            x = resize.bilinear(x, (height, width)) + lateral(level, training=training)
            x = self.activation(block(x, training=training))
            found.append(x)
        return tuple(reversed(found))


class Guide(keras.layers.Layer):
    """Semantic prediction guidance: features [B, h, w, C] -> features likewise, and class logits [B, h, w, classes].

    The logits, which are supervised, say how much of a projection is added to the features.
    """

    def __init__(
        self, channels: int, num_classes: int, *, norm: norms.Norm, activation: activations.Activation, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.last = conv.Conv(num_classes, use_bias=True, dtype="float32")
        self.gate = conv.Conv(channels, use_bias=True)
        self.project = conv.ConvNormAct(channels, norm=norm, activation=activation)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        logits = self.last(x, training=training)
        gate = tf.sigmoid(self.gate(tf.cast(logits, x.dtype), training=training))
        return x + self.project(x, training=training) * gate, logits
