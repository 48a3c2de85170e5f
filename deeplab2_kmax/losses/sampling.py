"""Drawing pixels without replacement, small objects more often (or less often) than their area says.

Scale-balanced sampling of CMT-DeepLab: Clustering Mask Transformers for Panoptic Segmentation (2022, arXiv
2206.08948), by Gumbel top-k. Randomness enters as a seed.
"""

from __future__ import annotations

import tensorflow as tf

_NEVER = -99999.0  # Log-weight of void pixels: drawn only when all others are.


def uniform_noise(seed: tf.Tensor, batch: tf.Tensor | int, num_pixels: tf.Tensor | int) -> tf.Tensor:
    """[B, P] uniform numbers in (0, 1), a pure function of the seed ([2] integers) on every device."""
    return tf.random.stateless_uniform([batch, num_pixels], seed, minval=1e-30, alg="philox")


def draw_pixels(
    inverse_areas: tf.Tensor, labelled: tf.Tensor, noise: tf.Tensor, *, num_samples: int, temperature: float
) -> tf.Tensor:
    """Draws pixels with weights `inverse_areas ** temperature`.

    Args:
        inverse_areas: [B, P] float32, above 0.
        labelled: [B, P] bool; pixels without a label are drawn only when there are too few others.
        noise: [B, P] uniform numbers in (0, 1).
        num_samples: how many; all P pixels if there are not so many.
        temperature: above 1 favours small objects.

    Returns:
        [B, min(num_samples, P)] int32 pixel numbers, all different, in no particular order.
    """
    log_weights = temperature * tf.math.log(inverse_areas) + tf.where(labelled, 0.0, _NEVER)
    scores = log_weights - tf.math.log(-tf.math.log(noise))
    num_pixels = scores.shape[1] if scores.shape[1] is not None else tf.shape(scores)[1]
    num_drawn = min(num_samples, num_pixels) if isinstance(num_pixels, int) else tf.minimum(num_samples, num_pixels)
    return tf.math.top_k(tf.stop_gradient(scores), num_drawn, sorted=False).indices
