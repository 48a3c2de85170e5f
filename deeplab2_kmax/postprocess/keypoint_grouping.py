"""Classes, keypoints and offsets -> one panoptic map (DeeperLab, 2019, arXiv 1902.05093; PersonLab, 2018, 1803.08225).

Pixels in discs around keypoints vote for where these are (Hough voting). The highest votes for centres are instances,
each with the five keypoints that offsets lead to from its centre. Every pixel of a thing joins the instance whose
keypoints are nearest to those that it expects of its own.

Where the papers leave it open: votes fall into cells of four pixels and their eight neighbours, a keypoint of an
instance is refined once, distances are counted in sides of the instance's box (the root of its area, but at least the
discs' radius), and pixels that are farther than `distance_limit` from all instances are void. PersonLab's limit for
persons is 0.25 of such a side; pixels at the borders of instances, whose offsets are blends, need a wider one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from deeplab2_kmax.postprocess import center_grouping, mask_merging, semantic
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import KEYPOINT_PAIRS, KEYPOINTS, CenterMaps, MaskClasses

CELL = 4  # pixels of the image to a cell of votes, and from one voter to the next
_LEAST_PROBABILITY = 0.1  # of voters
_CENTER = KEYPOINTS.index("center")
_CORNERS = tuple(kind for kind in range(len(KEYPOINTS)) if kind != _CENTER)
_MAPS = ("keypoint_heatmap", "short_offset_map", "middle_offset_map", "long_offset_map")


class Rules(NamedTuple):
    """How instances are found."""

    radius: float  # of the discs, in pixels
    distance_limit: float = 1.0
    # Of centres (their threshold is the share of all voters that a perfect instance would have), of merging.
    grouping: center_grouping.Rules = center_grouping.Rules()


class Instances(NamedTuple):
    """What the votes say, J instances."""

    points: tf.Tensor  # [J, 5, 2] float32, (y, x) of KEYPOINTS in pixels
    scores: tf.Tensor  # [J] float32
    cells: tf.Tensor  # [J, 2] int32, of their centres


def build(
    options: evaluator_pb2.EvaluatorOptions, classes: MaskClasses, *, radius: float
) -> Callable[[Mapping[str, tf.Tensor], mask_merging.Size], CenterMaps]:
    """The post-processing that `options` ask for: a function of maps and the image size (H, W).

    Of the maps `keypoint_heatmap` [B, H, W, 5], `short_offset_map` [B, H, W, 10], `middle_offset_map` [B, H, W, 16] and
    `long_offset_map` [B, H, W, 10] have that size; classes are those of `semantic.classify`.
    """
    rules = Rules(radius, options.keypoint_distance_limit, center_grouping.rules_of(options))

    def postprocess(maps: Mapping[str, tf.Tensor], size: mask_merging.Size) -> CenterMaps:
        pixels = semantic.classify(maps, size)
        num_classes = maps[semantic.LOGITS].shape[-1]

        def image(one: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
            of_class, heatmap, short, middle, long = one
            found = find(tf.sigmoid(heatmap), short, middle, rules=rules)
            is_thing = center_grouping.are_things(of_class, classes, num_classes)
            instance, scores = group(found, long, is_thing, rules=rules)
            panoptic = center_grouping.merge(
                of_class, instance, classes=classes, num_classes=num_classes, rules=rules.grouping
            )
            centers = tf.scatter_nd(found.cells * CELL, found.scores, tf.shape(of_class))
            return panoptic, instance, scores, centers

        given = (pixels.semantic, *(tf.cast(maps[name], tf.float32) for name in _MAPS))
        if pixels.semantic.shape[0] == 1:
            made = tuple(m[tf.newaxis] for m in image(tuple(m[0] for m in given)))
        else:
            made = tf.map_fn(image, given, fn_output_signature=(tf.int32, tf.int32, tf.float32, tf.float32))
        panoptic, instance, scores, centers = made
        whole = CenterMaps(panoptic, pixels.semantic, instance, pixels.semantic_scores, scores, centers)
        return CenterMaps(*(tf.ensure_shape(m, pixels.semantic.shape) for m in whole))

    return postprocess


def find(probabilities: tf.Tensor, short: tf.Tensor, middle: tf.Tensor, *, rules: Rules) -> Instances:
    """The instances of one image, from the highest centres on.

    Args:
        probabilities: [H, W, 5], that a pixel is in the disc of a keypoint.
        short: [H, W, 10], offsets from discs to their keypoint.
        middle: [H, W, 16], offsets from discs to another keypoint of the instance, by KEYPOINT_PAIRS.
        rules: what is an instance.
    """
    heights = center_votes(probabilities, short, middle, radius=rules.radius)
    kernel = max(3, rules.grouping.nms_kernel // CELL // 2 * 2 + 1)
    peaks = center_grouping.find_centers(
        heights[tf.newaxis, ..., tf.newaxis], rules.grouping._replace(nms_kernel=kernel)
    )[0, ..., 0]
    cells = tf.cast(tf.where(_first(peaks > 0.0, kernel)), tf.int32)
    scores = tf.gather_nd(peaks, cells)
    most = rules.grouping.max_centers
    kept = tf.math.top_k(scores, tf.minimum(most, tf.size(scores)) if most > 0 else tf.size(scores)).indices
    cells, scores = tf.gather(cells, kept), tf.gather(scores, kept)

    def refined(points: tf.Tensor, kind: int) -> tf.Tensor:
        """Where the short offset leads from where a point is in a disc of its kind."""
        inside = _at(probabilities[..., kind : kind + 1], points) > 0.5
        return points + tf.where(inside, _at(_pair(short, kind), points), 0.0)

    center = refined(tf.cast(cells * CELL, tf.float32), _CENTER)
    points = {_CENTER: center}
    for kind in _CORNERS:
        towards = KEYPOINT_PAIRS.index((_CENTER, kind))
        points[kind] = refined(center + _at(_pair(middle, towards), center), kind)
    return Instances(tf.stack([points[kind] for kind in range(len(KEYPOINTS))], axis=1), scores, cells)


def center_votes(probabilities: tf.Tensor, short: tf.Tensor, middle: tf.Tensor, *, radius: float) -> tf.Tensor:
    """Votes for centres, from their own discs and from those of corners: [h, w], cells of CELL pixels.

    In units of all votes that the five whole discs of one instance have; where instances are near or vote for two
    neighbouring cells it is not bounded by 1.
    """
    probabilities, short, middle = (m[::CELL, ::CELL] for m in (probabilities, short, middle))
    size = tf.shape(probabilities)[:2]
    votes = tf.zeros(size)
    for kind in range(len(KEYPOINTS)):
        offsets = _pair(short, kind) if kind == _CENTER else _pair(middle, KEYPOINT_PAIRS.index((kind, _CENTER)))
        of_kind = probabilities[..., kind]
        voters = tf.cast(tf.where(of_kind > _LEAST_PROBABILITY), tf.int32)
        places = tf.cast(tf.round(tf.cast(voters, tf.float32) + tf.gather_nd(offsets, voters) / CELL), tf.int32)
        inside = tf.reduce_all((places >= 0) & (places < size), axis=1)
        weights = tf.where(inside, tf.gather_nd(of_kind, voters), 0.0)
        votes += tf.scatter_nd(tf.clip_by_value(places, 0, size - 1), weights, size)
    near = np.outer([0.5, 1.0, 0.5], [0.5, 1.0, 0.5]).astype(np.float32)[..., np.newaxis, np.newaxis]
    votes = tf.nn.conv2d(votes[tf.newaxis, ..., tf.newaxis], near, 1, "SAME")[0, ..., 0]
    return votes / (len(KEYPOINTS) * np.pi * (radius / CELL) ** 2)


def group(found: Instances, long: tf.Tensor, is_thing: tf.Tensor, *, rules: Rules) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives every pixel of a thing to the instance whose keypoints it expects.

    Args:
        found: the instances.
        long: [H, W, 10], offsets from pixels to the keypoints of their instance.
        is_thing: [H, W] bool.
        rules: how far the keypoints may be from those expected.

    Returns:
        [H, W] int32, number of the instance, from 1, and [H, W] float32, its score; 0 where there is none.
    """
    shape = tf.shape(is_thing)

    def assign() -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.cast(tf.where(is_thing), tf.int32)  # [P, 2]
        offsets = tf.reshape(tf.gather_nd(long, pixels), [-1, len(KEYPOINTS), 2])
        expected = tf.cast(pixels, tf.float32)[:, tf.newaxis] + offsets
        nearest = _nearest(expected, found.points, sides(found.points, rules.radius), rules.distance_limit)
        scores = tf.concat([tf.zeros([1]), found.scores], axis=0)
        return tf.scatter_nd(pixels, nearest, shape), tf.scatter_nd(pixels, tf.gather(scores, nearest), shape)

    def none() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.zeros(shape, tf.int32), tf.zeros(shape, tf.float32)

    return tf.cond((tf.size(found.scores) > 0) & tf.reduce_any(is_thing), assign, none)


