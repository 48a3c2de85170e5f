"""Residual blocks of the ResNet family as DeepLab2 orders them: un-activated features in, un-activated features out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv, squeeze_excite
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation


class ResidualBlock(keras.layers.Layer):
    """What all residual blocks share: activation first, then a branch and a shortcut that start from it, and their sum.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]. A child defines `branch`. With `recompute`
    training keeps the input alone and computes the block again for its gradient.
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        norm: norms.Norm,
        activation: activations.Activation,
        drop_path: float = 0.0,
        squeeze_and_excite: bool = False,
        recompute: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.stride = stride
        self.norm_factory = norm
        self.activation = activation
        self.squeeze_excite = squeeze_excite.SimplifiedSqueezeExcite() if squeeze_and_excite else None
        self.drop_path = drop_paths.DropPath(drop_path)
        self.recompute = recompute

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shortcut = None
        if tf.TensorShape(input_shape)[-1] != self.channels:
            self.shortcut = conv.ConvNormAct(self.channels, stride=self.stride, norm=self.norm_factory, name="shortcut")
        self.built = True

    def branch(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """The residual branch, from activated input to un-activated output."""
        raise NotImplementedError(f"{type(self).__name__} does not define branch().")

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        if training and self.recompute:
            return recomputation.call(functools.partial(self._compute, training=True), x)
        return self._compute(x, training)

    def _compute(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.activation(x)
        if self.shortcut is not None:
            shortcut = self.shortcut(x, training=training)
        elif self.stride > 1:
            shortcut = x[:, :: self.stride, :: self.stride]
        else:
            shortcut = x
        y = self.branch(x, training)
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y)
        return self.drop_path(y, training=training) + shortcut


class Bottleneck(ResidualBlock):
    """1x1 to `filters`, 3x3, 1x1 to four times as many (ResNet, 2015, arXiv 1512.03385). The 3x3 strides.

    `inner` is what the 3x3 widens to, `filters` if None; `conv3x3` makes it, in `switchable_atrous` there is another.
    """

    def __init__(
        self,
        filters: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        inner: int | None = None,
        conv3x3: Callable[..., keras.layers.Layer] = conv.ConvNormAct,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(4 * filters, stride=stride, norm=norm, activation=activation, **kwargs)
        self.conv1 = conv.ConvNormAct(filters, norm=norm, activation=activation)
        self.conv2 = conv3x3(inner or filters, 3, stride=stride, dilation=dilation, norm=norm, activation=activation)
        self.conv3 = conv.ConvNormAct(4 * filters, norm=norm, gamma=0.0)

    def branch(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.conv1(x, training=training)
        x = self.conv2(x, training=training)
        return self.conv3(x, training=training)


class Basic(ResidualBlock):
    """Two 3x3 convolutions to four times `filters` (Wide ResNet, 2016, arXiv 1611.10080). The first one strides.

    `second_dilation` is the rate of the second convolution, which works behind the stride. `conv3x3` makes both.
    """

    def __init__(
        self,
        filters: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        second_dilation: int = 1,
        conv3x3: Callable[..., keras.layers.Layer] = conv.ConvNormAct,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(4 * filters, stride=stride, norm=norm, activation=activation, **kwargs)
        width = 4 * filters
        self.conv1 = conv3x3(width, 3, stride=stride, dilation=dilation, norm=norm, activation=activation)
        self.last = conv3x3(width, 3, dilation=second_dilation, norm=norm, gamma=0.0)

    def branch(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        return self.last(self.conv1(x, training=training), training=training)


class Stage(keras.layers.Layer):
    """Blocks one after the other, as attributes block1, block2 and so on.

    With `recompute` training keeps the inputs of the blocks alone and computes each again for its gradient. `added`
    joins the sum that the first block gives, [B, H, W, C].
    """

    def __init__(self, blocks: Sequence[keras.layers.Layer], *, recompute: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.recompute = recompute
        self.num_blocks = len(blocks)
        for number, block in enumerate(blocks, start=1):
            setattr(self, f"block{number}", block)

    def call(self, x: tf.Tensor, training: bool | None = False, added: tf.Tensor | None = None) -> tf.Tensor:
        for number in range(1, self.num_blocks + 1):
            block = getattr(self, f"block{number}")
            x = recomputation.layer(block, x, enabled=self.recompute, training=training)
            if number == 1 and added is not None:
                x = x + added
        # Changes nothing. Other readers of a sum keep the graph rewriter of TensorFlow 2.15 from fusing convolution,
        # sum and ReLU: it fails, and with it every other fusion in the graph. So the sum has one reader, which has
        # the others.
        return tf.squeeze(tf.expand_dims(x, 0), 0)
