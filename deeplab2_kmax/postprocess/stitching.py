"""One id for one object from frame to frame (ViP-DeepLab, 2020, arXiv 2012.05258).

A frame is segmented twice, together with the frame before it and in another way; segments of the two maps that overlap
most are one object. Differences from DeepLab2: sorted ids in place of hash tables, so that equal overlaps have one
outcome; any batch size; and whole sequences, where DeepLab2 ends after two frames.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax import labels
from deeplab2_kmax.postprocess import center_grouping

NO_PARTNER = -1


class Matches(NamedTuple):
    """Segments and what they are in another map of the same image."""

    ids: tf.Tensor  # [S] int32, panoptic ids, ascending
    partners: tf.Tensor  # [S] int32, panoptic ids of the other map, or NO_PARTNER


class Tracked(NamedTuple):
    """Two neighbouring frames with ids that hold for a whole video."""

    current: tf.Tensor  # [H, W] int32
    following: tf.Tensor  # [H, W] int32
    given: tf.Tensor  # [K] int32, where every class looks for its next free id


def match(carried: tf.Tensor, own: tf.Tensor, ids: tf.Tensor, *, label_divisor: int) -> Matches:
    """Finds pairs of instances that are each other's best match, by the intersection over union of whole segments.

    Args:
        carried: [H, W] panoptic ids.
        own: [H, W], of the same image.
        ids: those in `own`, ascending; others have no partner.
        label_divisor: of both. Pairs are of one class; stuff and crowd (instance 0) have none.

    Of equal overlaps the pair of the higher carried id counts, then that of the higher own id, as in DeepLab2.
    """
    others = distinct(carried)
    own, carried = (tf.reshape(maps, [-1]) for maps in (own, carried))
    rows, columns = tf.size(others), tf.size(ids)
    cells = tf.searchsorted(others, carried) * columns + tf.searchsorted(ids, own)
    shared = tf.reshape(tf.math.bincount(cells, minlength=rows * columns), [rows, columns])
    areas = tf.reduce_sum(shared, axis=1, keepdims=True) + tf.reduce_sum(shared, axis=0)
    # 64 bits tell any two different fractions of pixel counts apart.
    overlap = tf.cast(shared, tf.float64) / tf.cast(tf.maximum(areas - shared, 1), tf.float64)
    of_things = tf.not_equal(labels.instance_of(others, label_divisor), 0)[:, tf.newaxis]
    same = tf.equal(labels.class_of(others, label_divisor)[:, tf.newaxis], labels.class_of(ids, label_divisor))
    overlap = tf.where(same & of_things & (labels.instance_of(ids, label_divisor) != 0), overlap, 0.0)
    best = _last_argmax(overlap, axis=0)  # [S]
    mutual = tf.gather(_last_argmax(overlap, axis=1), best) == tf.range(columns)
    matched = mutual & (tf.reduce_max(overlap, axis=0) > 0)
    return Matches(ids, tf.where(matched, tf.gather(others, best), NO_PARTNER))


def stitch(carried: tf.Tensor, own: tf.Tensor, *, label_divisor: int, offset: int | None = None) -> tf.Tensor:
    """Gives the instances of `own` the ids of their partners in `carried`.

    Args:
        carried: [B, H, W] int32 panoptic ids.
        own: [B, H, W], of the same images.
        label_divisor: of both.
        offset: is added to the instance ids that have no partner, to keep them apart from the carried ones; None: half
            the divisor.

    Returns:
        [B, H, W] int32; stuff and crowd of `own` as they are.

    Raises:
        InvalidArgumentError: an instance id plus the offset reaches the divisor.
    """
    offset = label_divisor // 2 if offset is None else offset

    def image(one: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        found = match(*one, distinct(one[1]), label_divisor=label_divisor)
        instances = labels.instance_of(found.ids, label_divisor)
        shifted = tf.where(instances > 0, instances + offset, 0)
        fits = tf.debugging.assert_less(
            shifted,
            label_divisor,
            f"An instance id plus the stitching offset {offset} reaches the label divisor {label_divisor}: take a "
            "smaller offset, or a larger stuff_area_limit or nms_kernel, to find fewer instances.",
        )
        with tf.control_dependencies([fits] if fits is not None else []):
            new = tf.where(found.partners == NO_PARTNER, found.ids - instances + shifted, found.partners)
        return rename(one[1], found.ids, new)

    if own.shape[0] == 1:
        return image((carried[0], own[0]))[tf.newaxis]
    return tf.map_fn(image, (carried, own), fn_output_signature=tf.int32)


def track(
    carried: tf.Tensor, current: tf.Tensor, following: tf.Tensor, given: tf.Tensor, *, label_divisor: int
) -> Tracked:
    """Takes the ids of a video on to its next two frames.

    Args:
        carried: [H, W], the current frame with the video's ids, from the two frames before.
        current: [H, W], the current frame with ids that it shares with `following`.
        following: [H, W], the frame after it.
        given: [K], as `Tracked` has it, one more than the highest class of things; zeros at first.
        label_divisor: of all.

    Returns:
        Both frames with the video's ids. Instances without a partner in `carried` get new ids, per class and in the
        order of their ids. They begin anew at 1 behind the divisor, past those in `carried`, so that videos have any
        length.
    """
    found = match(carried, current, distinct(tf.stack([current, following])), label_divisor=label_divisor)
    new, given = _new_ids(found, distinct(carried), given, label_divisor)
    return Tracked(rename(current, found.ids, new), rename(following, found.ids, new), given)


def distinct(maps: tf.Tensor) -> tf.Tensor:
    """The ids in a map, ascending: [S] int32."""
    return tf.sort(tf.unique(tf.reshape(maps, [-1])).y)


def rename(maps: tf.Tensor, ids: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """A map in which every one of `ids` [S], ascending and complete, is replaced by that of `new` [S]."""
    return tf.reshape(tf.gather(new, tf.searchsorted(ids, tf.reshape(maps, [-1]))), tf.shape(maps))


def _new_ids(found: Matches, taken: tf.Tensor, given: tf.Tensor, label_divisor: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The ids of all segments, and where every class goes on; `taken` [C] are not given to new ones."""
    num_classes = given.shape[0]
    is_new = (labels.instance_of(found.ids, label_divisor) > 0) & (found.partners == NO_PARTNER)
    of_class = tf.where(is_new, labels.class_of(found.ids, label_divisor), 0)
    # Of every class as many candidates as could be needed, of which some are taken.
    steps = tf.range(tf.size(found.ids) + tf.size(taken))
    candidates = (given[:, tf.newaxis] + steps) % (label_divisor - 1) + 1
    packed = labels.pack(tf.range(num_classes)[:, tf.newaxis], candidates, label_divisor)
    place = tf.minimum(tf.searchsorted(taken, tf.reshape(packed, [-1])), tf.size(taken) - 1)
    free = tf.reshape(tf.gather(taken, place), tf.shape(packed)) != packed
    rank = center_grouping.rank_in_class(of_class, is_new, num_classes)
    number = tf.where(free, tf.cumsum(tf.cast(free, tf.int32), axis=1), 0)  # from 1
    chosen = tf.argmax(tf.gather(number, of_class) == rank[:, tf.newaxis], axis=1, output_type=tf.int32)
    ids = tf.gather_nd(packed, tf.stack([of_class, chosen], axis=1))
    used = tf.math.unsorted_segment_max(tf.where(is_new, chosen + 1, 0), of_class, num_classes)
    kept = tf.where(found.partners == NO_PARTNER, found.ids, found.partners)
    return tf.where(is_new, ids, kept), (given + tf.maximum(used, 0)) % (label_divisor - 1)


def _last_argmax(values: tf.Tensor, axis: int) -> tf.Tensor:
    """The last of the largest."""
    size = tf.shape(values)[axis]
    return size - 1 - tf.argmax(tf.reverse(values, [axis]), axis=axis, output_type=tf.int32)
