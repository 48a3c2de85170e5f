"""The backbone of MaX-DeepLab-L: Axial-SWideRNet with a decoder stacked on it (MaX-DeepLab, 2021, arXiv 2012.00759).

The decoder goes once from stride 16 up to stride 4 and back; that of MaX-DeepLab itself (`max_deeplab`) goes on from
there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, recipe, resnet, swidernet
from deeplab2_kmax.layers import dual_path, fuse, residual

FIXED_OPTIONS: fixed_options.Allowed = {**resnet.FIXED_OPTIONS, "output_stride": (16,)}


class Step(NamedTuple):
    """A step of a decoder: what came before, fused at a stride, and blocks on it."""

    stride: int  # nominal: 32 is that of stage 5 at every output stride
    blocks: int = 0
    extra: int = 0  # of the mask transformer alone


STEPS = (Step(8, blocks=1), Step(4, blocks=1), Step(8, blocks=1), Step(32, blocks=1))


class StackedDecoder(keras.layers.Layer):
    """Un-activated features of stages 1 to 5 and the current one -> those of every step, un-activated; and the memory.

    A step fuses the current feature with the last two that were kept for its stride, and keeps what its blocks make of
    it. They are computed again for their gradients where the recipe says so of the stage of their nominal stride.

    Args:
        recipe: of the blocks.
        steps: in their order.
        make_stage: (number of the stage of the same nominal stride, blocks) -> one layer of them.

    Raises:
        ValueError: a step goes to a coarser stride, but the output stride is not 16.
    """

    def __init__(
        self,
        recipe: recipe.Recipe,
        steps: Sequence[Step],
        make_stage: Callable[[int, Sequence[residual.ResidualBlock]], keras.layers.Layer] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.steps = tuple(steps)
        strided = [step.stride > before.stride for before, step in zip((Step(32), *steps), steps)]
        if any(strided) and recipe.output_stride != 16:
            raise ValueError(f"A stacked decoder has output_stride 16, but got {recipe.output_stride}.")

        def stage(stride: int, count: int) -> keras.layers.Layer | None:
            if not count:
                return None
            number = int(math.log2(stride))
            blocks = recipe.blocks(number, stride, 1, count)
            return make_stage(number, blocks) if make_stage else residual.Stage(blocks)

        for number, (step, halves) in enumerate(zip(steps, strided), start=1):
            channels = 4 * recipe.filters(step.stride)
            fused = fuse.StackedFuse(channels, strided=halves, norm=recipe.norm, activation=recipe.activation)
            setattr(self, f"fuse{number}", fused)
            setattr(self, f"stage{number}", stage(step.stride, step.blocks))
            setattr(self, f"extra{number}", stage(step.stride, step.extra))

    def call(
        self,
        levels: Sequence[tf.Tensor],
        x: tf.Tensor,
        memory: tf.Tensor | None = None,
        training: bool | None = False,
    ) -> tuple[list[tf.Tensor], tf.Tensor | None]:
        kept = {4: [levels[1]], 8: [levels[2]], 32: [levels[4]]}
        found = []
        for number, step in enumerate(self.steps, start=1):
            x = getattr(self, f"fuse{number}")((x, *kept[step.stride][-2:]), training=training)
            x, memory = dual_path.apply(getattr(self, f"stage{number}"), x, memory, training)
            x, memory = dual_path.apply(getattr(self, f"extra{number}"), x, memory, training)
            kept[step.stride].append(x)
            found.append(x)
        return found, memory

    def plain(self) -> list[keras.layers.Layer]:
        """The layers that the decoder has without what the mask transformer adds."""
        numbers = [number for number, step in enumerate(self.steps, start=1) if step.blocks]
        return [getattr(self, f"{part}{number}") for number in numbers for part in ("fuse", "stage")]


class StackedDecoderResNet(resnet.ResNet):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid, whose `output` is that of a stacked decoder. Options are ResNet's."""

    def __init__(self, *, output_stride: int = 16, name: str = "stacked_decoder_resnet", **options: Any):
        fixed_options.check(name, {"output_stride": output_stride}, FIXED_OPTIONS)
        super().__init__(output_stride=output_stride, name=name, **options)
        self.decoder = StackedDecoder(self.recipe, STEPS, name="decoder")

    def call(  # type: ignore[override]  # never a pass of a recursive feature pyramid
        self, images: tf.Tensor, training: bool | None = False
    ) -> structures.Pyramid:
        pyramid = super().call(images, training=training)
        features, _ = self.decoder(pyramid[:5], pyramid.stage5, training=training)
        return pyramid._replace(output=self.activation(features[-1]))


VARIANTS: dict[str, Callable[..., StackedDecoderResNet]] = {
    "max_deeplab_l_backbone": functools.partial(StackedDecoderResNet, **swidernet.AXIAL, name="max_deeplab_l_backbone"),
}
