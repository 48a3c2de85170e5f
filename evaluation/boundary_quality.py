"""Boundary PQ: panoptic quality whose IoU is that of the segments' boundaries where that is lower.

"Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", Cheng et al., 2021, arXiv 2103.16562.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from evaluation import pairs, panoptic_quality, segments


class BoundaryQuality(panoptic_quality.PanopticQuality):
    """PQ, SQ and RQ with `min(IoU, boundary IoU)`; all else is as in `PanopticQuality`.

    The boundary of a segment is what lies within d pixels (of a square) of another segment or of the image's border,
    d being `dilation_ratio` of the image's diagonal.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        dilation_ratio: float = 0.02,
        max_segments: int = 512,
        name: str = "boundary_quality",
    ):
        """Makes the metric; `dilation_ratio` is 0.02 for COCO and LVIS, 0.005 for Cityscapes.

        Raises:
            ValueError: as `PanopticQuality`, or a ratio outside of (0, 1).
        """
        super().__init__(num_classes, ignore_label, label_divisor, thing_ids, max_segments=max_segments, name=name)
        self.dilation_ratio = check_dilation(dilation_ratio)

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        config = {**super().get_config(), "dilation_ratio": self.dilation_ratio}
        del config["crowd_as_void"]
        return config

    def _image(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> dict[str, tf.Tensor]:
        found, boundary_iou = overlaps(
            y_true, y_pred, self.labels, max_segments=self.max_segments, dilation_ratio=self.dilation_ratio
        )
        counts = panoptic_quality.match(
            found.pairs, found.counts, self.labels, self.thing_ids, boundary_iou=boundary_iou[:, tf.newaxis]
        )
        return pairs.scored(found, {name: value[0] for name, value in counts._asdict().items()})


def check_dilation(dilation_ratio: float) -> float:
    """The ratio as a float; raises ValueError where it is no share of the diagonal."""
    if not 0.0 < dilation_ratio < 1.0:
        raise ValueError(f"Expected dilation_ratio in (0, 1), a share of the image's diagonal, got {dilation_ratio}.")
    return float(dilation_ratio)


def overlaps(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    labels: segments.Labels,
    *,
    max_segments: int,
    dilation_ratio: float,
    void_counts: bool = False,
) -> tuple[pairs.Overlaps, tf.Tensor]:
    """The overlaps of the segments of two maps [H, W], and the IoU of every pair's boundaries, [N] float64 (void 0).

    Void ground truth leaves the unions of boundaries, as it leaves those of segments in PQ, unless `void_counts`.
    """
    y_true, y_pred = segments.as_int32(y_true), segments.as_int32(y_pred)
    width = boundary_width(y_true, dilation_ratio)
    inner = [interior(segments.normalize(each, labels)[0], width) for each in (y_true, y_pred)]
    # Levels: 0 the boundary of both, 1 of the true segment alone, 2 of the predicted one alone, 3 of neither.
    levels = 2 * tf.cast(inner[0], tf.int32) + tf.cast(inner[1], tf.int32)
    found = pairs.overlaps(y_true, y_pred, labels, max_segments=max_segments, levels=levels, num_levels=4)
    meeting, (both, true_only, pred_only, _) = found.pairs, tf.unstack(found.counts, axis=1)
    on_void, on_nothing = (
        each < 0
        for each in (
            meeting.of_true(meeting.true_labels),
            meeting.of_pred(meeting.pred_labels),
        )
    )
    of_pred = both + pred_only
    if not void_counts:
        of_pred = tf.where(on_void, 0, of_pred)
    union = meeting.of_true(meeting.sum_by_true(both + true_only)) - both
    union += meeting.of_pred(meeting.sum_by_pred(of_pred))
    iou = tf.where(~on_void & ~on_nothing, both / tf.maximum(union, 1), 0.0)
    return found._replace(counts=tf.reduce_sum(found.counts, axis=1, keepdims=True)), iou


def boundary_width(values: tf.Tensor, dilation_ratio: float) -> int | tf.Tensor:
    """Pixels that a boundary is wide in a map [H, W]; a number where the shape is static."""
    if values.shape.is_fully_defined():
        height, width = values.shape
        return max(1, round(dilation_ratio * math.sqrt(height**2 + width**2)))
    height, width = tf.unstack(tf.cast(tf.shape(values), tf.float64))
    diagonal = tf.sqrt(height**2 + width**2)
    return tf.maximum(1, tf.cast(tf.round(tf.constant(dilation_ratio, tf.float64) * diagonal), tf.int32))


def interior(values: tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    """Where all values within `width` rows and columns are equal, and inside of the map: [H, W] -> bool."""
    corner = values[:-1, :-1]
    change = (corner != values[:-1, 1:]) | (corner != values[1:, :-1]) | (corner != values[1:, 1:])
    # A window of (2 width + 1)^2 values has no change iff none of its (2 width)^2 blocks of four values has one.
    sums = segments.prefix_sum(tf.cast(change, tf.int32))
    sums = tf.transpose(segments.prefix_sum(tf.transpose(sums)))
    sums = tf.pad(sums, [[1, 0], [1, 0]])
    span = 2 * width
    changes = sums[span:, span:] - sums[:-span, span:] - sums[span:, :-span] + sums[:-span, :-span]
    # A map too small for any window has no interior; then `changes` is empty.
    rows, columns = tf.shape(values)[0], tf.shape(values)[1]
    above, left = tf.minimum(width, rows), tf.minimum(width, columns)
    below, right = rows - above - tf.shape(changes)[0], columns - left - tf.shape(changes)[1]
    inner = tf.pad(changes == 0, [[above, below], [left, right]])
    return tf.ensure_shape(inner, values.shape)
