"""The pixel decoder of kMaX-DeepLab (2022, arXiv 2207.04044): axial blocks at coarse strides, bottlenecks at fine ones.

The bottlenecks' 3x3 convolutions have dilation 2 by default, as in DeepLab2's published checkpoints; the paper has 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations, axial_block, fuse, residual
from deeplab2_kmax.layers import norm as norms
from deeplab2_kmax.layers import recompute as recomputation

# Blocks per level, at strides 32, 16, 8, 4 and 2.
BLOCKS = (1, 5, 1, 1, 1)


class KMaXPixelDecoder(keras.layers.Layer):
    """Pyramid -> un-activated features from stride 32 to the finest one, level i with `channels[i]` channels.

    Args:
        blocks: blocks per level; 4 levels end at the stride of stage 2, 5 at that of stage 1.
        width_multiplier: factor on all widths, of which the full ones are 2048, 1024, 512, 256 (and 128).
        axial_beyond_stride: levels at this stride and above use axial blocks; 0: none does.
        dilation: rate of the bottlenecks' 3x3 convolutions.
        recompute: training computes blocks and fusions again for their gradients, to save memory.

    Raises:
        ValueError: there are not 4 or 5 levels, or a level has no block or no channel.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = BLOCKS[:4],
        width_multiplier: float = 1.0,
        axial_beyond_stride: int = 16,
        dilation: int = 2,
        num_heads: int = 8,
        recompute: bool = False,
        norm: norms.Norm,
        activation: activations.Activation,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if len(blocks) not in (4, 5) or min(blocks) < 1:
            raise ValueError(f"pixel_decoder_blocks has 4 or 5 positive entries, but got {list(blocks)}.")
        strides = [32 // 2**level for level in range(len(blocks))]
        filters = [int(round(16 * stride * width_multiplier)) for stride in strides]
        if min(filters) < 1:
            raise ValueError(f"pixel_decoder_width_multiplier {width_multiplier} leaves a level without channels.")

        def stage(stride: int, width: int, count: int) -> residual.Stage:
            shared: dict[str, Any] = {"norm": norm, "activation": activation, "recompute": recompute}
            if stride >= axial_beyond_stride > 0:
                return residual.Stage(
                    [axial_block.AxialBlock(width, num_heads=num_heads, **shared) for _ in range(count)]
                )
            return residual.Stage([residual.Bottleneck(width, dilation=dilation, **shared) for _ in range(count)])

        self.recompute = recompute
        self.channels = tuple(4 * width for width in filters)
        self.norms = [norms.LayerNorm(epsilon=1e-6) for _ in strides]
        self.stages = [stage(*level) for level in zip(strides, filters, blocks)]
        self.fuses = [fuse.ResizedFuse(width, norm=norm, activation=activation) for width in filters[1:]]

    def call(
        self,
        pyramid: structures.Pyramid,
        training: bool | None = False,
        update: Callable[[int, tf.Tensor], tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, ...]:
        """`update` may change the feature of a level (from 0) before the next level reads it."""
        endpoints = (pyramid.stage5, pyramid.stage4, pyramid.stage3, pyramid.stage2, pyramid.stage1)
        features: list[tf.Tensor] = []
        for level, stage in enumerate(self.stages):
            inputs = (endpoints[level], *features[-1:])
            enter = functools.partial(self._enter, level, training)
            x = recomputation.call(enter, *inputs) if training and self.recompute else enter(*inputs)
            x = stage(x, training=training)
            features.append(x if update is None else update(level, x))
        return tuple(features)

    def _enter(self, level: int, training: bool | None, endpoint: tf.Tensor, *coarser: tf.Tensor) -> tf.Tensor:
        """What the blocks of a level read: the backbone's feature, fused with that of the level before."""
        x = self.norms[level](endpoint)
        return self.fuses[level - 1]((*coarser, x), training=training) if coarser else x
