"""The dual-path networks of MaX-DeepLab (2021, arXiv 2012.00759): a ResNet and a memory that attend to each other.

The blocks at the coarsest strides are followed by dual-path layers, in which pixels and memory read each other; further
blocks refine the last feature, and a decoder brings it back to stride 4, in the large network with two hour-glasses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import fixed_options, resnet, stacked_decoder, swidernet
from deeplab2_kmax.layers import conv, dual_path, residual

Blocks = Sequence[residual.ResidualBlock]

# What the mask transformer adds is `extra`: of the large network's decoder the first four steps are the plain one's.
STEPS_S = (stacked_decoder.Step(8, extra=1), stacked_decoder.Step(4, extra=1))
STEPS_L = (
    *stacked_decoder.STEPS[:3],
    stacked_decoder.STEPS[3]._replace(extra=3),
    *(stacked_decoder.Step(stride, extra=3) for stride in (8, 4, 8, 32, 8, 4)),
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
        steps: Sequence[stacked_decoder.Step],
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
        self.semantic_step = semantic_step
        recipe = self.recipe

        def stage(number: int, blocks: Blocks) -> keras.layers.Layer:
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
            return dual_path.DualPathStage(blocks, layers, recompute=number in recipe.recompute_stages)

        for number in transformers:
            setattr(self, f"stage{number}", stage(number, _blocks(getattr(self, f"stage{number}"))))
        self.memory = Memory(num_mask_slots, memory_channels)
        self.stage5_extra = stage(5, recipe.blocks(5, 32, 1, extra_blocks)) if extra_blocks else None
        self.decoder = stacked_decoder.StackedDecoder(recipe, steps, make_stage=stage)
        project = functools.partial(conv.DenseNormAct, memory_channels, norm=recipe.norm, activation=recipe.activation)
        self.class_projection = project(name="class_projection")
        self.mask_projection = project(name="mask_projection")

    def call(  # type: ignore[override]
        self, images: tf.Tensor, training: bool | None = False
    ) -> structures.MemoryPyramid:
        x = self.stem(images, training=training)
        if self.stage1 is not None:
            x = self.stage1(x, training=training)
        memory = self.memory(x)
        levels = [x]
        for stage in (self.stage2, self.stage3, self.stage4, self.stage5):
            x, memory = dual_path.apply(stage, x, memory, training)
            levels.append(x)
        x, memory = dual_path.apply(self.stage5_extra, x, memory, training)
        steps, memory = self.decoder(levels, x, memory, training=training)

        activated = [self.activation(level) for level in levels]
        panoptic = self.activation(steps[-1])
        semantic = self.activation(steps[self.semantic_step - 1]) if self.semantic_step else activated[-1]
        features = [panoptic, semantic, panoptic]  # the last of the network, and what the heads read
        memories = [
            projection(memory, training=training) for projection in (self.class_projection, self.mask_projection)
        ]
        return structures.MemoryPyramid(*levels, *activated, *features, *memories)  # type: ignore[call-arg]

    @property
    def pretrained_variables(self) -> list[tf.Variable]:
        """The trainable variables of the plain backbone, which training starts from a classifier.

        They have the backbone's learning rate; the memory, its layers and the blocks that come with it do not.
        """
        plain = [self.stem, self.stage1, self.stage2, self.stage3, self.stage4, self.stage5, *self.decoder.plain()]
        parts = [
            part
            for layer in plain
            for part in (_blocks(layer) if isinstance(layer, dual_path.DualPathStage) else [layer])
        ]
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


def _blocks(stage: residual.Stage | dual_path.DualPathStage) -> list[residual.ResidualBlock]:
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
