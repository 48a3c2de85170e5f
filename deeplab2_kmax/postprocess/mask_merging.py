"""Mask slots and their classes -> one panoptic map.

MaX-DeepLab: End-to-End Panoptic Segmentation with Mask Transformers (2021, arXiv 2012.00759) decides per pixel;
k-means Mask Transformer (2022, arXiv 2207.04044) pastes whole masks in the order of their confidence.

Works on blocks of rows, so that the upsampled logits of a whole image never exist at once.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Union

import tensorflow as tf

from deeplab2_kmax import labels
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, PanopticMaps

Size = tuple[Union[int, tf.Tensor], Union[int, tf.Tensor]]

# Upsampled logits held at a time, in numbers: a few megabytes, which processor caches still hold.
BLOCK_NUMBERS = 700_000
# Blocks in flight at a time (in a graph), because reductions over the slots use one core each.
PARALLEL_BLOCKS = 2
# What the logits of slots below the class threshold are replaced by, pixel-wise.
_REJECTED_LOGIT = -99999.0


class AreaLimits(NamedTuple):
    """Segments with fewer pixels become void."""

    thing: int = 0  # per instance
    stuff: int = 0  # per class


def build(
    options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses
) -> Callable[[MaskPrediction, Size], PanopticMaps]:
    """The post-processing that `options` ask for: a function of a prediction and the image size (H, W).

    Raises:
        ValueError: `transformer_post_processing` names no algorithm.
    """
    limits = AreaLimits(thing=options.thing_area_limit, stuff=options.stuff_area_limit)
    mask_options = options.maskwise_postprocessing

    def by_pixels(mask_logits: tf.Tensor, class_logits: tf.Tensor, size: Size) -> PanopticMaps:
        return pixelwise(
            mask_logits,
            class_logits,
            size,
            classes=classes,
            class_threshold=options.transformer_class_confidence_threshold,
            pixel_threshold=options.pixel_confidence_threshold,
            limits=limits,
        )

    def by_masks(mask_logits: tf.Tensor, class_logits: tf.Tensor, size: Size) -> PanopticMaps:
        return maskwise(
            mask_logits,
            class_logits,
            size,
            classes=classes,
            thing_threshold=mask_options.transformer_class_confidence_threshold_thing,
            stuff_threshold=mask_options.transformer_class_confidence_threshold_stuff,
            pixel_threshold=options.pixel_confidence_threshold,
            overlap_threshold=mask_options.overlapping_threshold,
            class_weight=mask_options.reorder_class_weight,
            mask_weight=mask_options.reorder_mask_weight,
            limits=limits,
        )

    algorithms = {"pixelwise": by_pixels, "maskwise": by_masks}
    name = options.transformer_post_processing
    if name not in algorithms:
        raise ValueError(
            f"evaluator_options.transformer_post_processing is {name!r}; expected one of {', '.join(algorithms)}."
        )
    algorithm = algorithms[name]

    def postprocess(prediction: MaskPrediction, size: Size) -> PanopticMaps:
        mask_logits = tf.cast(prediction.mask_logits, tf.float32)
        class_logits = tf.cast(prediction.class_logits, tf.float32)
        if mask_logits.shape[0] == 1:
            maps = PanopticMaps(*(m[tf.newaxis] for m in algorithm(mask_logits[0], class_logits[0], size)))
        else:
            maps = tf.map_fn(
                lambda image: algorithm(image[0], image[1], size),
                (mask_logits, class_logits),
                fn_output_signature=PanopticMaps(tf.int32, tf.int32, tf.int32, tf.float32, tf.float32),
            )
        shape = [mask_logits.shape[0], *(tf.get_static_value(side) for side in size)]
        return PanopticMaps(*(tf.ensure_shape(m, shape) for m in maps))

    return postprocess


def pixelwise(
    mask_logits: tf.Tensor,
    class_logits: tf.Tensor,
    size: Size,
    *,
    classes: MaskClasses,
    class_threshold: float,
    pixel_threshold: float,
    limits: AreaLimits,
) -> PanopticMaps:
    """Every pixel joins its best slot among those with a confident class (MaX-DeepLab).

    mask_logits [h, w, N], class_logits [N, K + 1], size (H, W) -> maps [H, W].
    """
    slots = _Slots.of(class_logits)
    keep = slots.confidence >= class_threshold  # [N]

    def block(logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        kept_logits = tf.where(keep, logits, _REJECTED_LOGIT)
        slot = tf.argmax(kept_logits, axis=-1, output_type=tf.int32)
        score = tf.gather(tf.nn.softmax(kept_logits), slot, batch_dims=1)
        unbeaten = tf.gather(logits, best, batch_dims=1) == tf.gather(kept_logits, slot, batch_dims=1)
        return best, slot, score, tf.logical_and(score > pixel_threshold, unbeaten)

    best, slot, scores, confident = by_row_blocks(
        block, mask_logits, size, dtypes=(tf.int32, tf.int32, tf.float32, tf.bool)
    )
    any_kept = tf.reduce_any(keep)
    owner = tf.where(tf.logical_and(confident, any_kept), slot, slots.number)
    return PanopticMaps(
        panoptic=_merge(owner, slots, classes, limits),
        semantic=tf.gather(slots.class_ids(classes), best),
        instance=tf.where(any_kept, slot + 1, 1),
        semantic_scores=tf.where(any_kept, tf.gather(slots.confidence, slot), 0.0),
        instance_scores=tf.where(any_kept, scores, 0.0),
    )


def maskwise(
    mask_logits: tf.Tensor,
    class_logits: tf.Tensor,
    size: Size,
    *,
    classes: MaskClasses,
    thing_threshold: float,
    stuff_threshold: float,
    pixel_threshold: float,
    overlap_threshold: float,
    class_weight: float,
    mask_weight: float,
    limits: AreaLimits,
) -> PanopticMaps:
    """Binary masks are pasted in the order of their confidence, if enough of them is still visible (kMaX-DeepLab).

    mask_logits [h, w, N], class_logits [N, K + 1], size (H, W) -> maps [H, W]. Instance ids are places in that order.
    """
    slots = _Slots.of(class_logits)
    any_confident = tf.reduce_any(slots.confidence >= min(thing_threshold, stuff_threshold))
    threshold = tf.where(slots.is_thing(classes), thing_threshold, stuff_threshold)
    candidate = slots.confidence >= threshold  # [N]
    quality = slots.confidence**class_weight * _mask_confidence(mask_logits, pixel_threshold) ** mask_weight
    order = tf.argsort(quality, direction="DESCENDING", stable=True)  # the slot at each place
    # Slots that can never be pasted have no place.
    place = tf.where(candidate, tf.math.invert_permutation(order), slots.number)  # [N]

    # Probabilities over the slots sum to 1, so only so many of them can be above the threshold at one pixel.
    most_masks = int(mask_logits.shape[-1])
    if pixel_threshold > 0:
        most_masks = min(most_masks, max(1, math.ceil(1 / pixel_threshold) - 1))

    def block(logits: tf.Tensor) -> tuple[tf.Tensor, ...]:
        probabilities = tf.nn.softmax(logits)
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        score = tf.gather(probabilities, best, batch_dims=1)
        covering = tf.where(score > pixel_threshold, tf.gather(place, best), slots.number)[:, tf.newaxis]
        if most_masks > 1:
            # The best slot leaves enough for another one at few pixels; the margin is for rounding.
            shared = tf.where(tf.logical_and(score > pixel_threshold, score < 1.001 - pixel_threshold))
            rest, found, several = tf.gather(probabilities, shared[:, 0]), tf.gather(best, shared[:, 0]), []
            for _ in range(most_masks):
                above = tf.gather(rest, found, batch_dims=1) > pixel_threshold
                several.append(tf.where(above, tf.gather(place, found), slots.number))
                rest = tf.where(tf.range(slots.number) == found[:, tf.newaxis], 0.0, rest)
                found = tf.argmax(rest, axis=-1, output_type=tf.int32)
            covering = tf.pad(covering, [[0, 0], [0, most_masks - 1]], constant_values=slots.number)
            covering = tf.tensor_scatter_nd_update(covering, shared, tf.sort(tf.stack(several, axis=-1), axis=-1))
        return best, score, tf.cast(covering, tf.int16)

    best, scores, covering = by_row_blocks(block, mask_logits, size, dtypes=(tf.int32, tf.float32, tf.int16))
    # [H, W, most_masks]: the places of the masks that cover a pixel, ascending, then N.
    covering = tf.cast(covering, tf.int32)
    ordered = slots.reordered(order)
    accepted = _accept(
        tf.reshape(covering, [-1, most_masks]), tf.gather(candidate, order), overlap_threshold=overlap_threshold
    )
    owner = tf.fill(tf.shape(best), slots.number)
    for i in reversed(range(most_masks)):
        owner = tf.where(tf.gather(_with_none(accepted, False), covering[..., i]), covering[..., i], owner)
    return PanopticMaps(
        panoptic=_merge(owner, ordered, classes, limits),
        semantic=tf.gather(slots.class_ids(classes), best),
        instance=tf.where(owner < slots.number, owner + 1, 1),
        semantic_scores=tf.gather(_with_none(ordered.confidence, 0.0), owner),
        instance_scores=tf.where(any_confident, scores, 0.0),
    )


class _Slots(NamedTuple):
    """What the class head says about the N mask slots of an image."""

    outputs: tf.Tensor  # [N] int32, the most probable class, as an output of the class head
    confidence: tf.Tensor  # [N] float32, its probability; void takes its share but is never chosen

    @classmethod
    def of(cls, class_logits: tf.Tensor) -> _Slots:
        probabilities = tf.nn.softmax(class_logits)[:, :-1]
        return cls(tf.argmax(probabilities, axis=-1, output_type=tf.int32), tf.reduce_max(probabilities, axis=-1))

    @property
    def number(self) -> int | tf.Tensor:
        return self.outputs.shape[0] or tf.shape(self.outputs)[0]

    def is_thing(self, classes: MaskClasses) -> tf.Tensor:
        return self.outputs < len(classes.thing_ids)

    def class_ids(self, classes: MaskClasses) -> tf.Tensor:
        return tf.gather(tf.constant(classes.class_ids, tf.int32), self.outputs)

    def reordered(self, order: tf.Tensor) -> _Slots:
        return _Slots(tf.gather(self.outputs, order), tf.gather(self.confidence, order))


def _mask_confidence(mask_logits: tf.Tensor, pixel_threshold: float) -> tf.Tensor:
    """The mean probability of each mask over its confident pixels, 0 where it has none: [h, w, N] -> [N]."""
    probabilities = tf.nn.softmax(mask_logits)
    confident = tf.cast(probabilities > pixel_threshold, tf.float32)
    total = tf.reduce_sum(probabilities * confident, axis=(0, 1))
    return tf.math.divide_no_nan(total, tf.reduce_sum(confident, axis=(0, 1)))


def _accept(covering: tf.Tensor, candidate: tf.Tensor, *, overlap_threshold: float) -> tf.Tensor:
    """Which masks are pasted, if each may only take pixels that no mask pasted before it holds.

    covering [P, M] holds the places of the masks over each pixel, ascending, then N; candidate [N] -> bool [N].
    """
    none = candidate.shape[0] or tf.shape(candidate)[0]
    depth = covering.shape[1]

    def count(places: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
        # Counts are exact in float64 for any image.
        ones = tf.ones_like(places, tf.float64) if weights is None else weights
        return tf.math.unsorted_segment_sum(ones, places, none + 1)[:-1]

    first = count(covering[:, 0])
    # A pixel under one mask is free for it; only where masks overlap does it matter which came before.
    several = tf.boolean_mask(covering, covering[:, 1] < none) if depth > 1 else covering[:0]
    area = first + sum(count(several[:, i]) for i in range(1, depth))
    enough = tf.cast(overlap_threshold * tf.cast(area, tf.float32), tf.float64)

    def accept(accepted: tf.Tensor) -> tf.Tensor:
        taken = tf.cast(_with_none(accepted, False), tf.float64)
        free = 1.0 - tf.gather(taken, several[:, 0])
        new = first
        for i in range(1, depth):
            new += count(several[:, i], free)
            free *= 1.0 - tf.gather(taken, several[:, i])
        return tf.logical_and(candidate, new > enough)

    # A mask's fate depends only on those before it: after k rounds the first k are settled, and a round without a
    # change is the result. Mostly two or three rounds.
    start = tf.logical_and(candidate, area > 0)
    return tf.while_loop(
        lambda before, now: tf.reduce_any(before != now),
        lambda before, now: (now, accept(now)),
        (tf.zeros_like(start), start if depth == 1 else accept(start)),
    )[1]


def _merge(owner: tf.Tensor, slots: _Slots, classes: MaskClasses, limits: AreaLimits) -> tf.Tensor:
    """The panoptic map [H, W] of pixels owned by slots: owner [H, W] holds a number below N, or N for void."""
    area = tf.math.bincount(owner, minlength=slots.number + 1, maxlength=slots.number + 1)[:-1]
    thing = slots.is_thing(classes)
    stuff_area = tf.where(thing, 0, area)
    class_area = tf.math.unsorted_segment_sum(stuff_area, slots.outputs, len(classes.class_ids))
    large_enough = tf.where(thing, area >= limits.thing, tf.gather(class_area, slots.outputs) >= limits.stuff)
    void = labels.pack(classes.ignore_label, 0, classes.label_divisor)
    ids = labels.pack(slots.class_ids(classes), tf.where(thing, tf.range(slots.number) + 1, 0), classes.label_divisor)
    return tf.gather(_with_none(tf.where(large_enough, ids, void), void), owner)


def _with_none(table: tf.Tensor, value: float) -> tf.Tensor:
    """A table over slots with one more entry, for pixels without a slot."""
    return tf.concat([table, tf.cast([value], table.dtype)], axis=0)


def by_row_blocks(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    mask_logits: tf.Tensor,
    size: Size,
    *,
    dtypes: tuple[tf.DType, ...],
) -> tuple[tf.Tensor, ...]:
    """Upsamples logits [h, w, N] to (H, W) and maps them by `function`, some rows at a time.

    `function` takes the logits [P, N] of P pixels and returns tensors [P, ...]; the result has shapes [H, W, ...].
    Upsampling is bilinear with aligned corners.
    """
    height, width = size
    low_height, low_width, num_slots = tf.unstack(tf.shape(mask_logits))
    rows = tf.maximum(1, BLOCK_NUMBERS // (width * num_slots))
    # As the resize kernel does it, in float32.
    step = tf.cast(low_height - 1, tf.float32) / tf.cast(tf.maximum(height - 1, 1), tf.float32)
    # The most low rows that a block lies between.
    low_rows = tf.minimum(tf.cast(tf.math.ceil(tf.cast(rows, tf.float32) * step), tf.int32) + 2, low_height)
    flat = tf.reshape(mask_logits, [low_height, low_width * num_slots])

    def block(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # The last block repeats the last row, to be as large as the others.
        position = tf.cast(tf.minimum(start + tf.range(rows), height - 1), tf.float32) * step
        above = tf.minimum(tf.cast(position, tf.int32), low_height - 1)
        below = tf.minimum(above + 1, low_height - 1)
        part = (position - tf.cast(above, tf.float32))[:, tf.newaxis]
        first = tf.minimum(above[0], low_height - low_rows)
        weights = (1.0 - part) * tf.one_hot(above - first, low_rows) + part * tf.one_hot(below - first, low_rows)
        lines = tf.matmul(weights, flat[first : first + low_rows])
        lines = tf.reshape(lines, [1, rows, low_width, num_slots])
        logits = tf.raw_ops.ResizeBilinear(images=lines, size=[rows, width], align_corners=True)
        return function(tf.reshape(logits, [rows * width, num_slots]))

    starts = tf.range(0, height, rows)
    parallel = 1 if tf.executing_eagerly() else PARALLEL_BLOCKS
    blocks = tf.map_fn(block, starts, fn_output_signature=dtypes, parallel_iterations=parallel)
    return tuple(
        tf.reshape(b, tf.concat([[tf.size(starts) * rows, width], tf.shape(b)[2:]], axis=0))[:height] for b in blocks
    )