def sides(points: tf.Tensor, radius: float) -> tf.Tensor:
    """The root of the area of the boxes that keypoints [J, 5, 2] span, at least `radius`: [J]."""
    corners = tf.gather(points, _CORNERS, axis=1)
    height, width = tf.unstack(tf.reduce_max(corners, axis=1) - tf.reduce_min(corners, axis=1), axis=-1)
    return tf.maximum(tf.sqrt(height * width), radius)


def _nearest(expected: tf.Tensor, points: tf.Tensor, side: tf.Tensor, limit: float) -> tf.Tensor:
    """Number, from 1, of the instance [J, 5, 2] nearest to every [P, 5, 2], 0 beyond the limit: [P] int32."""
    count = tf.shape(expected)[0]
    rows = tf.maximum(1, center_grouping.BLOCK_NUMBERS // tf.size(points))

    def block(start: tf.Tensor) -> tf.Tensor:
        # The last block repeats the last pixel, to be as large as the others.
        some = tf.gather(expected, tf.minimum(start + tf.range(rows), count - 1))
        squares = tf.math.squared_difference(some[:, tf.newaxis], points)
        away = tf.reduce_mean(tf.sqrt(tf.reduce_sum(squares, axis=-1)), axis=-1) / side
        best = tf.argmin(away, axis=1, output_type=tf.int32)
        return tf.where(tf.gather(away, best, batch_dims=1) <= limit, best + 1, 0)

    parallel = 1 if tf.executing_eagerly() else center_grouping.PARALLEL_BLOCKS
    blocks = tf.map_fn(block, tf.range(0, count, rows), fn_output_signature=tf.int32, parallel_iterations=parallel)
    return tf.reshape(blocks, [-1])[:count]


def _first(marks: tf.Tensor, side: int) -> tf.Tensor:
    """Of the marks [h, w] those without an earlier one in the square around them, whose side is odd: [h, w] bool.

    Cells of one square that are both the highest are as high as each other: several centres of one instance.
    """
    count = tf.size(marks)
    # The earlier a mark the larger its number; in whole numbers, which float32 tells apart up to 2^24.
    numbers = tf.reshape(tf.cast(tf.range(count, 0, -1), tf.float32), tf.shape(marks)) * tf.cast(marks, tf.float32)
    highest = tf.nn.max_pool2d(numbers[tf.newaxis, ..., tf.newaxis], side, 1, "SAME")[0, ..., 0]
    return marks & (numbers == highest)


def _pair(offsets: tf.Tensor, number: int) -> tf.Tensor:
    return offsets[..., 2 * number : 2 * number + 2]


def _at(values: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """The values [H, W, C] at the pixels nearest to points [J, 2]: [J, C]."""
    last = tf.shape(values)[:2] - 1
    return tf.gather_nd(values, tf.clip_by_value(tf.cast(tf.round(points), tf.int32), 0, last))
