"""Classes, centres of instances and offsets to them -> one panoptic map (Panoptic-DeepLab, 2020, arXiv 1911.10194).

Every pixel of a thing joins the centre nearest to where its offset points; the class of an instance is that of most of
its pixels (DeeperLab, 2019, arXiv 1902.05093). Differences from DeepLab2: exactly the K highest centres are kept, where
it loses some; distances are computed for some pixels of things at a time, where it holds those of all pixels at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import labels
from deeplab2_kmax.postprocess import mask_merging, semantic
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import CenterMaps, MaskClasses, SemanticMaps

# Distances held at a time, in numbers: a few megabytes, which processor caches still hold.
BLOCK_NUMBERS = 500_000
# Cells along each side of the plane, at most: for each of them the centres are found that may be near.
MOST_CELLS = 48
# Blocks in flight at a time (in a graph), because the steps of a block use one core each.
PARALLEL_BLOCKS = 2
_NOWHERE = 1e15  # its square is still a number
_FARTHEST = 1e6  # pixels from the origin to a vote; those beyond are nonsense


class Rules(NamedTuple):
    """How instances are found and merged with stuff."""

    center_threshold: float = 0.1  # centres are higher
    nms_kernel: int = 3  # side of the square of which a centre is the highest pixel
    max_centers: int = 400  # the highest ones; 0 or less: all
    stuff_area: int = 0  # a stuff class with fewer pixels becomes void
    # As DeepLab2's compiled kernel: where there is no centre, all thing pixels are one instance, not void; and stuff of
    # exactly `stuff_area` pixels becomes void.
    as_compiled_kernel: bool = False


def build(
    options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses
) -> Callable[[Mapping[str, tf.Tensor], mask_merging.Size], CenterMaps]:
    """The post-processing that `options` ask for: a function of maps and the image size (H, W).

    Of the maps `center_heatmap` [B, H, W, 1] and `offset_map` [B, H, W, 2] have that size; classes are those of
    `semantic.classify`.
    """
    rules = rules_of(options)

    def postprocess(maps: Mapping[str, tf.Tensor], size: mask_merging.Size) -> CenterMaps:
        return assemble(
            semantic.classify(maps, size),
            maps["center_heatmap"],
            maps["offset_map"],
            classes=classes,
            num_classes=maps[semantic.LOGITS].shape[-1],
            rules=rules,
        )

    return postprocess


def rules_of(options: evaluator_pb2.EvaluatorOptions) -> Rules:
    """The rules that the options ask for."""
    return Rules(
        center_threshold=options.center_score_threshold,
        nms_kernel=options.nms_kernel,
        max_centers=options.keep_k_centers,
        stuff_area=options.stuff_area_limit,
        as_compiled_kernel=options.merge_as_compiled_kernel,
    )


def assemble(
    pixels: SemanticMaps,
    heatmap: tf.Tensor,
    offsets: tf.Tensor,
    *,
    classes: MaskClasses,
    num_classes: int,
    rules: Rules,
) -> CenterMaps:
    """All label maps of classes [B, H, W], a heat map [B, H, W, 1] of centres and offsets [B, H, W, 2] to them."""
    heights, offsets = tf.cast(heatmap, tf.float32), tf.cast(offsets, tf.float32)

    def image(one: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        found, offset, of_class = one
        instance, scores = group(found, offset, are_things(of_class, classes, num_classes), rules=rules)
        panoptic = merge(of_class, instance, classes=classes, num_classes=num_classes, rules=rules)
        return panoptic, instance, scores

    centers = find_centers(heights, rules)[..., 0]
    given = (centers, offsets, pixels.semantic)
    if centers.shape[0] == 1:
        panoptic, instance, scores = (m[tf.newaxis] for m in image(tuple(m[0] for m in given)))
    else:
        panoptic, instance, scores = tf.map_fn(image, given, fn_output_signature=(tf.int32, tf.int32, tf.float32))
    made = CenterMaps(panoptic, pixels.semantic, instance, pixels.semantic_scores, scores, centers)
    return CenterMaps(*(tf.ensure_shape(m, pixels.semantic.shape) for m in made))


def find_centers(heatmap: tf.Tensor, rules: Rules) -> tf.Tensor:
    """The heat map [B, H, W, 1] where it is above the threshold and highest in its neighbourhood, else 0."""
    high = tf.where(heatmap > rules.center_threshold, heatmap, 0.0)
    # The highest of a square is the highest of the rows' highest. Padding of even squares is behind, as in DeepLab2.
    shape = tf.shape(high)
    # The columns as channels, along which the operation is fast.
    columns = tf.reshape(high, [shape[0], shape[1], 1, shape[2]])
    columns = tf.nn.max_pool2d(columns, [rules.nms_kernel, 1], 1, "SAME")
    highest = tf.nn.max_pool2d(tf.reshape(columns, shape), [1, rules.nms_kernel], 1, "SAME")
    return tf.where(high == highest, high, 0.0)


def group(centers: tf.Tensor, offsets: tf.Tensor, is_thing: tf.Tensor, *, rules: Rules) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives every pixel of a thing to the centre nearest to where it points.

    Args:
        centers: [H, W] heights of the centres, 0 elsewhere.
        offsets: [H, W, 2], (y, x).
        is_thing: [H, W] bool.
        rules: how many centres there are at most.

    Returns:
        [H, W] int32, number of the centre in row-major order, from 1, and [H, W] float32, its height; 0 off things and
        where there is no centre.
    """
    shape = tf.shape(centers)
    points = tf.cast(tf.where(centers > 0.0), tf.int32)
    heights = tf.gather_nd(centers, points)
    if rules.max_centers > 0:
        # Of equal heights the earlier one. Then back to row-major order.
        kept = tf.sort(tf.math.top_k(heights, tf.minimum(rules.max_centers, tf.size(heights))).indices)
        points, heights = tf.gather(points, kept), tf.gather(heights, kept)

    def assign() -> tuple[tf.Tensor, tf.Tensor]:
        # Flat places: with one index in the place of two everything is faster.
        pixels = tf.cast(tf.where(tf.reshape(is_thing, [-1]))[:, 0], tf.int32)  # [P]
        grid = tf.cast(tf.stack([pixels // shape[1], pixels % shape[1]], axis=1), tf.float32)
        votes = grid + tf.gather(tf.reshape(offsets, [-1, 2]), pixels)
        votes = tf.clip_by_value(tf.where(tf.math.is_nan(votes), 0.0, votes), -_FARTHEST, _FARTHEST)
        nearest = _nearest(votes, tf.cast(points, tf.float32))
        # Sums of one number each: scattering them takes longer.
        instance = tf.reshape(tf.math.unsorted_segment_sum(nearest + 1, pixels, tf.size(is_thing)), shape)
        return instance, tf.gather(tf.concat([[0.0], heights], axis=0), instance)

    def none() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.zeros(shape, tf.int32), tf.zeros(shape, tf.float32)

    return tf.cond((tf.size(heights) > 0) & tf.reduce_any(is_thing), assign, none)


def merge(
    of_class: tf.Tensor, instance: tf.Tensor, *, classes: MaskClasses, num_classes: int, rules: Rules
) -> tf.Tensor:
    """The panoptic map [H, W] of classes [H, W] and numbered instances [H, W], 0 where there is none.

    Instances of a class are numbered from 1 in the order of their first pixels.
    """
    void = labels.pack(classes.ignore_label, 0, classes.label_divisor)
    thing = are_things(of_class, classes, num_classes)
    numbers = tf.where(thing, instance, 0)
    if rules.as_compiled_kernel:
        numbers = tf.where(thing, instance + tf.cast(tf.reduce_all(instance == 0), tf.int32), 0)
    flat, flat_classes = tf.reshape(numbers, [-1]), tf.reshape(of_class, [-1])

    # Row 0 of the tables is of pixels without an instance.
    count = tf.reduce_max(flat) + 1
    votes = tf.math.bincount(flat * num_classes + flat_classes, minlength=count * num_classes)
    votes = tf.reshape(votes, [count, num_classes])
    own_class = tf.argmax(votes, axis=1, output_type=tf.int32)
    # An instance's first pixel begins a run of equal ones, and there are few of these.
    runs = tf.concat([[0], tf.cast(tf.where(flat[1:] != flat[:-1])[:, 0], tf.int32) + 1], axis=0)
    first = tf.math.unsorted_segment_min(runs, tf.gather(flat, runs), count)
    order = tf.argsort(first)
    rank = rank_in_class(tf.gather(own_class, order), tf.gather(tf.range(count) > 0, order), num_classes)
    rank = tf.gather(rank, tf.math.invert_permutation(order))
    ids = labels.pack(own_class, rank, classes.label_divisor)
    # A class has only so many ids.
    ids = tf.where((tf.range(count) > 0) & (rank < classes.label_divisor), ids, void)

    areas = tf.math.bincount(flat_classes, minlength=num_classes)
    large = areas > rules.stuff_area if rules.as_compiled_kernel and rules.stuff_area > 0 else areas >= rules.stuff_area
    stuff = large & ~tf.constant([number in classes.thing_ids for number in range(num_classes)])
    stuff_ids = tf.where(stuff, labels.pack(tf.range(num_classes), 0, classes.label_divisor), void)
    table = tf.concat([stuff_ids, ids[1:]], axis=0)
    return tf.gather(table, tf.where(numbers > 0, numbers + (num_classes - 1), of_class))


def _nearest(votes: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    """The centre [K, 2] nearest to every vote [P, 2], the first of several: [P] int32."""
    cells, table = _candidates(votes, centers)
    # A centre that is none is nearest to nothing.
    places = tf.gather(tf.concat([centers, [[_NOWHERE, _NOWHERE]]], axis=0), table)
    center_y, center_x, width = places[..., 0], places[..., 1], tf.shape(table)[1]
    table = tf.reshape(table, [-1])
    rows = tf.maximum(1, BLOCK_NUMBERS // width)
    starts = tf.range(0, tf.shape(votes)[0], rows)

    def block(start: tf.Tensor) -> tf.Tensor:
        # The last block repeats the last vote, to be as large as the others.
        numbers = tf.minimum(start + tf.range(rows), tf.shape(votes)[0] - 1)
        some, cell = tf.gather(votes, numbers), tf.gather(cells, numbers)
        # Differences first: squares of coordinates would eat the digits that tell near centres apart.
        away = tf.math.squared_difference(some[:, :1], tf.gather(center_y, cell))
        away += tf.math.squared_difference(some[:, 1:], tf.gather(center_x, cell))
        return tf.gather(table, cell * width + tf.argmin(away, axis=1, output_type=tf.int32))

    parallel = 1 if tf.executing_eagerly() else PARALLEL_BLOCKS
    blocks = tf.map_fn(block, starts, fn_output_signature=tf.int32, parallel_iterations=parallel)
    return tf.reshape(blocks, [-1])[: tf.shape(votes)[0]]


def _candidates(votes: tf.Tensor, centers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Divides the plane into cells, and tells which centres can be the nearest of a vote in each.

    Returns:
        the cell of every vote, [P] int32; and [cells, L] int32, ascending, filled up with K.
    """
    count = tf.shape(centers)[0]
    side = tf.cast(tf.sqrt(tf.cast(BLOCK_NUMBERS // count, tf.float32)), tf.int32)
    side = tf.clip_by_value(side, 1, MOST_CELLS)
    low, high = tf.reduce_min(votes, axis=0), tf.reduce_max(votes, axis=0)
    step = tf.maximum((high - low) / tf.cast(side, tf.float32), 1.0)
    # The last cell also holds the votes on its far border.
    cells = tf.clip_by_value(tf.cast((votes - low) / step, tf.int32), 0, side - 1)
    rows, columns = tf.meshgrid(tf.range(side), tf.range(side), indexing="ij")
    corners = tf.cast(tf.reshape(tf.stack([rows, columns], axis=-1), [-1, 2]), tf.float32)
    middles = low + (corners + 0.5) * step
    away = tf.norm(middles[:, tf.newaxis] - centers, axis=-1)  # [cells, K]
    # From the middle to a vote it is half a diagonal at most, so the nearest centre of a vote is at most a diagonal
    # farther from the middle than that nearest to the middle. The rest is for rounding.
    limit = (tf.reduce_min(away, axis=1, keepdims=True) + tf.norm(step)) * 1.0001 + 0.1
    near = tf.where(away <= limit)
    ragged = tf.RaggedTensor.from_value_rowids(
        tf.cast(near[:, 1], tf.int32), near[:, 0], tf.cast(side * side, tf.int64)
    )
    return cells[:, 0] * side + cells[:, 1], ragged.to_tensor(default_value=count)


def rank_in_class(of_class: tf.Tensor, counts: tf.Tensor, num_classes: int) -> tf.Tensor:
    """How many there have been of the own class, itself included, of [K] classes in order; [K] int32."""
    members = tf.one_hot(of_class, num_classes, dtype=tf.int32) * tf.cast(counts, tf.int32)[:, tf.newaxis]
    return tf.gather(tf.cumsum(members), of_class, batch_dims=1)


def are_things(of_class: tf.Tensor, classes: MaskClasses, num_classes: int) -> tf.Tensor:
    """Whether classes, of any shape, are things."""
    return tf.gather(tf.constant([number in classes.thing_ids for number in range(num_classes)]), of_class)
