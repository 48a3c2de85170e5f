"""A tiny trained-looking model and its exports, shared by the tests of serving."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config as configs
from deeplab2_kmax._keras import keras
from deeplab2_kmax.data import datasets
from deeplab2_kmax.serving import export, network
from tests import shared
from tests.trainer import tiny

# Eight channels, a crop of 65x65, and thresholds at which a network without training sees something.
OVERRIDE = """
model_options {
  backbone { name: "kmax_tiny" }
  max_deeplab { auxiliary_semantic_head { output_channels: 9 head_channels: 8 } }
}
trainer_options { solver_options { batchnorm_momentum: 0.01 } }
eval_dataset_options { crop_size: [65, 65] min_resize_value: [65, 65] max_resize_value: [65, 65] }
evaluator_options {
  transformer_post_processing: "pixelwise" transformer_class_confidence_threshold: 0 pixel_confidence_threshold: 0
}
"""


@pytest.fixture(scope="session")
def dataset() -> datasets.Dataset:
    """A data set of one's own: the procedural one, with other names."""
    known = datasets.lookup("synthetic_panoptic")
    return dataclasses.replace(known, name="mine", class_names=tuple(f"my {name}" for name in known.class_names))


@pytest.fixture(scope="session")
def config(dataset, tmp_path_factory):
    tiny.install()
    path = tmp_path_factory.mktemp("dataset") / "classes.json"
    path.write_text(datasets.to_json(dataset))
    own = f'train_dataset_options {{ dataset: "{path}" }} eval_dataset_options {{ dataset: "{path}" }}'
    return configs.load(shared.ROOT / "configs/tiny/kmax_synthetic.textproto", [OVERRIDE, own])


@pytest.fixture(scope="session")
def model(config):
    """The model with random norms, so that folding them matters, whose statistics fit its features."""
    keras.utils.set_random_seed(0)
    model = network.load_model(config, None)
    random = np.random.RandomState(0)
    for variable in model.variables:
        leaf = variable.name.rsplit("/", 1)[-1].split(":")[0]
        if leaf in ("gamma", "beta"):
            variable.assign((leaf == "gamma") + 0.3 * random.standard_normal(variable.shape.as_list()))
    kernel = model.mask_predictor.class_head.kernel
    kernel.assign(0.02 * random.standard_normal(kernel.shape.as_list()))
    mask_gamma = model.mask_predictor.mask_norm.gamma
    mask_gamma.assign(tf.fill(mask_gamma.shape, 0.3))
    model(tf.constant(export._picture(65, 65)[np.newaxis], tf.float32), training=True)
    return model


@pytest.fixture(scope="session")
def checkpoint(model, tmp_path_factory) -> str:
    return tf.train.Checkpoint(model=model).write(str(tmp_path_factory.mktemp("checkpoint") / "ckpt-7"))


@pytest.fixture(scope="session")
def exported(config, checkpoint, tmp_path_factory) -> export.Export:
    return export.export(config, checkpoint, tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """Blobs of colour, [50, 90, 3] uint8."""
    return export._picture(50, 90)


@pytest.fixture(scope="session")
def image_file(picture, tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("images") / "blobs.png"
    path.write_bytes(tf.io.encode_png(picture).numpy())
    return path
