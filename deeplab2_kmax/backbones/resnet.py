"""ResNet as pixel encoder (2015, arXiv 1512.03385), with axial attention from a stride on (2020, arXiv 2003.07853).

Differences from the papers, all DeepLab2's: activation at the start of a block, no max pooling (the first block of
stage 2 strides instead), strides in the 3x3 convolution, atrous convolution below output stride 32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, recipe, strides
from deeplab2_kmax.layers import activations, recompute, residual, stems
from deeplab2_kmax.layers import norm as norms

Backbone = TypeVar("Backbone", bound=keras.Model)

FIXED_OPTIONS: fixed_options.Allowed = fixed_options.COMMON

_STEMS: dict[str, Callable[..., Any]] = {
    "plain": functools.partial(stems.ConvStem, name="stem"),
    "inception": functools.partial(stems.InceptionStem, name="stem"),
    "small": functools.partial(stems.ConvStem, kernel_size=3, name="stem"),
    "none": lambda *arguments, **options: None,
}


class ResNet(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid.

    Networks that are `wide` or have no stem have a stage 1 of three blocks; level 1 is its end, else that of the stem.

    Args:
        stem: "plain" (7x7 convolution), "inception" (three 3x3 ones), "small" (one 3x3) or "none".
        wide: wide residual blocks in place of bottlenecks.
        num_blocks: blocks of stages 2 to 5, before `backbone_layer_multiplier`.
        wider_last_block: one block more in stage 5, with twice its channels.
        activation: name or function, used everywhere.
        axial_beyond_stride: blocks of at least this input stride (at output stride 32) use axial attention; 0: none.
        num_heads, expansion, key_expansion, value_expansion: of axial blocks, see `recipe.Recipe`.
        output_stride: 4, 8, 16 or 32; stages that would stride further dilate instead.
        stem_width_multiplier: factor on the channels of the stem, and of stage 1 of wide networks.
        backbone_width_multiplier: factor on the channels of the other stages.
        backbone_layer_multiplier: factor on the blocks of stages 2 to 5, rounded down.
        use_squeeze_and_excite: in every block.
        use_sac_beyond_stride: stages of at least this stride (at output stride 32) use switchable atrous convolution;
            0 or -1: none.
        drop_path_keep_prob: keep probability of residual branches, from input stride `drop_path_beyond_stride` on.
        drop_path_schedule: "constant", or "linear" from 1 at the stem to `drop_path_keep_prob` at the end.
        recompute_stages: stages, of 1 to 5, that training computes again for their gradients. Stage 1 has the stem.
        norm: factory of the norms, `layers.norm.batch_norm()` if None.
        others: options of other families, at the value that changes nothing.

    Raises:
        ValueError: an option has a value that this network does not have.
    """

    def __init__(
        self,
        *,
        stem: str = "plain",
        wide: bool = False,
        num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        wider_last_block: bool = False,
        activation: str | activations.Activation = "relu",
        axial_beyond_stride: int = 0,
        num_heads: int = 8,
        expansion: float = 2.0,
        key_expansion: float = 1.0,
        value_expansion: float = 2.0,
        output_stride: int = 32,
        stem_width_multiplier: float = 1.0,
        backbone_width_multiplier: float = 1.0,
        backbone_layer_multiplier: float = 1.0,
        use_squeeze_and_excite: bool = False,
        use_sac_beyond_stride: int = -1,
        drop_path_keep_prob: float = 1.0,
        drop_path_schedule: str = "constant",
        drop_path_beyond_stride: int = 16,
        recompute_stages: Sequence[int] = (),
        norm: norms.Norm | None = None,
        name: str = "resnet",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, FIXED_OPTIONS)
        counts = [int(count * backbone_layer_multiplier) for count in num_blocks]
        if min(counts) < 1:
            raise ValueError(
                f"{name}: backbone_layer_multiplier {backbone_layer_multiplier} leaves a stage without blocks."
            )
        norm, act = norm or norms.batch_norm(), activations.get(activation)
        self.recipe = recipe.Recipe(
            norm=norm,
            activation=act,
            wide=wide,
            output_stride=output_stride,
            width_multiplier=backbone_width_multiplier,
            axial_beyond_stride=axial_beyond_stride,
            num_heads=num_heads,
            expansion=expansion,
            key_expansion=key_expansion,
            value_expansion=value_expansion,
            sac_beyond_stride=use_sac_beyond_stride,
            squeeze_and_excite=use_squeeze_and_excite,
            drop_path_keep_prob=drop_path_keep_prob,
            drop_path_schedule=drop_path_schedule,
            drop_path_beyond_stride=drop_path_beyond_stride,
            recompute_stages=tuple(recompute_stages),
        )
        if stem == "none" and stem_width_multiplier != 1.0:
            raise ValueError(f"{name} has no stem: stem_width_multiplier must be 1.0, but got {stem_width_multiplier}.")
        self.activation = act
        self.stem = registry.lookup(_STEMS, stem, "stem")(stem_width_multiplier, norm=norm, activation=act)
        self.counts, self.wider_last_block = tuple(counts), wider_last_block
        stages = self._later_stages(first_input_stride=2)
        if wide:
            stages[1] = self.recipe.blocks(1, 2, 1, 3, filters=int(round(32 * stem_width_multiplier)))
        elif self.stem is None:
            stages[1] = self.recipe.blocks(1, 1, 2, 3)
        if use_sac_beyond_stride > 0 and not any(
            recipe.is_switchable(block) for blocks in stages.values() for block in blocks
        ):
            raise ValueError(
                f"{name} has no 3x3 convolutions in stages of stride {use_sac_beyond_stride} or more: leave "
                "use_sac_beyond_stride at -1."
            )
        self.stage1 = residual.Stage(stages[1]) if 1 in stages else None
        self.stage2 = residual.Stage(stages[2])
        self.stage3 = residual.Stage(stages[3])
        self.stage4 = residual.Stage(stages[4])
        self.stage5 = residual.Stage(stages[5])
        first = stages[1][-1].channels if 1 in stages else self.stem.channels
        self.channels: tuple[int, ...] = (first, *(stages[number][-1].channels for number in range(2, 6)))
        self.strides: tuple[int, ...] = strides.of_levels(output_stride)

    def further_stages(self) -> tuple[residual.Stage, ...]:
        """New stages 2 to 5 with the options of this network's, of which the first takes features of stride 4."""
        return tuple(residual.Stage(blocks) for blocks in self._later_stages(first_input_stride=4).values())

    def _later_stages(self, *, first_input_stride: int) -> dict[int, list[residual.ResidualBlock]]:
        """The blocks of stages 2 to 5, which end at strides 4 to 32."""
        stages = {}
        for number, count in enumerate(self.counts, start=2):
            input_stride = first_input_stride if number == 2 else 2 ** (number - 1)
            stages[number] = self.recipe.blocks(number, input_stride, 2**number // input_stride, count)
        if self.wider_last_block:
            stages[5] += self.recipe.blocks(5, 32, 1, 1, filters=2 * self.recipe.filters(32))
        return stages

    def call(
        self, images: tf.Tensor, training: bool | None = False, added: Mapping[int, tf.Tensor] | None = None
    ) -> structures.Pyramid:
        """`added`, by number of stage 2 to 5: joins the sum that the first block gives, of the same shape."""
        features = [self.first_level(images, training=training)]
        for number, stage in enumerate((self.stage2, self.stage3, self.stage4, self.stage5), start=2):
            features.append(stage(features[-1], training=training, added=(added or {}).get(number)))
        activated = [self.activation(feature) for feature in features]
        return structures.Pyramid(*features, *activated, activated[-1])  # type: ignore[call-arg]

    def first_level(self, images: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        """Images -> the un-activated feature of level 1."""
        x = images
        if self.stem is not None:
            enabled = 1 in self.recipe.recompute_stages
            x = recompute.layer(self.stem, x, enabled=enabled, training=training)
        return x if self.stage1 is None else self.stage1(x, training=training)


def kmax(backbone: Callable[..., Backbone], name: str) -> Callable[..., Backbone]:
    """A backbone as kMaX-DeepLab uses it: output stride 32 and drop path that grows linearly, by default none."""

    def build(
        *,
        output_stride: int = 32,
        drop_path_keep_prob: float = 1.0,
        drop_path_schedule: str = "linear",
        name: str = name,
        **options: Any,
    ) -> Backbone:
        # DeepLab2's kMaX encoders grow drop path linearly whatever the config says.
        del drop_path_schedule
        fixed_options.check(name, {"output_stride": output_stride}, fixed_options.with_kmax({}))
        return backbone(
            output_stride=32,
            drop_path_keep_prob=drop_path_keep_prob,
            drop_path_schedule="linear",
            name=name,
            **options,
        )

    return build


_axial = functools.partial(ResNet, stem="inception", axial_beyond_stride=16)

VARIANTS: dict[str, Callable[..., ResNet]] = {
    "resnet50": functools.partial(ResNet, name="resnet50"),
    "resnet50_beta": functools.partial(ResNet, stem="inception", name="resnet50_beta"),
    "resnet101": functools.partial(ResNet, num_blocks=(3, 4, 23, 3), name="resnet101"),
    "resnet101_beta": functools.partial(ResNet, stem="inception", num_blocks=(3, 4, 23, 3), name="resnet101_beta"),
    "max_deeplab_s_backbone": functools.partial(_axial, name="max_deeplab_s_backbone"),
}

# For kMaX-DeepLab alone: the network that its paper calls MaX-S, with GELU.
KMAX_VARIANTS: dict[str, Callable[..., ResNet]] = {
    "kmax_axial_resnet50": kmax(functools.partial(_axial, activation="gelu"), "kmax_axial_resnet50"),
}
