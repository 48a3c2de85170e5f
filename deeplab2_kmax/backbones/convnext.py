"""ConvNeXt as pixel encoder (2022, arXiv 2201.03545), without its classification head and the norm before it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options
from deeplab2_kmax.layers import activations, conv, recompute, residual
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms

_EPSILON = 1e-6
_FIRST_SCALE = 1e-6
# A class with its argument, not an instance: one instance would give every variable the same numbers.
_initializer = functools.partial(keras.initializers.TruncatedNormal, stddev=0.02)

FIXED_OPTIONS: fixed_options.Allowed = {**fixed_options.COMMON, **fixed_options.STRIDE_32}


class ConvNeXt(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid, levels 1 and 2 both at stride 4.

    Each stage reads the un-activated end of the one before it; `res` features are activated for decoders alone.

    Args:
        depths: blocks of stages 2 to 5.
        widths: channels of stages 2 to 5; the stem has those of stage 2.
        zero_padding: pads strided convolutions so that sides 32 k + 1 become (side - 1) / stride + 1, as dense
            prediction wants it; False halves exactly, as the classifier does.
        drop_path_keep_prob: keep probability of the last block, falling linearly from 1 at the first.
        recompute_stages: stages, of 1 to 5, that training computes again for their gradients. Stage 1 is the stem.
        norm: not used, all norms are layer norms.
        others: options that have one value here, see FIXED_OPTIONS; the schedule of drop path is linear.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int],
        zero_padding: bool = True,
        drop_path_keep_prob: float = 1.0,
        recompute_stages: Sequence[int] = (),
        norm: norms.Norm | None = None,
        name: str = "convnext",
        **others: Any,
    ):
        del norm
        super().__init__(name=name)
        fixed_options.check(name, others, {**FIXED_OPTIONS, **fixed_options.LINEAR})
        if not 0.0 < drop_path_keep_prob <= 1.0:
            raise ValueError(f"{name}: drop_path_keep_prob lies in (0, 1], but got {drop_path_keep_prob}.")
        last = max(sum(depths) - 1, 1)
        rates = ((1.0 - drop_path_keep_prob) * index / last for index in range(sum(depths)))

        def stage(index: int) -> residual.Stage:
            blocks = [Block(widths[index], drop_path=next(rates)) for _ in range(depths[index])]
            return residual.Stage(blocks, recompute=index + 2 in recompute_stages)

        self.recompute_stages = tuple(recompute_stages)
        self.patchify = Patchify(widths[0], zero_padding=zero_padding)
        self.stage2 = stage(0)
        self.downsample3 = Downsample(widths[1], zero_padding=zero_padding)
        self.stage3 = stage(1)
        self.downsample4 = Downsample(widths[2], zero_padding=zero_padding)
        self.stage4 = stage(2)
        self.downsample5 = Downsample(widths[3], zero_padding=zero_padding)
        self.stage5 = stage(3)
        self.channels: tuple[int, ...] = (widths[0], *widths)
        self.strides: tuple[int, ...] = (4, 4, 8, 16, 32)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        def enter(number: int, layer: keras.layers.Layer, x: tf.Tensor) -> tf.Tensor:
            return recompute.layer(layer, x, enabled=number in self.recompute_stages, training=training)

        stage1 = enter(1, self.patchify, images)
        stage2 = self.stage2(stage1, training=training)
        stage3 = self.stage3(enter(3, self.downsample3, stage2), training=training)
        stage4 = self.stage4(enter(4, self.downsample4, stage3), training=training)
        stage5 = self.stage5(enter(5, self.downsample5, stage4), training=training)
        features = (stage1, stage2, stage3, stage4, stage5)
        activated = [activations.gelu(feature) for feature in features]
        return structures.Pyramid(*features, *activated, activated[-1])  # type: ignore[call-arg]


class Patchify(keras.layers.Layer):
    """The stem: 4x4 convolution with stride 4, then layer norm."""

    def __init__(self, channels: int, *, zero_padding: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = _strided(channels, 4, "symmetric" if zero_padding else "valid")
        self.norm = norms.LayerNorm(epsilon=_EPSILON)

    def call(self, images: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        del training  # the same in training and inference
        return self.norm(self.conv(images))


class Downsample(keras.layers.Layer):
    """Between stages: layer norm, then 2x2 convolution with stride 2.

    The zero row and column come before the norm, so the convolution sees them as the norm's beta.
    """

    def __init__(self, channels: int, *, zero_padding: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.zero_padding = zero_padding
        self.norm = norms.LayerNorm(epsilon=_EPSILON)
        self.conv = _strided(channels, 2, "valid")

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        del training  # the same in training and inference
        if self.zero_padding:
            x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
        return self.conv(self.norm(x))


class Block(keras.layers.Layer):
    """Depthwise 7x7, layer norm, dense to four times the channels, GELU, dense, layer scale; added to its input."""

    def __init__(self, channels: int, *, drop_path: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.depthwise = conv.DepthwiseConv(7, use_bias=True, depthwise_initializer=_initializer())
        self.norm = norms.LayerNorm(epsilon=_EPSILON)
        self.pointwise1 = conv.Dense(4 * channels, kernel_initializer=_initializer())
        self.pointwise2 = conv.Dense(channels, kernel_initializer=_initializer())
        self.drop_path = drop_paths.DropPath(drop_path)

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = self.pointwise2.filters
        if tf.TensorShape(input_shape)[-1] != channels:
            raise ValueError(f"A block of {channels} channels cannot add to its input of {input_shape[-1]} channels.")
        conv.build_child(self.pointwise1, [None, channels])
        conv.build_child(self.pointwise2, [None, 4 * channels])
        self.layer_scale = self.add_weight(
            "layer_scale",
            shape=[channels],
            initializer=keras.initializers.Constant(_FIRST_SCALE),
            dtype="float32",
            experimental_autocast=False,
        )
        self.built = True

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        y = self.norm(self.depthwise(x, training=training))
        y = conv.dense(y, self.pointwise1.kernel, self.pointwise1.bias, activations.gelu)
        # The layer scale multiplies the small operands.
        kernel, bias = self.pointwise2.kernel * self.layer_scale, self.pointwise2.bias * self.layer_scale
        return x + self.drop_path(conv.dense(y, kernel, bias, activations.identity), training=training)


def _strided(channels: int, stride: int, padding: conv.Padding) -> conv.Conv:
    return conv.Conv(
        channels, stride, stride=stride, padding=padding, use_bias=True, kernel_initializer=_initializer(), name="conv"
    )


VARIANTS: dict[str, Callable[..., ConvNeXt]] = {
    name: functools.partial(ConvNeXt, depths=depths, widths=widths, name=name)
    for name, depths, widths in (
        ("convnext_tiny", (3, 3, 9, 3), (96, 192, 384, 768)),
        ("convnext_small", (3, 3, 27, 3), (96, 192, 384, 768)),
        ("convnext_base", (3, 3, 27, 3), (128, 256, 512, 1024)),
        ("convnext_large", (3, 3, 27, 3), (192, 384, 768, 1536)),
        ("convnext_xlarge", (3, 3, 27, 3), (256, 512, 1024, 2048)),
    )
}
