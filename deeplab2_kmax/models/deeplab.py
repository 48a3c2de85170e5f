"""What the models of single pixels share: the way from images to maps, several passes, post-processing.

DeepLabV3 (2017, arXiv 1706.05587), DeepLabV3+ (2018, arXiv 1802.02611), Panoptic-DeepLab (2020, arXiv 1911.10194).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Union

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import drop_path, shapes
from deeplab2_kmax.models import building
from deeplab2_kmax.models import passes as multiple

Size = tuple[Any, Any]
Maps = Mapping[str, tf.Tensor]  # [B, h, w, C] by the names of DeepLabOutput's fields
# (maps, size): heat map and offsets have that size; classes are told by `semantic_probs` where there are such, else by
# `semantic_logits`, on any grid. `offset_grid`, if any, has the offsets before they were resized, in pixels of that
# size.
Postprocess = Callable[[Maps, Size], Union[structures.CenterMaps, structures.PairMaps, structures.SemanticMaps]]

LOGITS, PROBABILITIES = "semantic_logits", "semantic_probs"
HEATMAP, OFFSETS, OFFSET_GRID = "center_heatmap", "offset_map", "offset_grid"


class DeepLab(keras.Model):
    """Images [B, H, W, 3] with values 0..255 -> DeepLabOutput. A model says in `decode` what maps it makes.

    Any H and W will do; sides of the form 32 k + 1 keep features and pixels aligned at the corners.
    """

    channels: ClassVar[int] = 3  # of the images

    def __init__(
        self,
        *,
        backbone: keras.Model,
        passes: Sequence[multiple.Pass] = (multiple.Pass(),),
        postprocess: Postprocess | None = None,
        name: str,
    ):
        """`passes`: the scales and mirrorings that inference averages over."""
        # Pixel values need more than bfloat16's eight bits; the layers inside cast for themselves.
        super().__init__(name=name, autocast=False)
        self.backbone = backbone
        self.passes = tuple(passes)
        self.postprocess = postprocess

    def decode(
        self, features: structures.Pyramid, training: bool | None, pool_scale: float = 1.0
    ) -> dict[str, tf.Tensor]:
        """Maps on a grid of their own, float32; `pool_scale` is that of the images, for windows of a fixed size."""
        raise NotImplementedError(f"{type(self).__name__} does not define decode().")

    def call(
        self, images: tf.Tensor, training: bool | None = False, seed: tf.Tensor | None = None
    ) -> structures.DeepLabOutput:
        """Everything the mode computes: inference adds probabilities, and label maps if there is a `postprocess`.

        `seed`, int32 [2], makes drop path and dropout a function of it.
        """
        height, width = shapes.of(images)[1:3]
        if not training:
            return finish(self.predict(images), (height, width), self.postprocess)
        with drop_path.seeded(seed):
            return _output(_resized(self._network(images, training=True), (height, width)))

    @building.plain_python
    def predict(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """What `finish` takes: maps on the network's own grid, or means over the passes at the images' size."""
        if self.passes == (multiple.Pass(),):
            return self._network(images, training=False)
        return multiple.average(
            lambda scaled, scale: self._network(scaled, training=False, pool_scale=scale),
            images,
            self.passes,
            finish=lambda maps: {**maps, PROBABILITIES: tf.nn.softmax(maps[LOGITS])},
        )

    def build_variables(self) -> None:
        """Creates all variables by a call on one small black image; nothing else changes."""
        if self.built:
            return
        kept, self.postprocess, self.passes = (self.postprocess, self.passes), None, (multiple.Pass(),)
        try:
            self(tf.zeros([1, 65, 65, self.channels]), training=False)
        finally:
            self.postprocess, self.passes = kept

    @building.plain_python
    def _network(self, images: tf.Tensor, training: bool, pool_scale: float = 1.0) -> dict[str, tf.Tensor]:
        features = self.backbone(building.normalize(images), training=training)
        return self.decode(features, training=training, pool_scale=pool_scale)


def finish(maps: Maps, size: Size, postprocess: Postprocess | None = None) -> structures.DeepLabOutput:
    """What a model says in inference of the maps that its `predict` gave for images of `size`."""
    whole = _resized(maps, size)
    output = _output(whole)
    if PROBABILITIES not in whole:
        output = output._replace(semantic_probs=tf.nn.softmax(output.semantic_logits))
    if postprocess is not None:
        # Classes are found some rows at a time, from logits on the network's grid.
        given = {**whole, LOGITS: maps[LOGITS]}
        if OFFSETS in maps and PROBABILITIES not in maps:  # means over passes have no grid but that of pixels
            given[OFFSET_GRID] = multiple.in_pixels(maps[OFFSETS], size)
        output = output._replace(maps=postprocess(given, size))
    return output


def _resized(maps: Maps, size: Size) -> dict[str, tf.Tensor]:
    return {name: multiple.resize_map(name, values, size) for name, values in maps.items()}


def _output(whole: Maps) -> structures.DeepLabOutput:
    named = dict(whole)
    if HEATMAP in named:
        named[HEATMAP] = tf.squeeze(named[HEATMAP], axis=-1)
    return structures.DeepLabOutput(**named)
