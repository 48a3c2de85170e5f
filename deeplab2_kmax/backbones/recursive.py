"""The recursive feature pyramid: a ResNet that sees its image again, told what it found before.

DetectoRS (2020, arXiv 2006.02334), as the authors' code where paper and code differ. The first pass is a network and a
feature pyramid over its levels 2 to 5. Every further pass is a network with weights of its own, of which the first
blocks of stages 3 to 5 add a projection of what the pyramid before says; its pyramid, by the same neck, is blended
with the one before. There are no levels coarser than 5, which only detectors use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import resnet
from deeplab2_kmax.layers import conv, recursive_pyramid

_FED_STAGES = (3, 4, 5)


class RecursivePyramid(keras.Model):
    """Image [B, H, W, 3] in [-1, 1] -> Pyramid whose levels 2 to 5 are those of the blended feature pyramid.

    These have no activation, so `stage{n}` and `res{n}` are the same; level 1 is the last network's.

    Args:
        network: makes a network, its keyword arguments are `options`.
        steps: passes over the image, 2 or more.
        channels: of levels 2 to 5, a multiple of 4.
        shared: all passes use one network (the projections of the feedback too), not one each.
        options: of the networks.

    Raises:
        ValueError: fewer than two steps, or channels that do not split.
    """

    def __init__(
        self,
        network: Callable[..., resnet.ResNet],
        *,
        steps: int = 2,
        channels: int = 256,
        shared: bool = False,
        name: str = "recursive_pyramid",
        **options: Any,
    ):
        super().__init__(name=name)
        if steps < 2:
            raise ValueError(f"A recursive feature pyramid takes 2 steps or more, but got {steps}.")
        self.steps = steps
        self.networks = [network(**options) for _ in range(1 if shared else steps)]
        first = self.networks[0]
        self.neck = recursive_pyramid.FeaturePyramid(channels)
        self.feedback = recursive_pyramid.FeedbackASPP(channels)
        # By pass, from the second on; at the start they add nothing, and every pass is a network as it was trained.
        self.projections = [
            [conv.Conv(first.channels[stage - 1], use_bias=True, kernel_initializer="zeros") for stage in _FED_STAGES]
            for _ in range(1 if shared else steps - 1)
        ]
        self.fusion = recursive_pyramid.GatedFusion()
        self.channels: tuple[int, ...] = (first.channels[0], *[channels] * 4)
        self.strides: tuple[int, ...] = first.strides

    @property
    def pretrained_variables(self) -> list[tf.Variable]:
        """What a classifier's checkpoint has: the first network. The others start as that one."""
        return self.networks[0].variables

    def call(self, images: tf.Tensor, training: bool | None = False) -> structures.Pyramid:
        features = self.networks[0](images, training=training)
        levels = self._levels(features, training)
        for step in range(1, self.steps):
            network = self.networks[step % len(self.networks)]
            projections = self.projections[(step - 1) % len(self.projections)]
            told = [self.feedback(level, training=training) for level in levels[1:]]
            added = {
                stage: project(feedback, training=training)
                for stage, project, feedback in zip(_FED_STAGES, projections, told)
            }
            features = network(images, training=training, added=added)
            new = self._levels(features, training)
            levels = tuple(self.fusion(pair, training=training) for pair in zip(new, levels))
        return structures.Pyramid(features.stage1, *levels, features.res1, *levels, levels[-1])  # type: ignore[call-arg]

    def _levels(self, features: structures.Pyramid, training: bool | None) -> tuple[tf.Tensor, ...]:
        found = (features.res2, features.res3, features.res4, features.res5)
        return self.neck(found, training=training)
