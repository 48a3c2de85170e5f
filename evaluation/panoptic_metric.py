"""What the metrics of panoptic labels share: which labels and things there are, capacities, and means over classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from evaluation import additive, segments

GROUPS = ("", "_things", "_stuff")


class PanopticMetric(additive.AdditiveMetric):
    """A metric of label maps `class * label_divisor + instance`, some of whose classes are things.

    An image or frame with more than `max_segments` segments in a map, or with labels outside of the classes, is left
    out; the states `overflow` and `invalid` count such images.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int,
        label_divisor: int,
        thing_ids: Sequence[int],
        *,
        max_segments: int,
        name: str,
    ):
        """Checks and keeps what all these metrics are made of.

        Args:
            num_classes: C; includes the void class where that is one of them (COCO, ADE20K).
            ignore_label: class of void, inside the classes or outside (255).
            label_divisor: labels are `class * label_divisor + instance`.
            thing_ids: class ids of things; the others, void aside, are stuff.
            max_segments: capacity per image or frame, and map.
            name: name of the metric.

        Raises:
            ValueError: thing ids that are no class or void, no room for a segment, or labels beyond int32.
        """
        super().__init__(name=name)
        self.labels = segments.Labels(int(num_classes), int(ignore_label), int(label_divisor)).check()
        self.thing_ids = tuple(sorted(int(i) for i in thing_ids))
        strange = [i for i in self.thing_ids if not 0 <= i < self.labels.num_classes or i == self.labels.ignore_label]
        if strange:
            raise ValueError(
                f"Expected thing_ids in [0, {num_classes}) without the ignored class, {ignore_label}, got {strange}."
            )
        self.max_segments = segments.check_capacity(max_segments)
        self.overflow = self.add_total("overflow")
        self.invalid = self.add_total("invalid")

    def get_config(self) -> dict:
        """The arguments of `__init__`."""
        return {
            "name": self.name,
            **self.labels._asdict(),
            "thing_ids": self.thing_ids,
            "max_segments": self.max_segments,
        }

    def things(self) -> tf.Tensor:
        """Which classes are things: [C] bool."""
        return segments.members(self.thing_ids, self.labels)

    def means(self, per_class: Mapping[str, tf.Tensor], occurs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Means over the classes that occur: values [..., C] and [..., C] bool -> [...] each.

        The names get no suffix for all classes, `_things` and `_stuff` for those; `n` with these suffixes is the number
        of classes. Means over no class are 0.
        """
        things = self.things()
        result: dict[str, tf.Tensor] = {}
        for suffix, members in zip(GROUPS, (occurs, occurs & things, occurs & ~things)):
            weights = tf.cast(members, tf.float64)
            count = tf.reduce_sum(weights, axis=-1)
            for name, values in per_class.items():
                result[name + suffix] = tf.math.divide_no_nan(tf.reduce_sum(values * weights, axis=-1), count)
            result["n" + suffix] = count
        return result
