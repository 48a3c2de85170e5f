"""Masks and classes of the clusters (MaX-DeepLab, 2021, arXiv 2012.00759; kMaX-DeepLab, 2022, arXiv 2207.04044)."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import activations, conv, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation

# Share of the slots taken as empty at the start of training. Its log odds are added to the void logit in every call,
# not only as an initial bias, because the published weights were trained so.
_VOID_PRIOR = 0.9


class MaskPredictor(keras.layers.Layer):
    """Pixel features and cluster features -> MaskPrediction, in float32.

    Args:
        num_outputs: outputs of the class head, void included.
        head_channels: width of the 5x5 convolution on the pixel features.
        feature_channels: length of the vectors whose products are the mask logits.
        logits_scale: spread of the mask logits at the start of training.
        recompute: training computes the pixel features again for their gradients, to save memory.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        head_channels: int = 256,
        feature_channels: int = 128,
        head_conv_type: str = "depthwise_separable_conv",
        logits_scale: float = 0.1,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_outputs = num_outputs
        self.recompute = recompute
        self.pixel_head = convolutional.ConvHead(
            head_channels,
            feature_channels,
            conv_type=head_conv_type,
            float32_output=False,
            norm=norm,
            activation=activation,
        )
        self.feature_norm = norm(dtype="float32")
        self.mask_head = conv.DenseNormAct(feature_channels, norm=norm, dtype="float32")
        self.mask_norm = norm(gamma=logits_scale, dtype="float32")
        initializer = keras.initializers.TruncatedNormal(stddev=0.01)
        self.class_head = conv.Dense(num_outputs, kernel_initializer=initializer, dtype="float32")
        prior = np.zeros([num_outputs], np.float32)
        prior[-1] = math.log((num_outputs - 1) * _VOID_PRIOR / (1.0 - _VOID_PRIOR))
        self.class_prior = prior

    def build_variables(self, channels: int) -> None:
        """Creates all variables for features of `channels` channels, those that `assignment_logits` leaves out too."""
        clusters = tf.zeros([1, 1, channels])
        self(tf.zeros([1, 1, 1, channels]), clusters, clusters)

    def build(self, input_shape: tf.TensorShape) -> None:
        outputs = self.pixel_head.last.filters
        conv.build_child(self.pixel_head, input_shape)
        conv.build_child(self.feature_norm, [None, None, None, outputs])
        conv.build_child(self.mask_norm, [None, None, None, None, 1])
        self.built = True

    def call(
        self, pixels: tf.Tensor, class_features: tf.Tensor, mask_features: tf.Tensor, training: bool | None = False
    ) -> structures.MaskPrediction:
        """pixels [B, h, w, C] un-activated, class and mask features [B, N, D]."""
        normalize = functools.partial(self._unit_features, training=training)
        features = recomputation.call(normalize, pixels) if training and self.recompute else normalize(pixels)
        kernels = self.mask_head(mask_features, training=training)
        if training:
            mask_logits = _products(features, kernels)
            mask_logits = self.mask_norm(mask_logits[..., tf.newaxis], training=True)[..., 0]
        else:
            scale, offset = self.mask_norm.affine()
            mask_logits = _products(features, kernels * scale) + offset
        class_logits = self.class_head(class_features) + self.class_prior
        return structures.MaskPrediction(class_logits, mask_logits, features)

    def assignment_logits(self, pixels: tf.Tensor, mask_features: tf.Tensor) -> tf.Tensor:
        """Mask logits [B, h, w, N] up to a positive factor per pixel and a constant, in inference.

        Their order over the slots is all that the k-means assignment needs, so neither the features' length nor the
        offset of the last norm matters.
        """
        scale, _ = self.mask_norm.affine()
        return _products(self._features(pixels, False), self.mask_head(mask_features) * scale)

    def _unit_features(self, pixels: tf.Tensor, training: bool | None) -> tf.Tensor:
        return tf.math.l2_normalize(self._features(pixels, training), axis=-1, epsilon=1e-12)

    def _features(self, pixels: tf.Tensor, training: bool | None) -> tf.Tensor:
        if training or not isinstance(self.feature_norm, norms.BatchNorm):
            return self.feature_norm(self.pixel_head(pixels, training=training), training=training)
        last = self.pixel_head.last
        hidden = self.pixel_head.conv1(pixels)
        scale, offset = self.feature_norm.affine()
        return tf.cast(last.convolve(hidden, last.kernel * scale, last.bias * scale + offset), tf.float32)


def _products(features: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """features [B, h, w, D], kernels [B, N, D] -> [B, h, w, N]."""
    batch, height, width, channels = shapes.of(features)
    flat = tf.reshape(features, [batch, height * width, channels])
    return tf.reshape(tf.linalg.matmul(flat, kernels, transpose_b=True), [batch, height, width, kernels.shape[1]])
