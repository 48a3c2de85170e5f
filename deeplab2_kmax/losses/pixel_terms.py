"""The loss of the Panoptic-DeepLab family: one term per map of pixels, weighted (2020, arXiv 1911.10194).

Numbers are DeepLab2's: of every term the hardest pixels are kept, and their sum is divided by how many are not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax.losses import depth, mask_targets, pixelwise
from deeplab2_kmax.protos import trainer_pb2

TOTAL = "total_loss"


class Term(NamedTuple):
    """A loss and what it compares."""

    name: str  # the only one that loss_options.<term>.name can have
    prediction: str  # field of the output
    target: str  # key of the batch
    weight: str | None  # likewise; None: a loss of whole images, which has no weights and no hardest pixels
    # (prediction [B, P, C] or [B, P], target likewise) -> [B, P] or, of K things told of every pixel, [B, P, K]; of
    # whole images [B]. None: classes.
    losses: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None


def squared_error(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """[B, P] each -> [B, P]."""
    return tf.math.squared_difference(prediction, target)


def absolute_error(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """[B, P, C] each -> the mean over the channels, [B, P]."""
    return tf.reduce_mean(tf.abs(prediction - target), axis=-1)


def sigmoid_cross_entropy(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """[B, P, K] each -> [B, P, K]."""
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)


def absolute_errors(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """[B, P, 2 K] each, (y, x) one after the other -> the mean over y and x, [B, P, K]."""
    errors = tf.abs(prediction - target)
    return 0.5 * (errors[..., ::2] + errors[..., 1::2])


def _depth(prediction: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return depth.depth_loss(prediction[..., 0], target[..., 0])


# By the fields of LossOptions.
TERMS = {
    "semantic_loss": Term(
        "softmax_cross_entropy",
        "semantic_logits",
        "semantic_gt",
        "semantic_loss_weight",
        None,
    ),
    "guide_loss": Term("softmax_cross_entropy", "guide_logits", "semantic_gt", "semantic_loss_weight", None),
    "center_loss": Term("mse", "center_heatmap", "instance_center_gt", "center_loss_weight", squared_error),
    "regression_loss": Term("l1", "offset_map", "instance_regression_gt", "regression_loss_weight", absolute_error),
    "motion_loss": Term("l1", "frame_offset_map", "frame_offset_gt", "frame_regression_loss_weight", absolute_error),
    "next_regression_loss": Term(
        "l1", "next_offset_map", "next_instance_regression_gt", "next_regression_loss_weight", absolute_error
    ),
    "depth_loss": Term("depth_loss", "depth_pred", "depth_gt", None, _depth),
    "keypoint_loss": Term(
        "sigmoid_cross_entropy", "keypoint_heatmap", "keypoint_gt", "keypoint_loss_weight", sigmoid_cross_entropy
    ),
    # Of an offset from the discs of a keypoint only these count.
    "short_offset_loss": Term("l1", "short_offset_map", "short_offset_gt", "keypoint_gt", absolute_errors),
    "middle_offset_loss": Term(
        "l1", "middle_offset_map", "middle_offset_gt", "middle_offset_loss_weight", absolute_errors
    ),
    "long_offset_loss": Term("l1", "long_offset_map", "long_offset_gt", "long_offset_loss_weight", absolute_errors),
}


class PixelLoss:
    """Turns maps of pixels and a batch of targets into weighted loss terms."""

    def __init__(self, options: trainer_pb2.LossOptions, ignore_label: int):
        """Checks the options.

        Args:
            options: which losses, their weights and top-k; a loss that is not set is not computed.
            ignore_label: class of pixels without a semantic loss.

        Raises:
            ValueError: a loss has no meaning here, or one of its options does not.
        """
        self._options = {field.name: value for field, value in options.ListFields()}
        self._ignore_label = ignore_label
        _check(self._options)

    def __call__(
        self, output: Any, targets: Mapping[str, tf.Tensor], *, seed: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """The loss terms of every example.

        Args:
            output: a NamedTuple with maps, [B, h, w, C] or [B, h, w]. Where they are smaller than the targets, those
                are taken at every n-th pixel, and the other way round.
            targets: the batch: keys of TERMS, [B, H, W] or [B, H, W, C].
            seed: not used: nothing is drawn.

        Returns:
            Name -> [B] float32, weighted; `total_loss` is the sum of the others. A NaN in the output is a NaN in the
            terms.

        Raises:
            ValueError: `targets` or `output` lacks something, or the output's grids do not fit the targets.
        """
        del seed
        terms = {name: options.weight * self._term(name, output, targets) for name, options in self._options.items()}
        return {**terms, TOTAL: tf.add_n(list(terms.values()))}

    def _term(self, name: str, output: Any, targets: Mapping[str, tf.Tensor]) -> tf.Tensor:
        term = TERMS[name]
        prediction = getattr(output, term.prediction, None)
        if prediction is None:
            raise ValueError(f"loss_options.{name} is set, but the model has no {term.prediction}.")
        missing = [key for key in (term.target, term.weight) if key is not None and key not in targets]
        if missing:
            raise ValueError(f"The batch lacks {', '.join(missing)}, which loss_options.{name} needs.")
        size = (prediction.shape[1] or tf.shape(prediction)[1], prediction.shape[2] or tf.shape(prediction)[2])
        coarse = targets[term.target].shape[1:3]
        if None not in (*coarse, *prediction.shape[1:3]) and coarse[0] < prediction.shape[1]:
            size = (coarse[0], coarse[1])
        target, weight = (
            None if key is None else mask_targets.subsample(targets[key], *size) for key in (term.target, term.weight)
        )
        prediction = mask_targets.subsample(tf.cast(prediction, tf.float32), *size)
        if term.losses is None:
            losses = pixelwise.softmax_cross_entropy(
                prediction, tf.cast(target, tf.int32), ignore_label=self._ignore_label
            )
        else:
            losses = term.losses(prediction, tf.cast(target, tf.float32))
        if weight is None:
            return losses
        weight = tf.cast(weight, tf.float32)
        if weight.shape.rank < losses.shape.rank:
            weight = weight[..., tf.newaxis]
        weighted = losses * weight
        if weighted.shape.rank == 3:
            weighted = tf.reshape(weighted, [tf.shape(weighted)[0], weighted.shape[1] * weighted.shape[2]])
        return pixelwise.reduce(weighted, top_k_percent=self._options[name].top_k_percent)


def _check(options: Mapping[str, Any]) -> None:
    for field, value in options.items():
        if field not in TERMS:
            raise ValueError(
                f"loss_options.{field} has no meaning for models of pixels. Their losses: {', '.join(TERMS)}."
            )
        expected = TERMS[field].name
        if value.name not in ("", expected):
            raise ValueError(f"loss_options.{field}.name: expected {expected!r}, got {value.name!r}.")
        if not 0 < value.top_k_percent <= 1:
            raise ValueError(f"loss_options.{field}.top_k_percent must be in (0, 1], got {value.top_k_percent}.")
        if field == "depth_loss" and value.top_k_percent != 1:
            raise ValueError("loss_options.depth_loss is no sum over pixels: remove its top_k_percent.")
    if not options:
        raise ValueError(f"loss_options is empty. Set at least one of: {', '.join(TERMS)}.")
