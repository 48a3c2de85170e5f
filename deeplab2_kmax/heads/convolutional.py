"""The convolutional head: features to one prediction per pixel (Panoptic-DeepLab, 2020, arXiv 1911.10194)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import registry
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation

# Convolutions by the names that configs give them.
CONV_TYPES: dict[str, Callable[..., keras.layers.Layer]] = {
    "depthwise_separable_conv": conv.SeparableConvNormAct,
    "standard_conv": conv.ConvNormAct,
}


class ConvHead(keras.layers.Layer):
    """k x k convolution -> norm -> activation -> 1x1 with bias: [B, h, w, C] -> [B, h, w, outputs].

    `float32_output`: the last layer computes in float32 under mixed precision too, as logits should. `recompute`:
    training computes the layers before it again for their gradients, to save memory.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        kernel_size: int = 5,
        conv_type: str = "depthwise_separable_conv",
        float32_output: bool = True,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.recompute = recompute
        make = registry.lookup(CONV_TYPES, conv_type, "head_conv_type")
        self.conv1 = make(channels, kernel_size, norm=norm, activation=activation, name="conv1")
        self.last = conv.Conv(
            outputs,
            use_bias=True,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
            dtype="float32" if float32_output else None,
            name="last",
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        conv.build_child(self.conv1, input_shape)
        conv.build_child(self.last, [None, None, None, self.channels])
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.last(recomputation.layer(self.conv1, x, enabled=self.recompute, training=training))
