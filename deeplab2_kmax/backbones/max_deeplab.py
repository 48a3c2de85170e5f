"""The dual-path networks of MaX-DeepLab (2021, arXiv 2012.00759): a ResNet and a memory that attend to each other.

The blocks at the coarsest strides are followed by dual-path layers, in which pixels and memory read each other; further
blocks refine the last feature, and a decoder brings it back to stride 4, in the large network with two hour-glasses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, resnet, swidernet
from deeplab2_kmax.layers import conv, dual_path, fuse, recompute, residual

Blocks = Sequence[residual.ResidualBlock]


class Step(NamedTuple):
    """A step of the decoder: what came before, fused at a stride, and blocks on it."""

    stride: int  # nominal: 32 is that of stage 5 at every output stride
    blocks: int = 0  # of the plain backbone
    extra: int = 0  # of the mask transformer alone


STEPS_S = (Step(8, extra=1), Step(4, extra=1))
STEPS_L = (
    *(Step(8, blocks=1), Step(4, blocks=1), Step(8, blocks=1), Step(32, blocks=1, extra=3)),
    *(Step(8, extra=3), Step(4, extra=3), Step(8, extra=3), Step(32, extra=3), Step(8, extra=3), Step(4, extra=3)),
)


class MaXDeepLab(resnet.ResNet):
    """Image [B, H, W, 3] in [-1, 1] -> MemoryPyramid.

    Args:
        transformers: stages with dual-path layers, and the layers' widths as multiples of `transformer_filters`.
        extra_blocks: blocks behind stage 5.
        steps: of the decoder.
        semantic_step: the step, from 1, that `feature_semantic` comes from; 0: stage 5.
        num_mask_slots: vectors of the memory.
        memory_channels: of each of them.
        transformer_filters: base filters f of a dual-path layer: bottleneck 2f, keys f, values 2f.
        feed_forward_channels: hidden channels of the memory's feed-forward networks.
        others: as for ResNet. `recompute_stages` holds for the dual-path layers too, and for the steps of the decoder
            at a stage's stride.

    Raises:
        ValueError: an option has a value that this network does not have.
    """

    def __init__(
        self,
        *,
        transformers: Mapping[int, int],
        extra_blocks: int = 0,
        steps: Sequence[Step],
        semantic_step: int = 0,
        num_mask_slots: int = 128,
        memory_channels: int = 256,
        transformer_filters: int = 128,
        feed_forward_channels: int = 2048,
        num_heads: int = 8,
        name: str = "max_deeplab",
        **others: Any,
    ):
        super().__init__(num_heads=num_heads, name=name, **others)
        strided = [step.stride > before.stride for before, step in zip((Step(32), *steps), steps)]
        if any(strided) and self.recipe.output_stride != 16:
            raise ValueError(f"{name}: output_stride must be 16, but got {self.recipe.output_stride}.")
        self.semantic_step = semantic_step
        recipe = self.recipe

        def stage(number: int, blocks: Blocks) -> keras.layers.Layer | None:
            if not blocks:
                return None
            if number not in transformers:
                return residual.Stage(blocks)
            layers = [
                dual_path.DualPathTransformer(
                    block.channels,
                    memory_channels,
                    filters=transformers[number] * transformer_filters,
                    num_heads=num_heads,
                    hidden=feed_forward_channels,
                    norm=recipe.norm,
                    activation=recipe.activation,
                    drop_path=block.drop_path.rate,
                )
                for block in blocks
            ]
            return DualPathStage(blocks, layers, recompute=number in recipe.recompute_stages)

        def further(stride: int, count: int) -> keras.layers.Layer | None:
            number = int(math.log2(stride))
            return stage(number, recipe.blocks(number, stride, 1, count) if count else ())

        for number in transformers:
            setattr(self, f"stage{number}", stage(number, _blocks(getattr(self, f"stage{number}"))))
        self.memory = Memory(num_mask_slots, memory_channels)
        self.stage5_extra = further(32, extra_blocks)
        self.decoder = Decoder(
            steps,
            fuses=[
                fuse.StackedFuse(
                    4 * recipe.filters(step.stride),
                    strided=halves,
                    norm=recipe.norm,
                    activation=recipe.activation,
                )
                for step, halves in zip(steps, strided)
            ],
            stages=[further(step.stride, step.blocks) for step in steps],
            extras=[further(step.stride, step.extra) for step in steps],
        )
        project = functools.partial(conv.DenseNormAct, memory_channels, norm=recipe.norm, activation=recipe.activation)
        self.class_projection = project(name="class_projection")
        self.mask_projection = project(name="mask_projection")

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.MemoryPyramid:
        x = self.stem(images, training=training)
        if self.stage1 is not None:
            x = self.stage1(x, training=training)
        memory = self.memory(x)
        levels = [x]
        for stage in (self.stage2, self.stage3, self.stage4, self.stage5):
            x, memory = _apply(stage, x, memory, training)
            levels.append(x)
        x, memory = _apply(self.stage5_extra, x, memory, training)
        steps, memory = self.decoder(x, levels, memory, training=training)

        activated = [self.activation(level) for level in levels]
        panoptic = self.activation(steps[-1])
        semantic = self.activation(steps[self.semantic_step - 1]) if self.semantic_step else activated[-1]
        return structures.MemoryPyramid(
            *levels,
            *activated,
            output=panoptic,
            feature_semantic=semantic,
            feature_panoptic=panoptic,
            class_features=self.class_projection(memory, training=training),
            mask_features=self.mask_projection(memory, training=training),
        )  # type: ignore[call-arg]

    @property
    def pretrained_variables(self) -> list[tf.Variable]:
        """The trainable variables of the plain backbone, which training starts from a classifier.

        They have the backbone's learning rate; the memory, its layers and the blocks that come with it do not.
        """
        plain = [self.stem, self.stage1, self.stage2, self.stage3, self.stage4, self.stage5, *self.decoder.plain()]
        parts = [part for layer in plain for part in (_blocks(layer) if isinstance(layer, DualPathStage) else [layer])]
        return [variable for part in parts if part is not None for variable in part.trainable_variables]


class Memory(keras.layers.Layer):
    """The learned start of the memory, one copy per image: pixels [B, H, W, C] -> [B, N, D]."""

    def __init__(self, num_slots: int, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_slots = num_slots
        self.channels = channels

    def build(self, input_shape: tf.TensorShape) -> None:
        self.features = self.add_weight(
            "features",
            shape=[1, self.num_slots, self.channels],
            initializer=keras.initializers.TruncatedNormal(stddev=1.0),
            dtype="float32",
            experimental_autocast=False,
        )
        self.built = True

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        return tf.tile(tf.cast(self.features, pixels.dtype), [tf.shape(pixels)[0], 1, 1])


class DualPathStage(keras.layers.Layer):
    """Blocks, as in `residual.Stage`, each followed by a dual-path layer.

    Un-activated pixels [B, h, w, C] and memory [B, N, D] -> both, updated. With `recompute` training keeps the inputs of the dual-path layers alone; blocks decide for themselves.
    """

    def __init__(
        self,
        blocks: Blocks,
        transformers: Sequence[dual_path.DualPathTransformer],
        *,
        recompute: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_blocks = len(blocks)
        self.recompute = recompute
        for number, (block, transformer) in enumerate(zip(blocks, transformers), start=1):
            setattr(self, f"block{number}", block)
            setattr(self, f"transformer{number}", transformer)

    def call(self, x: tf.Tensor, memory: tf.Tensor, training: bool | None = False) -> tuple[tf.Tensor, tf.Tensor]:
        for number in range(1, self.num_blocks + 1):
            x = getattr(self, f"block{number}")(x, training=training)
            transformer = getattr(self, f"transformer{number}")
            if training and self.recompute:
                x, memory = recompute.call(functools.partial(transformer, training=True), x, memory)
            else:
                x, memory = transformer(x, memory, training=training)
        return x, memory


class Decoder(keras.layers.Layer):
    """Brings the last feature to the strides of the steps: un-activated features of all steps, and the memory.

    A step fuses the current feature with the last two that were kept for its stride, and keeps its own.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        fuses: Sequence[fuse.StackedFuse],
        stages: Sequence[keras.layers.Layer | None],
        extras: Sequence[keras.layers.Layer | None],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.steps = tuple(steps)
        for number, (fused, stage, extra) in enumerate(zip(fuses, stages, extras), start=1):
            setattr(self, f"fuse{number}", fused)
            setattr(self, f"stage{number}", stage)
            setattr(self, f"extra{number}", extra)

    def call(
        self, x: tf.Tensor, levels: Sequence[tf.Tensor], memory: tf.Tensor, training: bool | None = False
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        kept = {4: [levels[1]], 8: [levels[2]], 32: [levels[4]]}
        found = []
        for number, step in enumerate(self.steps, start=1):
            x = getattr(self, f"fuse{number}")((x, *kept[step.stride][-2:]), training=training)
            x, memory = _apply(getattr(self, f"stage{number}"), x, memory, training)
            x, memory = _apply(getattr(self, f"extra{number}"), x, memory, training)
            kept[step.stride].append(x)
            found.append(x)
        return found, memory

    def plain(self) -> list[keras.layers.Layer]:
        """The layers that the plain backbone has too."""
        numbers = [number for number, step in enumerate(self.steps, start=1) if step.blocks]
        return [getattr(self, f"{part}{number}") for number in numbers for part in ("fuse", "stage")]


def _apply(
    stage: keras.layers.Layer | None, x: tf.Tensor, memory: tf.Tensor, training: bool | None
) -> tuple[tf.Tensor, tf.Tensor]:
    if stage is None:
        return x, memory
    if isinstance(stage, DualPathStage):
        return stage(x, memory, training=training)
    return stage(x, training=training), memory


def _blocks(stage: residual.Stage | DualPathStage) -> list[residual.ResidualBlock]:
    return [getattr(stage, f"block{number}") for number in range(1, stage.num_blocks + 1)]


VARIANTS: dict[str, Callable[..., MaXDeepLab]] = {
    "max_deeplab_s": functools.partial(
        MaXDeepLab,
        stem="inception",
        axial_beyond_stride=16,
        transformers={5: 1},
        extra_blocks=1,
        steps=STEPS_S,
        name="max_deeplab_s",
    ),
    "max_deeplab_l": functools.partial(
        MaXDeepLab,
        **swidernet.AXIAL,
        transformers={4: 1, 5: 2},
        steps=STEPS_L,
        semantic_step=6,
        memory_channels=512,
        output_stride=16,
        name="max_deeplab_l",
    ),
}

FIXED_OPTIONS: dict[str, fixed_options.Allowed] = {
    "max_deeplab_s": resnet.FIXED_OPTIONS,
    "max_deeplab_l": {**resnet.FIXED_OPTIONS, "output_stride": (16,)},
}
