"""EfficientNet-Lite: a small classifier for phones, as backbone (EfficientNet, 2019, arXiv 1905.11946).

The Lite nets (2020, TensorFlow model zoo) leave out squeeze-and-excite and use relu6 for swish. They were trained on
(x - 127) / 128 of values 0..255 and on TensorFlow's `SAME` padding. The first is brought about at the input; the second
is what the convolutions here do when the sides are multiples of 32 plus 1, while for even sides they sample one pixel
further to the upper left, as everywhere in this library. Drop path grows linearly over the blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options
from deeplab2_kmax.layers import conv, inverted_residual, residual
from deeplab2_kmax.layers import drop_path as drop_paths
from deeplab2_kmax.layers import norm as norms

FIXED_OPTIONS: fixed_options.Allowed = {
    **fixed_options.COMMON,
    **fixed_options.STRIDE_32,
    **fixed_options.LINEAR,
    "recompute_stages": ([],),
}
_STEM_CHANNELS = 32


class Row(NamedTuple):
    """Blocks of equal width, one after the other. The first one strides."""

    expansion: int
    kernel_size: int
    stride: int
    channels: int
    num_blocks: int


# Lite0, by stages: stage n ends where the stride grows beyond 2^n.
LITE0: tuple[tuple[Row, ...], ...] = (
    (Row(1, 3, 1, 16, 1),),
    (Row(6, 3, 2, 24, 2),),
    (Row(6, 5, 2, 40, 2),),
    (Row(6, 3, 2, 80, 3), Row(6, 5, 1, 112, 3)),
    (Row(6, 5, 2, 192, 4), Row(6, 3, 1, 320, 1)),
)


class EfficientNetLite(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid. `stage{n}` is linear, `res{n}` is its relu6.

    Args:
        stages: rows of blocks of stages 1 to 5.
        drop_path_keep_prob: keep probability of the residual branches, falling linearly from 1 at the first block
            towards this value.
        norm: factory of the norms, `layers.norm.batch_norm()` if None.
        others: options that have one value here, see FIXED_OPTIONS.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        stages: tuple[tuple[Row, ...], ...] = LITE0,
        drop_path_keep_prob: float = 1.0,
        norm: norms.Norm | None = None,
        name: str = "efficientnet_lite",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, FIXED_OPTIONS)
        if not 0.0 < drop_path_keep_prob <= 1.0:
            raise ValueError(f"{name}: drop_path_keep_prob lies in (0, 1], but got {drop_path_keep_prob}.")
        norm = norm or norms.batch_norm()
        num_blocks = sum(row.num_blocks for rows in stages for row in rows)
        num_built, channels = 0, _STEM_CHANNELS

        def stage(rows: tuple[Row, ...]) -> residual.Stage:
            nonlocal num_built, channels
            blocks = []
            for row in rows:
                for index in range(row.num_blocks):
                    stride = row.stride if index == 0 else 1
                    block = MobileBlock(
                        row.channels,
                        row.kernel_size,
                        expanded=channels * row.expansion if row.expansion > 1 else None,
                        stride=stride,
                        has_shortcut=stride == 1 and channels == row.channels,
                        drop_path=(1.0 - drop_path_keep_prob) * num_built / num_blocks,
                        norm=norm,
                        activation=tf.nn.relu6,
                    )
                    blocks.append(block)
                    num_built, channels = num_built + 1, row.channels
            return residual.Stage(blocks)

        self.stem = conv.ConvNormAct(_STEM_CHANNELS, 3, stride=2, norm=norm, activation=tf.nn.relu6)
        self.stage1 = stage(stages[0])
        self.stage2 = stage(stages[1])
        self.stage3 = stage(stages[2])
        self.stage4 = stage(stages[3])
        self.stage5 = stage(stages[4])

        self.channels: tuple[int, ...] = tuple(rows[-1].channels for rows in stages)
        self.strides: tuple[int, ...] = (2, 4, 8, 16, 32)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        # From x / 127.5 - 1 to (x - 127) / 128.
        x = self.stem(images * (127.5 / 128.0) + 0.5 / 128.0, training=training)
        features = []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4, self.stage5):
            x = stage(x, training=training)
            features.append(x)
        activated = [tf.nn.relu6(feature) for feature in features]
        return structures.Pyramid(*features, *activated, activated[-1])  # type: ignore[call-arg]


class MobileBlock(inverted_residual.InvertedResidual):
    """An inverted residual block of which training may drop the branch: [B, H, W, C] -> [B, H', W', filters]."""

    def __init__(self, filters: int, kernel_size: int, *, has_shortcut: bool, drop_path: float = 0.0, **kwargs: Any):
        super().__init__(filters, kernel_size, **kwargs)
        self.has_shortcut = has_shortcut
        self.drop_path = drop_paths.DropPath(drop_path)

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        y, _ = super().call(x, training=training)
        return x + self.drop_path(y, training=training) if self.has_shortcut else y


VARIANTS: dict[str, Callable[..., keras.Model]] = {
    "efficientnet_lite0": functools.partial(EfficientNetLite, stages=LITE0, name="efficientnet_lite0"),
}
