"""The one strategy of two replicas that all tests of a process share.

TensorFlow numbers collective operations per strategy from the same start: a second strategy on the same devices would
meet the shapes of the first and fail.
"""

import functools

import pytest
import tensorflow as tf


@functools.cache
def two() -> tf.distribute.Strategy:
    """A MirroredStrategy over two logical CPUs, which tests/conftest.py makes."""
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("needs two logical devices, set before TensorFlow starts")
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
