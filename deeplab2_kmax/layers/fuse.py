"""Sums features of various sizes and widths after bringing each to one target (MaX-DeepLab, 2021, arXiv 2012.00759)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, resize, shapes
from deeplab2_kmax.layers import norm as norms


class ResizedFuse(keras.layers.Layer):
    """Two un-activated features to the size of the second and `channels` channels, summed, un-activated.

    A feature that has the channels is only resized, not activated; another one is activated, projected and resized.
    """

    def __init__(self, channels: int, *, norm: norms.Norm, activation: activations.Activation, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.norm_factory = norm
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        coarse, fine = (tf.TensorShape(shape)[-1] for shape in input_shape)
        self.coarse = self._projection(coarse)
        self.fine = self._projection(fine)
        self.built = True

    def _projection(self, channels: int) -> conv.ConvNormAct | None:
        return None if channels == self.channels else conv.ConvNormAct(self.channels, norm=self.norm_factory)

    def call(self, features: tuple[tf.Tensor, tf.Tensor], training: bool | None = False) -> tf.Tensor:
        coarse, fine = features
        size = shapes.of(fine)[1:3]
        if self.coarse is not None:
            coarse = self.coarse(self.activation(coarse), training=training)
        if self.fine is not None:
            fine = self.fine(self.activation(fine), training=training)
        return resize.bilinear(coarse, (size[0], size[1])) + fine


class StackedFuse(keras.layers.Layer):
    """The current feature of a stacked decoder, brought to the size of `kept` ones and `channels` channels, plus those.

    (current, *kept), all un-activated, kept ones [B, H, W, channels] -> [B, H, W, channels], un-activated. With
    `strided` the current feature has twice the resolution and its projection strides, else it is resized.
    """

    def __init__(
        self,
        channels: int,
        *,
        strided: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.is_strided = strided
        self.norm_factory = norm
        self.activation = activation

    def build(self, input_shape: Any) -> None:
        current, *kept = (tf.TensorShape(shape)[-1] for shape in input_shape)
        if not kept or any(channels != self.channels for channels in kept):
            raise ValueError(f"Expected kept features of {self.channels} channels, but got {kept}.")
        self.resized = self.strided = None
        if self.is_strided:
            self.strided = conv.ConvNormAct(self.channels, stride=2, norm=self.norm_factory, name="strided")
        elif current != self.channels:
            self.resized = conv.ConvNormAct(self.channels, norm=self.norm_factory, name="resized")
        self.built = True

    def call(self, features: Sequence[tf.Tensor], training: bool | None = False) -> tf.Tensor:
        current, *kept = features
        if self.strided is not None:
            current = self.strided(self.activation(current), training=training)
        else:
            size = shapes.of(kept[0])[1:3]
            if self.resized is not None:
                current = self.resized(self.activation(current), training=training)
            current = resize.bilinear(current, (size[0], size[1]))
        return tf.add_n([current, *kept])
