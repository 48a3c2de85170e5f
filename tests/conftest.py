"""Settings every test shares."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from deeplab2_kmax._keras import keras  # noqa: E402

# pytest-xdist runs one process a core.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
# Two devices, so that tests can make a MirroredStrategy of two replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


# Graphs are millions of small objects in cycles. Looking through them again and again takes longer than many a test, so
# it happens once a file, when most of them are garbage; what outlives a file is not looked at again.
gc.set_threshold(500_000, 50, 1000)


@pytest.fixture(autouse=True, scope="module")
def _free_graphs():
    # Before a file, not after the last one, whose last test pytest still holds then.
    keras.backend.clear_session()
    gc.collect()
    gc.freeze()


# Of networks, steps and metrics at tiny sizes, whose graphs run once or twice, TensorFlow's rewriter of graphs takes
# longer than the run. It is on where its work matters: single layers, parity, exports, whole runs, slow tests.
_AS_WRITTEN = {
    "backbones",
    "configs",
    "evaluation",
    "losses",
    "models",
    "trainer",
    "transformer_decoders",
}


@pytest.fixture(autouse=True)
def _graphs_as_written(request):
    off = request.path.parent.name in _AS_WRITTEN and not request.node.get_closest_marker("slow")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off})
