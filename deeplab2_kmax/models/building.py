"""What every model is built with, and what all of them do to images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.layers import activations
from deeplab2_kmax.layers import norm as norms

# The layers need no control flow on tensors. Without AutoGraph's rewriting they trace three times as fast.
plain_python = tf.autograph.experimental.do_not_convert


class Kit(NamedTuple):
    """What `build` of a model takes beside the options, of which it reads its own message."""

    backbone: keras.Model  # image in [-1, 1] -> Pyramid, or MemoryPyramid for MaX-DeepLab
    classes: structures.MaskClasses  # what the model's classes mean
    norm: norms.Norm  # makes the norms outside the backbone
    # Turns predictions into label maps in inference; None: predictions alone.
    postprocess: Callable[..., Any] | None = None

    def shared(self, activation: str) -> dict[str, Any]:
        """The arguments of all parts outside the backbone."""
        return {"norm": self.norm, "activation": activations.get(activation)}


def normalize(images: tf.Tensor) -> tf.Tensor:
    """Pixel values 0..255 of any type -> float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def stride_of(backbone: Any, feature: str) -> int:
    """The stride of a backbone's feature, by the name that a config gives it.

    Raises:
        ValueError: there is none of this name.
    """
    name = structures.pyramid_field(feature, "feature_key")
    return backbone.strides[-1 if name == "output" else int(name[-1]) - 1]
