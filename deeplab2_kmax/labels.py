"""Panoptic ids: one integer packs a class and an instance, `class_id * label_divisor + instance_id`.

Instance 0 stands for stuff, crowd regions and void; void is `ignore_label * label_divisor`.
Works on NumPy arrays, tensors and integers alike.
"""

from typing import TypeVar

Ids = TypeVar("Ids")


def pack(class_ids: Ids, instance_ids: Ids, label_divisor: int) -> Ids:
    """The panoptic ids of two maps of the same shape."""
    return class_ids * label_divisor + instance_ids  # type: ignore[operator, return-value]


def class_of(panoptic_ids: Ids, label_divisor: int) -> Ids:
    """The class of every panoptic id."""
    return panoptic_ids // label_divisor  # type: ignore[operator, return-value]


def instance_of(panoptic_ids: Ids, label_divisor: int) -> Ids:
    """The instance of every panoptic id, 0 for stuff, crowd and void."""
    return panoptic_ids % label_divisor  # type: ignore[operator, return-value]
