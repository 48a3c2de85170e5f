"""The head of a bounded depth (ViP-DeepLab, 2020, arXiv 2012.05258)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deeplab2_kmax.heads import convolutional
from deeplab2_kmax.layers import resize, shapes


class DepthHead(convolutional.ConvHead):
    """Depth in (lowest, highest) at twice the features' size: [B, h, w, C] -> [B, 2h - 1, 2w - 1, 1] float32.

    The features are made larger first. A convolutional head follows, and a sigmoid over the range.
    """

    def __init__(self, channels: int, *, lowest: float = 0.0, highest: float, **kwargs: Any):
        """`lowest` and `highest`: in metres. Other arguments as ConvHead's.

        Raises:
            ValueError: the range is empty.
        """
        if not lowest < highest:
            raise ValueError(f"A depth head needs a range of metres, got {lowest:g} to {highest:g}.")
        super().__init__(channels, 1, **kwargs)
        self.lowest, self.highest = lowest, highest

    def call(self, x: tf.Tensor, training: bool | None = False) -> tf.Tensor:
        height, width = (resize.scaled_side(side, 2.0) for side in shapes.of(x)[1:3])
        logits = super().call(resize.bilinear(x, (height, width)), training=training)
        return self.lowest + tf.sigmoid(logits) * (self.highest - self.lowest)
