"""The depth head: its range and its grid."""

import math

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.heads import depth
from deeplab2_kmax.layers import activations, norm

PARTS = {"norm": norm.batch_norm(), "activation": activations.get("relu")}


def test_depth_lies_between_its_bounds():
    head = depth.DepthHead(4, lowest=2.0, highest=10.0, **PARTS)
    features = tf.random.stateless_normal([1, 3, 5, 6], [0, 1])
    head(features)
    head.last.kernel.assign(tf.zeros_like(head.last.kernel))
    for logit, metres in ((0.0, 6.0), (math.log(3.0), 8.0), (-100.0, 2.0), (100.0, 10.0)):
        head.last.bias.assign([logit])
        np.testing.assert_allclose(head(features), np.full([1, 5, 9, 1], metres), rtol=1e-5)


def test_a_range_needs_a_length():
    with pytest.raises(ValueError, match="a range of metres, got 0 to 0"):
        depth.DepthHead(4, highest=0.0, **PARTS)
