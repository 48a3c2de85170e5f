"""Panoptic copy-paste between two samples.

k-means Mask Transformer (2022, arXiv 2207.04044).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from deeplab2_kmax.data import augment, datasets
from deeplab2_kmax.data.targets import segments

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
    index = tf.reshape(index, tf.shape(pasted_label)[:2])
    keep = _keep(ids, dataset, options, seed)
    instance = ids % divisor
    renumbered = tf.where(instance > 0, ids - instance + divisor - 1 - instance, ids)
    # -1 where nothing is pasted: one look-up per pixel decides, and labels are never negative.
    new = segments.paint(tf.where(keep, renumbered, -1), index)[..., tf.newaxis]
    # The choice as a product, which is exact with 0 and 1: tf.where with a mask of one channel takes twice as long.
    mask = tf.gather(tf.tile(tf.cast(keep, image.dtype)[:, tf.newaxis], [1, 3]), index)
    return pasted_image * mask + image * (1.0 - mask), tf.where(new >= 0, new, label)


def _keep(ids: tf.Tensor, dataset: datasets.Dataset, options: Options, seed: tf.Tensor) -> tf.Tensor:
    """Which of the distinct labels are pasted, [S] bool. Crowd regions count as things."""
    count_seed, order_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    num_drawn = augment.uniform_int(count_seed, tf.size(ids) + 1)
    order = tf.argsort(tf.argsort(tf.random.stateless_uniform(tf.shape(ids), order_seed)))
    drawn = order < num_drawn
    is_thing = segments.are_things(ids // dataset.label_divisor, dataset)
    is_void = ids == dataset.void_id
    is_padding = ids == padding_id(dataset)
    by_choice = {"random": drawn, "none": tf.zeros_like(drawn), "all": tf.ones_like(drawn)}
    keep = tf.where(is_thing, by_choice[options.thing], by_choice[options.stuff])
    keep = tf.where(is_void, by_choice[options.void], keep)
    return keep & ~is_padding
