"""Xception as changed for DeepLabv3+ (2018, arXiv 1802.02611), as TensorFlow's public models have it.

Against the paper's text, norm and activation do not follow every depthwise convolution: there is a norm only, except in
the last module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, strides
from deeplab2_kmax.layers import activations, conv
from deeplab2_kmax.layers import norm as norms

# Channels and stride of each module of the entry flow.
ENTRY = ((128, 2), (256, 2), (728, 2))
ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
FIXED_OPTIONS: fixed_options.Allowed = {
    **fixed_options.COMMON,
    **fixed_options.PLAIN,
    "backbone_width_multiplier": (1.0,),
}
INITIALIZER: dict[str, Any] = {"class_name": "TruncatedNormal", "config": {"stddev": 0.09}}


class Module(keras.layers.Layer):
    """Activation before each of three separable convolutions, the last with the stride, plus a shortcut.

    [B, H, W, C] -> the output [B, ceil(H / stride), ceil(W / stride), filters[2]], and that of the second convolution
    [B, H, W, filters[1]]; neither is activated. The shortcut is the input, or with `project` a 1x1 convolution of it.
    """

    def __init__(
        self,
        filters: Sequence[int],
        *,
        stride: int = 1,
        dilation: int = 1,
        project: bool,
        norm: norms.Norm,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        separable = functools.partial(_separable, dilation=dilation, norm=norm)
        self.conv1 = separable(filters[0])
        self.conv2 = separable(filters[1])
        self.conv3 = separable(filters[2], stride=stride)
        self.shortcut = None
        if project:
            self.shortcut = conv.ConvNormAct(filters[2], stride=stride, norm=norm, kernel_initializer=INITIALIZER)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        shortcut = x if self.shortcut is None else self.shortcut(x, training=training)
        x = self.conv1(tf.nn.relu(x), training=training)
        second = self.conv2(tf.nn.relu(x), training=training)
        x = self.conv3(tf.nn.relu(second), training=training)
        return x + shortcut, second


class LastModule(keras.layers.Layer):
    """Three separable convolutions with activations behind both halves: [B, H, W, C] -> [B, H, W, 2048]."""

    def __init__(self, *, dilation: int = 1, norm: norms.Norm, **kwargs: Any):
        super().__init__(**kwargs)
        separable = functools.partial(_separable, dilation=dilation, norm=norm, activation=activations.relu)
        self.conv1 = separable(1536)
        self.conv2 = separable(1536)
        self.conv3 = separable(2048)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        x = self.conv1(x, training=training)
        x = self.conv2(x, training=training)
        return self.conv3(x, training=training)


def _separable(filters: int, **options: Any) -> conv.SeparableConvNormAct:
    return conv.SeparableConvNormAct(
        filters, 3, kernel_initializer=INITIALIZER, depthwise_initializer=INITIALIZER, **options
    )


class Xception(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid, in which `stage{n}` and `res{n}` are the same.

    Level 1 is the stem and level 5 the exit flow, both activated. Levels 2 and 3 are the second separable convolutions
    of the entry flow's modules that end strides 4 and 8, level 4 is the middle flow; as in the public models these
    three are not activated.

    Args:
        entry: channels and stride of each module of the entry flow.
        num_middle: modules of the middle flow.
        output_stride: 4, 8, 16 or 32; modules that would stride further dilate instead.
        norm: factory of the norms; if None, batch norm with momentum 0.9997 and epsilon 1e-3.
        others: options that have one value here, see FIXED_OPTIONS.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        entry: Sequence[tuple[int, int]] = ENTRY,
        num_middle: int = 16,
        output_stride: int = 32,
        norm: norms.Norm | None = None,
        name: str = "xception",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, FIXED_OPTIONS)
        norm = norm or norms.batch_norm(momentum=0.9997, epsilon=1e-3)
        relu = activations.relu
        spec_strides = [2, *(stride for _, stride in entry), *([1] * num_middle), 2, 1]
        plan = strides.dilate(spec_strides, output_stride, name)
        modules: list[dict[str, Any]] = [
            {"stride": stride, "dilation": dilation, "norm": norm} for stride, dilation in plan[1:-1]
        ]
        stem_stride, last_dilation = plan[0][0], plan[-1][1]

        self.conv1 = conv.ConvNormAct(
            32, 3, stride=stem_stride, norm=norm, activation=relu, kernel_initializer=INITIALIZER
        )
        self.conv2 = conv.ConvNormAct(64, 3, norm=norm, activation=relu, kernel_initializer=INITIALIZER)
        self.entry = [Module([filters] * 3, project=True, **options) for (filters, _), options in zip(entry, modules)]
        self.middle = [Module([728] * 3, project=False, **options) for options in modules[len(entry) : -1]]
        self.exit1 = Module([728, 1024, 1024], project=True, **modules[-1])
        self.exit2 = LastModule(dilation=last_dilation, norm=norm)
        # The modules that stride from 4 to 8 and from 8 to 16. Their third convolution does so, behind the second.
        self.feature_modules = tuple(index for index, (_, stride) in enumerate(entry) if stride == 2)[1:]
        self.channels: tuple[int, ...] = (64, *(entry[index][0] for index in self.feature_modules), 728, 2048)
        self.strides: tuple[int, ...] = strides.of_levels(output_stride)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        x = self.conv2(self.conv1(images, training=training), training=training)
        features = [x]
        for index, module in enumerate(self.entry):
            x, second = module(x, training=training)
            if index in self.feature_modules:
                features.append(second)
        for module in self.middle:
            x, _ = module(x, training=training)
        features.append(x)
        x, _ = self.exit1(x, training=training)
        features.append(self.exit2(x, training=training))
        return structures.Pyramid(*features, *features, features[-1])  # type: ignore[call-arg]


VARIANTS: dict[str, Callable[..., Xception]] = {
    "xception_41": functools.partial(Xception, num_middle=8, name="xception_41"),
    "xception_65": functools.partial(Xception, num_middle=16, name="xception_65"),
    "xception_71": functools.partial(Xception, entry=ENTRY_71, num_middle=16, name="xception_71"),
}
