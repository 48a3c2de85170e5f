"""LR-ASPP: a gated projection, and classes added from a finer feature.

Searching for MobileNetV3 (2019, arXiv 1905.02244), as the authors' code where paper and code differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.layers import activations, conv, pooling, resize, shapes
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.models import building, deeplab
from deeplab2_kmax.models import passes as multiple
from deeplab2_kmax.protos import model_pb2

_POOL_STEPS = (4, 5)


def build(options: model_pb2.ModelOptions, kit: building.Kit, *, passes: Sequence[multiple.Pass]) -> LRASPP:
    """Builds the model that `options.lr_aspp` describes around a backbone.

    Raises:
        ValueError: an option has no meaning here.
    """
    own = options.lr_aspp
    stride = building.stride_of(kit.backbone, own.feature_key)
    window = tuple((side - 1) // stride + 1 for side in own.pool_crop_size)
    return LRASPP(
        feature=own.feature_key,
        low_feature=own.low_level_feature_key,
        channels=own.channels,
        pool_size=window or None,  # type: ignore[arg-type]
        pool_steps=tuple(own.pool_stride) or _POOL_STEPS,  # type: ignore[arg-type]
        num_classes=own.num_classes,
        backbone=kit.backbone,
        passes=passes,
        postprocess=kit.postprocess,
        **kit.shared("relu"),
    )


class LRASPP(deeplab.DeepLab):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput with classes alone, on the grid of the finer feature.

    Args:
        feature: the coarse one, by its name in the pyramid.
        low_feature: the fine one.
        channels: of the projection and its gate.
        pool_size: window of the gate's means, in cells of the coarse feature; None: the whole map.
        pool_steps: of that window, down and right.
        num_classes: channels that come out.
    """

    def __init__(
        self,
        *,
        feature: str,
        low_feature: str,
        channels: int,
        pool_size: tuple[int, int] | None,
        pool_steps: tuple[int, int],
        num_classes: int,
        norm: norms.Norm,
        activation: activations.Activation,
        name: str = "lr_aspp",
        **parts: Any,
    ):
        super().__init__(name=name, **parts)
        self.feature = structures.pyramid_field(feature, "feature_key")
        self.low_feature = structures.pyramid_field(low_feature, "low_level_feature_key")
        self.pool_size, self.pool_steps = pool_size, pool_steps
        self.project = conv.ConvNormAct(channels, norm=norm, activation=activation)
        self.gate = conv.Conv(channels, use_bias=True)
        self.last = conv.Conv(num_classes, use_bias=True, dtype="float32")
        self.low_last = conv.Conv(num_classes, use_bias=True, dtype="float32")

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        x, low = getattr(features, self.feature), getattr(features, self.low_feature)
        pooled = pooling.window_means(x, self.pool_size, scale=pool_scale, steps=self.pool_steps)
        gate = activations.hard_sigmoid(self.gate(pooled, training=training))
        height, width = shapes.of(x)[1:3]
        gated = self.project(x, training=training) * resize.bilinear(gate, (height, width))
        height, width = shapes.of(low)[1:3]
        logits = self.last(resize.bilinear(gated, (height, width)), training=training)
        return {deeplab.LOGITS: logits + self.low_last(low, training=training)}
