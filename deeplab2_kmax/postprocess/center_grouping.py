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
from deeplab2_kmax.postprocess import mask_merging, quads, semantic
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import CenterMaps, MaskClasses, SemanticMaps

# Distances held at a time, in numbers: a few megabytes, which processor caches still hold.
BLOCK_NUMBERS = 500_000
# Cells along each side of the plane, at most: for each of them the centres are found that may be near.
MOST_CELLS = 48
# Blocks in flight at a time (in a graph), because the steps of a block use one core each.
PARALLEL_BLOCKS = 2
_LEAST_GAIN = 4  # times as many numbers must there be in a map as a way that leaves out some looks up
_NOWHERE = 1e15  # its square is still a number
_FARTHEST = 1e6  # pixels from the origin to a vote; those beyond are nonsense
# More than what float32 may get wrong in the difference of two squared distances, by the square of the plane's longer
# side: some hundreds of roundings of 6e-8.
_ROUNDING = 4e-5


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
    `semantic.classify`. Where there is an `offset_grid` [B, h, w, 2] too, `offset_map` must be its bilinear
    interpolation, corners on corners: the result is the same, sooner.
    """
    rules = rules_of(options)

    def postprocess(maps: Mapping[str, tf.Tensor], size: mask_merging.Size) -> CenterMaps:
        return assemble(
            semantic.classify(maps, size),
            maps["center_heatmap"],
            maps["offset_map"],
            grid=maps.get("offset_grid"),
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
    grid: tf.Tensor | None = None,
    classes: MaskClasses,
    num_classes: int,
    rules: Rules,
) -> CenterMaps:
    """All label maps of classes [B, H, W], a heat map [B, H, W, 1] of centres and offsets [B, H, W, 2] to them.

    `grid`: offsets [B, h, w, 2] that the others were interpolated from.
    """
    heights, offsets = tf.cast(heatmap, tf.float32), tf.cast(offsets, tf.float32)

    def image(one: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        found, of_class, offset, *coarse = one
        is_thing = are_things(of_class, classes, num_classes)
        instance, scores = group(found, offset, is_thing, rules=rules, grid=coarse[0] if coarse else None)
        panoptic = merge(of_class, instance, classes=classes, num_classes=num_classes, rules=rules)
        return panoptic, instance, scores

    centers = find_centers(heights, rules)[..., 0]
    given = (centers, pixels.semantic, offsets, *([] if grid is None else [tf.cast(grid, tf.float32)]))
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
    shape, side = tf.shape(high), rules.nms_kernel
    # The columns as channels, along which the operation is fast.
    columns = tf.reshape(high, [shape[0], shape[1], 1, shape[2]])
    above_and_below = tf.reshape(tf.nn.max_pool2d(columns, [side, 1], 1, "SAME"), shape)
    candidates = tf.reshape((high == above_and_below) & (high != 0.0), [-1])
    places = tf.cast(tf.where(candidates)[:, 0], tf.int32)  # [P]

    def some() -> tf.Tensor:
        x, width = places % shape[2], shape[2]
        beside = tf.range(-((side - 1) // 2), side // 2 + 1)
        # Beyond a border the border again: it belongs to the square.
        row = (places - x)[:, tf.newaxis] + tf.clip_by_value(x[:, tf.newaxis] + beside, 0, width - 1)
        highest = tf.reduce_max(tf.gather(tf.reshape(above_and_below, [-1]), row), axis=1)
        own = tf.gather(tf.reshape(high, [-1]), places)
        found = tf.where(own == highest, own, tf.zeros_like(own))
        return tf.reshape(tf.math.unsorted_segment_sum(found, places, tf.size(high)), shape)

    def all_pixels() -> tf.Tensor:
        highest = tf.nn.max_pool2d(above_and_below, [1, side], 1, "SAME")
        return tf.where(high == highest, high, 0.0)

    # Few pixels are the highest of their column, where there is little noise.
    found = tf.cond(tf.size(places) < tf.size(high) // (_LEAST_GAIN * side), some, all_pixels)
    return tf.ensure_shape(found, heatmap.shape)


def group(
    centers: tf.Tensor, offsets: tf.Tensor, is_thing: tf.Tensor, *, rules: Rules, grid: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives every pixel of a thing to the centre nearest to where it points.

    Args:
        centers: [H, W] heights of the centres, 0 elsewhere.
        offsets: [H, W, 2], (y, x).
        is_thing: [H, W] bool.
        rules: how many centres there are at most.
        grid: [h, w, 2], what `offsets` were interpolated from, if so: most pixels are then settled by the places around
            them.

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
    places = tf.cast(points, tf.float32)

    def assign() -> tf.Tensor:
        if grid is None:
            return _number(offsets, is_thing, places)
        settled = _between(grid, is_thing, places)
        return settled * tf.cast(is_thing, tf.int32) + _number(offsets, is_thing & (settled == 0), places)

    some = (tf.size(heights) > 0) & tf.reduce_any(is_thing)
    instance = tf.cond(some, assign, lambda: tf.zeros(shape, tf.int32))
    return instance, tf.gather(tf.concat([[0.0], heights], axis=0), instance)


def merge(
    of_class: tf.Tensor, instance: tf.Tensor, *, classes: MaskClasses, num_classes: int, rules: Rules
) -> tf.Tensor:
    """The panoptic map [H, W] of classes [H, W] and numbered instances [H, W], 0 where there is none.

    Instances of a class are numbered from 1 in the order of their first pixels.
    """
    void = labels.pack(classes.ignore_label, 0, classes.label_divisor)
    numbers = instance
    if rules.as_compiled_kernel:
        numbers += tf.cast(tf.reduce_all(instance == 0), tf.int32)
    numbers *= tf.cast(are_things(of_class, classes, num_classes), tf.int32)  # faster than choosing
    # Rows are instances, columns classes; row 0 is of pixels without an instance.
    keys = tf.reshape(numbers * num_classes + of_class, [-1])
    # Runs of equal pixels: there are few of them.
    starts = tf.concat([[0], tf.cast(tf.where(keys[1:] != keys[:-1])[:, 0], tf.int32) + 1], axis=0)
    lengths = tf.concat([starts[1:], [tf.size(keys)]], axis=0) - starts
    of_runs = tf.gather(keys, starts)
    count = tf.reduce_max(of_runs) // num_classes + 1
    votes = tf.math.unsorted_segment_sum(lengths, of_runs, count * num_classes)
    votes = tf.reshape(votes, [count, num_classes])
    own_class = tf.argmax(votes, axis=1, output_type=tf.int32)
    order = tf.argsort(tf.math.unsorted_segment_min(starts, of_runs // num_classes, count))
    rank = rank_in_class(tf.gather(own_class, order), tf.gather(tf.range(count) > 0, order), num_classes)
    rank = tf.gather(rank, tf.math.invert_permutation(order))
    ids = labels.pack(own_class, rank, classes.label_divisor)
    # A class has only so many ids.
    ids = tf.where((tf.range(count) > 0) & (rank < classes.label_divisor), ids, void)

    areas = tf.reduce_sum(votes, axis=0)
    large = areas > rules.stuff_area if rules.as_compiled_kernel and rules.stuff_area > 0 else areas >= rules.stuff_area
    stuff = large & ~_table_of_things(classes, num_classes)
    stuff_ids = tf.where(stuff, labels.pack(tf.range(num_classes), 0, classes.label_divisor), void)
    table = tf.concat([stuff_ids, tf.repeat(ids[1:], num_classes)], axis=0)
    return tf.reshape(tf.gather(table, keys), tf.shape(of_class))


def _number(
    offsets: tf.Tensor,
    wanted: tf.Tensor,
    centers: tf.Tensor,
    *,
    step: tuple[tf.Tensor | float, tf.Tensor | float] = (1.0, 1.0),
    farthest: tf.Tensor | float = _FARTHEST,
    margin: tf.Tensor | None = None,
) -> tf.Tensor:
    """Number from 1 of the centre [K, 2] nearest to where each wanted place [h, w] points; 0 elsewhere, and see margin.

    Args:
        offsets: [h, w, 2], in pixels.
        wanted: [h, w] bool, some of them.
        centers: in pixels.
        step: pixels from one place to the next, (y, x).
        farthest: pixels from the origin to a vote.
        margin: 0 also where a vote is farther, and where the square of another centre's distance is greater by no more
            than this.
    """
    # Flat places: with one index in the place of two everything is faster.
    pixels = tf.cast(tf.where(tf.reshape(wanted, [-1]))[:, 0], tf.int32)  # [P]
    width = tf.shape(wanted)[1]

    def some() -> tf.Tensor:
        ways = tf.unstack(tf.gather(tf.reshape(offsets, [-1, 2]), pixels), axis=1)
        votes, near = [], tf.constant(True)
        for place, length, way in zip((pixels // width, pixels % width), step, ways):
            vote = tf.cast(place, tf.float32) * length + way
            near &= tf.abs(vote) <= farthest
            vote = tf.where(tf.math.is_nan(vote), tf.zeros_like(vote), vote)
            votes.append(tf.clip_by_value(vote, -farthest, farthest))
        found = _nearest(tf.stack(votes, axis=1), centers, margin) + 1
        if margin is not None:
            found = tf.where(near, found, tf.zeros_like(found))
        # Sums of one number each: scattering them takes longer.
        return tf.reshape(tf.math.unsorted_segment_sum(found, pixels, tf.size(wanted)), tf.shape(wanted))

    return tf.cond(tf.size(pixels) > 0, some, lambda: tf.zeros_like(wanted, tf.int32))


def _between(grid: tf.Tensor, is_thing: tf.Tensor, centers: tf.Tensor) -> tf.Tensor:
    """As `_number`, for pixels [H, W] where the offsets [h, w, 2] of a coarser grid tell it; elsewhere 0.

    Votes between four places are means of theirs. How much farther a second centre is than the nearest one, in squares,
    is linear in the vote: what holds at the four by more than rounding holds between them.
    """
    height, width = tf.unstack(tf.shape(is_thing))
    down, across = quads.sides(grid[..., 0], (height, width))
    # A single place has pixels beside it, not between it and another.
    is_grid = tf.reduce_all((tf.shape(grid)[:2] > 1) | (tf.shape(is_thing) == 1))
    # Votes from afar are left to their pixels, so that the bound of rounding is one for all.
    reach = tf.cast(tf.maximum(height, width), tf.float32)
    nearest = _number(
        grid,
        quads.around(quads.sample(is_thing, down, across)) & is_grid,
        centers,
        step=(down.step, across.step),
        farthest=reach,
        margin=_ROUNDING * reach**2,
    )
    return quads.spread(tf.where(quads.differ(nearest), 0, nearest), down, across)


def _nearest(votes: tf.Tensor, centers: tf.Tensor, margin: tf.Tensor | None = None) -> tf.Tensor:
    """The centre [K, 2] nearest to every vote [P, 2], the first of several: [P] int32.

    With a `margin` it is -1 where the square of another's distance is greater by no more than that.
    """
    count = tf.shape(votes)[0]
    y, x = tf.unstack(votes, axis=1)
    cells, table = _candidates(y, x, centers)
    # A centre that is none is nearest to nothing.
    places = tf.gather(tf.concat([centers, [[_NOWHERE, _NOWHERE]]], axis=0), table)
    center_y, center_x, width = places[..., 0], places[..., 1], tf.shape(table)[1]
    table = tf.reshape(table, [-1])
    rows = tf.maximum(1, BLOCK_NUMBERS // width)

    def block(start: tf.Tensor) -> tf.Tensor:
        # The last block repeats the last vote, to be as large as the others.
        numbers = tf.minimum(start + tf.range(rows), count - 1)
        cell = tf.gather(cells, numbers)
        # Differences first: squares of coordinates would eat the digits that tell near centres apart.
        away = tf.math.squared_difference(tf.gather(y, numbers)[:, tf.newaxis], tf.gather(center_y, cell))
        away += tf.math.squared_difference(tf.gather(x, numbers)[:, tf.newaxis], tf.gather(center_x, cell))
        found = tf.gather(table, cell * width + tf.argmin(away, axis=1, output_type=tf.int32))
        if margin is None:
            return found
        others = away <= tf.reduce_min(away, axis=1, keepdims=True) + margin
        return tf.where(tf.reduce_sum(tf.cast(others, tf.int32), axis=1) == 1, found, tf.fill([rows], -1))

    parallel = 1 if tf.executing_eagerly() else PARALLEL_BLOCKS
    blocks = tf.map_fn(block, tf.range(0, count, rows), fn_output_signature=tf.int32, parallel_iterations=parallel)
    return tf.reshape(blocks, [-1])[:count]


def _candidates(y: tf.Tensor, x: tf.Tensor, centers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Divides the plane of votes [P] into cells, and tells which centres can be the nearest of a vote in each.

    Returns:
        the cell of every vote, [P] int32; and [cells, L] int32, ascending, filled up with K.
    """
    count = tf.shape(centers)[0]
    side = tf.cast(tf.sqrt(tf.cast(BLOCK_NUMBERS // count, tf.float32)), tf.int32)
    side = tf.clip_by_value(side, 1, MOST_CELLS)
    lows, steps, lines = [], [], []
    for votes in (y, x):
        low = tf.reduce_min(votes)
        step = tf.maximum((tf.reduce_max(votes) - low) / tf.cast(side, tf.float32), 1.0)
        # The last cell also holds the votes on its far border.
        lines.append(tf.minimum(tf.cast((votes - low) / step, tf.int32), side - 1))
        lows.append(low)
        steps.append(step)
    # Squared distances of the cells' middles, one coordinate after the other.
    along = [low + (tf.cast(tf.range(side), tf.float32) + 0.5) * step for low, step in zip(lows, steps)]
    apart = [tf.math.squared_difference(middles[:, tf.newaxis], centers[:, axis]) for axis, middles in enumerate(along)]
    away = tf.sqrt(tf.reshape(apart[0][:, tf.newaxis] + apart[1], [side * side, count]))  # [cells, K]
    # From the middle to a vote it is half a diagonal at most, so the nearest centre of a vote is at most a diagonal
    # farther from the middle than that nearest to the middle. The rest is for rounding.
    limit = (tf.reduce_min(away, axis=1, keepdims=True) + tf.norm(tf.stack(steps))) * 1.0001 + 0.1
    near = tf.where(away <= limit)
    ragged = tf.RaggedTensor.from_value_rowids(
        tf.cast(near[:, 1], tf.int32), near[:, 0], tf.cast(side * side, tf.int64)
    )
    return lines[0] * side + lines[1], ragged.to_tensor(default_value=count)


def rank_in_class(of_class: tf.Tensor, counts: tf.Tensor, num_classes: int) -> tf.Tensor:
    """How many there have been of the own class, itself included, of [K] classes in order; [K] int32."""
    members = tf.one_hot(of_class, num_classes, dtype=tf.int32) * tf.cast(counts, tf.int32)[:, tf.newaxis]
    return tf.gather(tf.cumsum(members), of_class, batch_dims=1)


def are_things(of_class: tf.Tensor, classes: MaskClasses, num_classes: int) -> tf.Tensor:
    """Whether classes, of any shape, are things."""
    things = sorted(number for number in classes.thing_ids if number < num_classes)
    if things and things == list(range(things[0], things[-1] + 1)):
        # Most data sets have them in a row. Comparing is much faster than looking up.
        return (of_class >= things[0]) & (of_class <= things[-1])
    return tf.gather(_table_of_things(classes, num_classes), of_class)


def _table_of_things(classes: MaskClasses, num_classes: int) -> tf.Tensor:
    return tf.constant([number in classes.thing_ids for number in range(num_classes)])
