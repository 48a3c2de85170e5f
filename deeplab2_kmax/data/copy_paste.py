"""Panoptic copy-paste between two samples.

k-means Mask Transformer (2022, arXiv 2207.04044).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax.data import augment, datasets

CHOICES = ("random", "none", "all")


class Options(NamedTuple):
    """Which segments of the pasted sample are kept: a random draw of them, none or all, per kind."""

    thing: str = "random"
    stuff: str = "random"
    void: str = "none"

    def check(self) -> None:
        for kind, choice in self._asdict().items():
            if choice not in CHOICES:
                raise ValueError(f"panoptic_copy_paste_{kind}_option {choice!r}: expected one of {', '.join(CHOICES)}")


def padding_id(dataset: datasets.Dataset) -> int:
    """The label that pads a sample to be pasted: it differs from void, which may be pasted."""
    return dataset.void_id + 1


def paste(
    image: tf.Tensor,
    label: tf.Tensor,
    pasted_image: tf.Tensor,
    pasted_label: tf.Tensor,
    *,
    dataset: datasets.Dataset,
    options: Options,
    seed: tf.Tensor,
    source: tf.Tensor | str = "",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Copies segments of one sample over another: float32 images [H, W, 3], int32 labels [H, W, 1].

    Instance i > 0 of the pasted sample becomes label_divisor - 1 - i, so that the two never meet.

    Raises:
        InvalidArgumentError: an instance number of label_divisor // 2 or more; `source` says where.
    """
    divisor = dataset.label_divisor
    check = tf.debugging.Assert(
        tf.maximum(tf.reduce_max(label % divisor), tf.reduce_max(pasted_label % divisor)) < divisor // 2,
        [source, f"copy-paste needs instance numbers below label_divisor // 2 = {divisor // 2} in both samples"],
    )
    with tf.control_dependencies([check] if check is not None else []):
        ids, index = tf.unique(tf.reshape(pasted_label, [-1]))
    keep = tf.gather(_keep(ids, dataset, options, seed), index)
    keep = tf.reshape(keep, tf.shape(pasted_label))
    instance = pasted_label % divisor
    renumbered = tf.where(instance > 0, pasted_label - instance + divisor - 1 - instance, pasted_label)
    return tf.where(keep, pasted_image, image), tf.where(keep, renumbered, label)


def _keep(ids: tf.Tensor, dataset: datasets.Dataset, options: Options, seed: tf.Tensor) -> tf.Tensor:
    """Which of the distinct labels are pasted, [S] bool. Crowd regions count as things."""
    count_seed, order_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    num_drawn = augment.uniform_int(count_seed, tf.size(ids) + 1)
    order = tf.argsort(tf.argsort(tf.random.stateless_uniform(tf.shape(ids), order_seed)))
    drawn = order < num_drawn
    things = tf.constant(dataset.thing_ids, tf.int32)
    is_thing = tf.reduce_any((ids // dataset.label_divisor)[:, tf.newaxis] == things, axis=1)
    is_void = ids == dataset.void_id
    is_padding = ids == padding_id(dataset)
    by_choice = {"random": drawn, "none": tf.zeros_like(drawn), "all": tf.ones_like(drawn)}
    keep = tf.where(is_thing, by_choice[options.thing], by_choice[options.stuff])
    keep = tf.where(is_void, by_choice[options.void], keep)
    return keep & ~is_padding
