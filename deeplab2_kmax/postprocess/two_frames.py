"""Two neighbouring frames as one panoptic map (ViP-DeepLab, 2020, arXiv 2012.05258).

The frames lie side by side. All centres are those of the first one; things of both point to them, so that an object
has one id in both. The second frame is segmented alone too, which finds what is new in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from deeplab2_kmax.postprocess import center_grouping, mask_merging, semantic, stitching
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import CenterMaps, MaskClasses, PairMaps, SemanticMaps

# Of one frame, as center_grouping.build takes them.
Maps = Mapping[str, tf.Tensor]


class TwoFrames:
    """Turns the maps of two frames into panoptic maps whose ids they share. Any batch size; stock operations."""

    def __init__(self, rules: center_grouping.Rules, classes: MaskClasses):
        """`rules.stuff_area` holds for the two frames together, and for one that is segmented alone."""
        self.rules, self.classes = rules, classes

    def __call__(self, current: Maps, following: Maps, next_offsets: tf.Tensor, size: mask_merging.Size) -> PairMaps:
        """All maps, as DeepLab2 evaluates pairs: the following frame also alone, with the ids of its partners.

        Args:
            current: maps of the first frame.
            following: maps of the second one.
            next_offsets: [B, H, W, 2], (y, x) from a pixel of the second frame to its instance's centre in the first.
            size: (H, W) of the frames.
        """
        pair = self.together(current, following, next_offsets, size)
        alone = self.alone(following, size)
        divisor = self.classes.label_divisor
        return pair._replace(
            next_panoptic=stitching.stitch(pair.concat_next_panoptic, alone.panoptic, label_divisor=divisor)
        )

    def together(self, current: Maps, following: Maps, next_offsets: tf.Tensor, size: mask_merging.Size) -> PairMaps:
        """The two frames as one image of twice the width, without `next_panoptic`. Arguments as above."""
        width = size[1]
        pixels = SemanticMaps(
            *(
                tf.concat(both, axis=2)
                for both in zip(semantic.classify(current, size), semantic.classify(following, size))
            )
        )
        heights = tf.cast(current["center_heatmap"], tf.float32)
        to_the_left = tf.stack([0.0, tf.cast(width, tf.float32)])
        found = center_grouping.assemble(
            pixels,
            tf.concat([heights, tf.zeros_like(heights)], axis=2),
            tf.concat([current["offset_map"], next_offsets - to_the_left], axis=2),
            classes=self.classes,
            num_classes=current[semantic.LOGITS].shape[-1],
            rules=self.rules,
        )
        left = {name: values[:, :, :width] for name, values in found._asdict().items()}
        return PairMaps(**left, concat_next_panoptic=found.panoptic[:, :, width:])

    def alone(self, maps: Maps, size: mask_merging.Size) -> CenterMaps:
        """One frame without its neighbour."""
        return center_grouping.assemble(
            semantic.classify(maps, size),
            maps["center_heatmap"],
            maps["offset_map"],
            classes=self.classes,
            num_classes=maps[semantic.LOGITS].shape[-1],
            rules=self.rules,
        )

    def track(
        self, carried: tf.Tensor, current: tf.Tensor, following: tf.Tensor, given: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`stitching.track` of one video's maps [1, H, W]: both frames with its ids, and the new `given`."""
        divisor = self.classes.label_divisor
        tracked = stitching.track(carried[0], current[0], following[0], given, label_divisor=divisor)
        return tracked.current[tf.newaxis], tracked.following[tf.newaxis], tracked.given


def build(options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses) -> TwoFrames:
    """The post-processing that the options ask for."""
    return TwoFrames(center_grouping.rules_of(options), classes)
