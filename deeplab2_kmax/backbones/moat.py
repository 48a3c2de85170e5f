"""MOAT and tiny-MOAT as pixel encoders: convolution and attention alternate (2022, arXiv 2210.01820).

DeepLab2 (reference) computes the position biases once, from their random start, and keeps them; here, as the paper
means it, they are read at every call, so they learn, load, and fit every size. The batch norms are those of `norm`,
where DeepLab2 always takes momentum 0.99 and epsilon 1e-3, the defaults.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options
from deeplab2_kmax.layers import activations, conv, moat_block, recompute, residual
from deeplab2_kmax.layers import norm as norms

# Sides of the maps of stages 4 and 5 in pre-training at 224 x 224, for which the position biases are stored.
POSITION_SPANS = (14, 7)

FIXED_OPTIONS: fixed_options.Allowed = {
    "squeeze_and_excite_gate": ("sigmoid",),
    "reduce_last_block_filters": (False,),
    **fixed_options.STRIDE_32,
}


class Moat(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid.

    Stages 2 and 3 are mobile convolutions, stages 4 and 5 have attention. Each stage reads the un-activated end of the
    one before it; `res` features are activated (GELU) for decoders alone.

    Args:
        stem: channels of the two convolutions of the stem.
        depths: blocks of stages 2 to 5.
        widths: channels of stages 2 to 5, in stages 4 and 5 multiples of 32, the channels of an attention head.
        position_embedding: whether attention has a bias by relative position.
        window_size: sides of the attention windows of stages 4 and 5, 0 for the whole map; empty: both the whole map.
        global_attention_at_end_of_moat_stage: the last block of these stages attends to the whole map.
        pool_size: of the shortcuts that stride, 3 for dense prediction, 2 for the classifier.
        drop_path_keep_prob: what the keep probability of the blocks, 1 at the first, would reach behind the last one.
        recompute_stages: stages, of 1 to 5, that training computes again for their gradients. Stage 1 is the stem.
        norm: factory of the batch norms, `layers.norm.batch_norm()` if None.
        others: options that have one value here, see FIXED_OPTIONS; the schedule of drop path is linear.

    Raises:
        ValueError: an option has a value that this family does not have.
    """

    def __init__(
        self,
        *,
        stem: tuple[int, int],
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int],
        position_embedding: bool = True,
        window_size: Sequence[int] = (),
        global_attention_at_end_of_moat_stage: bool = False,
        pool_size: int = 3,
        drop_path_keep_prob: float = 1.0,
        recompute_stages: Sequence[int] = (),
        norm: norms.Norm | None = None,
        name: str = "moat",
        **others: Any,
    ):
        super().__init__(name=name)
        fixed_options.check(name, others, {**FIXED_OPTIONS, **fixed_options.LINEAR})
        windows = tuple(window_size) or (0, 0)
        if len(windows) != 2 or min(windows) < 0:
            raise ValueError(
                f"{name}: window_size has two entries, the sides of the windows in stages 4 and 5 (0: the whole map), "
                f"but got {list(window_size)}."
            )
        if pool_size not in (2, 3):
            raise ValueError(f"{name}: pool_size is 2 or 3, but got {pool_size}.")
        if not 0.0 < drop_path_keep_prob <= 1.0:
            raise ValueError(f"{name}: drop_path_keep_prob lies in (0, 1], but got {drop_path_keep_prob}.")
        norm = norm or norms.batch_norm()
        rates = ((1.0 - drop_path_keep_prob) * index / sum(depths) for index in range(sum(depths)))

        def shared(block: int) -> dict[str, Any]:
            stride = 2 if block == 0 else 1
            return {"stride": stride, "pool_size": pool_size, "drop_path": next(rates), "norm": norm}

        def convolutional(stage: int) -> residual.Stage:
            blocks = [moat_block.MBConv(widths[stage], **shared(block)) for block in range(depths[stage])]
            return residual.Stage(blocks, recompute=stage + 2 in recompute_stages)

        def attentive(stage: int) -> residual.Stage:
            blocks = []
            for block in range(depths[stage]):
                is_global = global_attention_at_end_of_moat_stage and block == depths[stage] - 1
                blocks.append(
                    moat_block.MoatBlock(
                        widths[stage],
                        window=0 if is_global else windows[stage - 2],
                        position_span=POSITION_SPANS[stage - 2] if position_embedding else 0,
                        **shared(block),
                    )
                )
            return residual.Stage(blocks, recompute=stage + 2 in recompute_stages)

        self.recompute_stem = 1 in recompute_stages
        self.stem = Stem(*stem, norm=norm)
        self.stage2 = convolutional(0)
        self.stage3 = convolutional(1)
        self.stage4 = attentive(2)
        self.stage5 = attentive(3)
        self.channels: tuple[int, ...] = (stem[1], *widths)
        self.strides: tuple[int, ...] = (2, 4, 8, 16, 32)

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        features = [recompute.layer(self.stem, images, enabled=self.recompute_stem, training=training)]
        for stage in (self.stage2, self.stage3, self.stage4, self.stage5):
            features.append(stage(features[-1], training=training))
        activated = [activations.gelu(feature) for feature in features]
        return structures.Pyramid(*features, *activated, activated[-1])  # type: ignore[call-arg]


