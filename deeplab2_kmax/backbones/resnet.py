"""ResNet as pixel encoder (2015, arXiv 1512.03385), with axial attention from a stride on (2020, arXiv 2003.07853).

Differences from the papers, all DeepLab2's: activation at the start of a block, no max pooling (the first block of
stage 2 strides instead), strides in the 3x3 convolution, atrous convolution below output stride 32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from deeplab2_kmax import registry, structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options
from deeplab2_kmax.layers import activations, axial_block, residual, stems
from deeplab2_kmax.layers import norm as norms

Backbone = TypeVar("Backbone", bound=keras.Model)

_STEMS: dict[str, Callable[..., keras.layers.Layer]] = {
    "plain": stems.plain,
    "inception": functools.partial(stems.InceptionStem, name="stem"),
}


class ResNet(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid.

    Args:
        stem: "plain" (7x7 convolution) or "inception" (three 3x3 ones).
        num_blocks: blocks of stages 2 to 5, before `backbone_layer_multiplier`.
        activation: name or function, used everywhere.
        axial_beyond_stride: blocks of at least this input stride (at output stride 32) use axial attention; 0: none.
        output_stride: 4, 8, 16 or 32; stages that would stride further dilate instead.
        drop_path_keep_prob: keep probability of residual branches, from input stride `drop_path_beyond_stride` on.
        drop_path_schedule: "constant", or "linear" from 1 at the stem to `drop_path_keep_prob` at the end.
        norm: factory of the norms, `layers.norm.batch_norm()` if None.
        others: options of other families, at the value that changes nothing.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        stem: str = "plain",
        num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
        activation: str | activations.Activation = "relu",
        axial_beyond_stride: int = 0,
        num_heads: int = 8,
        output_stride: int = 32,
        stem_width_multiplier: float = 1.0,
        backbone_width_multiplier: float = 1.0,
        backbone_layer_multiplier: float = 1.0,
        use_squeeze_and_excite: bool = False,
        use_sac_beyond_stride: int = -1,
        drop_path_keep_prob: float = 1.0,
        drop_path_schedule: str = "constant",
        drop_path_beyond_stride: int = 16,
        pretrained_weights: str = "",
        norm: norms.Norm | None = None,
        name: str = "resnet",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, fixed_options.COMMON)
        if output_stride not in (4, 8, 16, 32):
            raise ValueError(f"{name}: output_stride is 4, 8, 16 or 32, but got {output_stride}.")
        if use_sac_beyond_stride > 0:
            raise ValueError(f"{name} has no switchable atrous convolution: leave use_sac_beyond_stride at -1.")
        if pretrained_weights:
            raise ValueError(
                f"{name} loads no pretrained_weights while it is built: put the checkpoint in initial_checkpoint."
            )
        norm = norm or norms.batch_norm()
        counts = [int(count * backbone_layer_multiplier) for count in num_blocks]
        if min(counts) < 1:
            raise ValueError(
                f"{name}: backbone_layer_multiplier {backbone_layer_multiplier} leaves a stage without blocks."
            )
        act = activations.get(activation)
        keep = functools.partial(
            _keep_probability, final=drop_path_keep_prob, schedule=drop_path_schedule, beyond=drop_path_beyond_stride
        )
        self.activation = act
        self.stem = registry.lookup(_STEMS, stem, "stem")(stem_width_multiplier, norm=norm, activation=act)

        def stage(number: int) -> residual.Stage:
            first_stride = 2 ** (number - 1)
            filters = int(round(first_stride * 32 * backbone_width_multiplier))
            blocks: list[residual.ResidualBlock] = []
            for index in range(counts[number - 2]):
                input_stride = first_stride if index == 0 else 2 * first_stride
                shared: dict[str, Any] = {
                    "stride": 2 if index == 0 and first_stride < output_stride else 1,
                    "norm": norm,
                    "activation": act,
                    "drop_path": 1.0 - keep(input_stride),
                    "squeeze_and_excite": use_squeeze_and_excite,
                }
                if input_stride >= axial_beyond_stride > 0:
                    blocks.append(axial_block.AxialBlock(filters, num_heads=num_heads, **shared))
                else:
                    dilation = max(1, input_stride // output_stride)
                    blocks.append(residual.Bottleneck(filters, dilation=dilation, **shared))
            return residual.Stage(blocks)

        self.stage2 = stage(2)
        self.stage3 = stage(3)
        self.stage4 = stage(4)
        self.stage5 = stage(5)

        base = int(128 * stem_width_multiplier) if stem == "inception" else int(round(64 * stem_width_multiplier))
        wide = (4 * int(round(2 ** (n - 1) * 32 * backbone_width_multiplier)) for n in range(2, 6))
        self.channels: tuple[int, ...] = (base, *wide)
        self.strides: tuple[int, ...] = tuple(min(2**n, output_stride) for n in range(1, 6))

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        features = [self.stem(images, training=training)]
        for stage in (self.stage2, self.stage3, self.stage4, self.stage5):
            features.append(stage(features[-1], training=training))
        activated = [self.activation(feature) for feature in features]
        return structures.Pyramid(*features, *activated, activated[-1])  # type: ignore[call-arg]


def _keep_probability(input_stride: int, *, final: float, schedule: str, beyond: int) -> float:
    if not 0.0 < final <= 1.0:
        raise ValueError(f"drop_path_keep_prob lies in (0, 1], but got {final}.")
    if schedule not in ("constant", "linear"):
        raise ValueError(f"drop_path_schedule is 'constant' or 'linear', but got {schedule!r}.")
    if input_stride < beyond:
        return 1.0
    if schedule == "constant":
        return final
    return 1.0 - (1.0 - final) * (math.log2(input_stride) - 1.0) / 4.0


def kmax(backbone: Callable[..., Backbone], name: str) -> Callable[..., Backbone]:
    """A backbone as kMaX-DeepLab uses it: output stride 32 and drop path that grows linearly."""

    def build(*, output_stride: int = 32, drop_path_schedule: str = "linear", **options: Any) -> Backbone:
        # DeepLab2's kMaX encoders grow drop path linearly whatever the config says.
        del drop_path_schedule
        if output_stride != 32:
            raise ValueError(f"{name} has output_stride 32, but got {output_stride}.")
        return backbone(output_stride=32, drop_path_schedule="linear", **options)

    return build


VARIANTS: dict[str, Callable[..., ResNet]] = {
    "resnet50": functools.partial(ResNet, name="resnet50"),
    "resnet50_beta": functools.partial(ResNet, stem="inception", name="resnet50_beta"),
    "resnet101": functools.partial(ResNet, num_blocks=(3, 4, 23, 3), name="resnet101"),
    "resnet101_beta": functools.partial(ResNet, stem="inception", num_blocks=(3, 4, 23, 3), name="resnet101_beta"),
}
VARIANTS["kmax_resnet50"] = kmax(VARIANTS["resnet50"], "kmax_resnet50")
