"""The bottleneck block with axial attention in place of its 3x3 convolution (Axial-DeepLab, 2020, arXiv 2003.07853)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax.layers import activations, axial_attention, conv, residual
from deeplab2_kmax.layers import norm as norms


class AxialBlock(residual.ResidualBlock):
    """1x1 to `expansion * filters` -> axial attention -> activation -> 1x1 to `4 * filters`. The attention strides."""

    def __init__(
        self,
        filters: int,
        *,
        stride: int = 1,
        num_heads: int = 8,
        expansion: float = 2.0,
        key_expansion: float = 1.0,
        value_expansion: float = 2.0,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(4 * filters, stride=stride, norm=norm, activation=activation, **kwargs)
        self.conv1 = conv.ConvNormAct(int(round(expansion * filters)), norm=norm, activation=activation)
        self.attention = axial_attention.AxialAttention(
            int(round(key_expansion * filters)),
            int(round(value_expansion * filters)),
            stride=stride,
            num_heads=num_heads,
            norm=norm,
        )
        self.conv3 = conv.ConvNormAct(4 * filters, norm=norm, gamma=0.0)

    def branch(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.conv1(x, training=training)
        x = self.activation(self.attention(x, training=training))
        return self.conv3(x, training=training)