class Stem(keras.layers.Layer):
    """3x3 convolution with stride 2, batch norm, GELU, 3x3 convolution; both convolutions have a bias."""

    def __init__(self, first: int, second: int, *, norm: norms.Norm, **kwargs: Any):
        super().__init__(**kwargs)
        biased: dict[str, Any] = {
            "padding": "same",
            "use_bias": True,
            "kernel_initializer": moat_block.INITIALIZER,
        }
        self.conv1 = conv.Conv(first, 3, stride=2, **biased)
        self.norm1 = norm()
        self.conv2 = conv.Conv(second, 3, **biased)

    def call(self, images: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        return self.conv2(activations.gelu(self.norm1(self.conv1(images), training=training)))


# Name, name with the pre-training, stem, blocks and channels of stages 2 to 5, published survival rate.
_SIZES = (
    ("moat0", "moat0_pretrain_224{}_1k", 64, (2, 3, 7, 2), 96, 0.8),
    ("moat1", "moat1_pretrain_224{}_1k", 64, (2, 6, 14, 2), 96, 0.7),
    ("moat2", "moat2_finetune_384{}_22k", 128, (2, 6, 14, 2), 128, 0.7),
    ("moat3", "moat3_finetune_512{}_22k", 160, (2, 12, 28, 2), 160, 0.4),
    ("moat4", "moat4_finetune_512{}_22k", 256, (2, 12, 28, 2), 256, 0.3),
    ("tiny_moat0", "tiny_moat0_pretrain_256{}_1k", 32, (2, 3, 7, 2), 32, 1.0),
    ("tiny_moat1", "tiny_moat1_pretrain_256{}_1k", 40, (2, 3, 7, 2), 40, 1.0),
    ("tiny_moat2", "tiny_moat2_pretrain_256{}_1k", 56, (2, 3, 7, 2), 56, 1.0),
    ("tiny_moat3", "tiny_moat3_pretrain_256{}_1k", 80, (2, 3, 7, 2), 80, 0.9),
)

VARIANTS: dict[str, Callable[..., Moat]] = {
    name: functools.partial(
        Moat,
        stem=(stem, stem),
        depths=depths,
        widths=(width, 2 * width, 4 * width, 8 * width),
        position_embedding=not mark,
        drop_path_keep_prob=survival,
        name=name,
    )
    for short, long, stem, depths, width, survival in _SIZES
    for mark in ("", "_no_pe")
    for name in (f"{short}{mark}", long.format(mark))
}
