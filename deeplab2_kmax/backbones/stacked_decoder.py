"""The backbone of MaX-DeepLab-L: Axial-SWideRNet with a decoder stacked on it (MaX-DeepLab, 2021, arXiv 2012.00759).

The decoder goes once from stride 16 up to stride 4 and back; at every step it also reads the last two features of the
step's stride.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, recipe, resnet, swidernet
from deeplab2_kmax.layers import fuse, residual

FIXED_OPTIONS: fixed_options.Allowed = {**resnet.FIXED_OPTIONS, "output_stride": (16,)}

# Stride of each step, and the nominal stride that chooses its block, channels and drop path.
STEPS = ((8, 8), (4, 4), (8, 8), (16, 32))


class StackedDecoder(keras.layers.Layer):
    """Pyramid of output stride 16 -> un-activated feature of the last of STEPS.

    Its blocks are computed again for their gradients where the recipe says so of the stage of their nominal stride.
    """

    def __init__(self, recipe: recipe.Recipe, **kwargs: Any):
        super().__init__(**kwargs)
        before = 16
        for number, (stride, nominal_stride) in enumerate(STEPS, start=1):
            blocks = recipe.blocks(int(math.log2(nominal_stride)), nominal_stride, 1, 1)
            fused = fuse.StackedFuse(
                blocks[-1].channels, strided=stride > before, norm=recipe.norm, activation=recipe.activation
            )
            setattr(self, f"fuse{number}", fused)
            setattr(self, f"stage{number}", residual.Stage(blocks))
            before = stride

    def call(self, pyramid: structures.Pyramid, training: bool | None = False) -> tf.Tensor:
        kept = {4: [pyramid.stage2], 8: [pyramid.stage3], 16: [pyramid.stage5]}
        x = pyramid.stage5
        for number, (stride, _) in enumerate(STEPS, start=1):
            x = getattr(self, f"fuse{number}")((x, *kept[stride][-2:]), training=training)
            x = getattr(self, f"stage{number}")(x, training=training)
            kept[stride].append(x)
        return x


class StackedDecoderResNet(resnet.ResNet):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid, whose `output` is that of a stacked decoder. Options are ResNet's."""

    def __init__(self, *, output_stride: int = 16, name: str = "stacked_decoder_resnet", **options: Any):
        fixed_options.check(name, {"output_stride": output_stride}, FIXED_OPTIONS)
        super().__init__(output_stride=output_stride, name=name, **options)
        self.decoder = StackedDecoder(self.recipe, name="decoder")

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        pyramid = super().call(images, training=training)
        return pyramid._replace(output=self.activation(self.decoder(pyramid, training=training)))


VARIANTS: dict[str, Callable[..., StackedDecoderResNet]] = {
    "max_deeplab_l_backbone": functools.partial(StackedDecoderResNet, **swidernet.AXIAL, name="max_deeplab_l_backbone"),
}
