"""Parts of the recursive feature pyramid (DetectoRS, 2020, arXiv 2006.02334): neck, feedback, fusion.

As the authors' code. The neck (2016, arXiv 1612.03144) differs in one thing: the coarser level is brought to the finer
one's size bilinearly with aligned corners, as everything in this library, and not to the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, resize, shapes

_RATES = (3, 6)
_BRANCHES = 4


class FeaturePyramid(keras.layers.Layer):
    """Levels [B, h_i, w_i, C_i], fine to coarse -> as many [B, h_i, w_i, channels], which know what coarser ones saw.

    A level is projected by a 1x1 convolution, the resized sum of the coarser ones is added, and a 3x3 follows. Both
    have a bias; there is neither norm nor activation.
    """

    def __init__(self, channels: int = 256, *, levels: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        linear: dict[str, Any] = {"use_bias": True, "kernel_initializer": "glorot_uniform"}
        self.laterals = [conv.Conv(channels, **linear) for _ in range(levels)]
        self.merges = [conv.Conv(channels, 3, **linear) for _ in range(levels)]

    def call(self, levels: Sequence[tf.Tensor], training: bool | None = False) -> tuple[tf.Tensor, ...]:
        sums: list[tf.Tensor] = []
        for lateral, level in zip(reversed(self.laterals), reversed(levels)):
            x = lateral(level, training=training)
            if sums:
                height, width = shapes.of(x)[1:3]
                x = x + resize.bilinear(sums[0], (height, width))
            sums.insert(0, x)
        return tuple(merge(x, training=training) for merge, x in zip(self.merges, sums))


class FeedbackASPP(keras.layers.Layer):
    """What a level of the pyramid tells the next pass: [B, h, w, C] -> [B, h, w, channels].

    Four branches of a quarter of the channels: 1x1, 3x3 with rates 3 and 6, and the mean of the map through a 1x1;
    each with a bias and ReLU. They are concatenated, nothing follows.

    Raises:
        ValueError: `channels` is no multiple of 4.
    """

    def __init__(self, channels: int = 256, **kwargs: Any):
        super().__init__(**kwargs)
        if channels % _BRANCHES:
            raise ValueError(f"The feedback has {_BRANCHES} branches of equal width: {channels} channels do not split.")
        width = channels // _BRANCHES
        self.conv0 = conv.Conv(width, use_bias=True)
        self.conv1, self.conv2 = (conv.Conv(width, 3, dilation=rate, use_bias=True) for rate in _RATES)
        self.pool = conv.Conv(width, use_bias=True)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        branches = [branch(x, training=training) for branch in (self.conv0, self.conv1, self.conv2)]
        pooled = self.pool(tf.reduce_mean(x, [1, 2], keepdims=True), training=training)
        branches.append(tf.broadcast_to(pooled, tf.shape(branches[0])))
        return activations.relu(tf.concat(branches, axis=-1))


class GatedFusion(keras.layers.Layer):
    """(new, old), both [B, h, w, C] -> w new + (1 - w) old. w, one per place, is found from `new`; at first 0.5."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.gate = conv.Conv(1, use_bias=True, kernel_initializer="zeros", name="gate")

    def call(self, levels: tuple[tf.Tensor, tf.Tensor], training: bool | None = False) -> tf.Tensor:
        new, old = levels
        weight = tf.sigmoid(self.gate(new, training=training))
        return weight * new + (1.0 - weight) * old
