"""The one place that chooses the Keras in use.

The models are written for Keras 2. TensorFlow 2.15 carries it as `tf.keras`; from TensorFlow 2.16 on `tf.keras` is
Keras 3 unless the package `tf_keras` (Keras 2) is installed and asked for. Import this module before anything else
touches `tf.keras`, and take `keras` from here.
"""

import importlib.util
import os

import tensorflow as tf

if tuple(int(part) for part in tf.__version__.split(".")[:2]) >= (2, 16):
    if importlib.util.find_spec("tf_keras") is None:
        raise ImportError(
            f"TensorFlow {tf.__version__} carries Keras 3, but deeplab2_kmax needs Keras 2. "
            f"Install it with: pip install 'tf_keras~={'.'.join(tf.__version__.split('.')[:2])}.0'"
        )
    # Read by TensorFlow (and by Orbit) when tf.keras is first touched.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

keras = tf.keras

if getattr(keras, "__version__", "2").startswith("3"):
    raise ImportError(
        f"tf.keras is Keras {keras.__version__}, but deeplab2_kmax needs Keras 2. Import deeplab2_kmax before other "
        "users of tf.keras, or set the environment variable TF_USE_LEGACY_KERAS=1."
    )
