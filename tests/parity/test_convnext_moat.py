"""ConvNeXt and MOAT answer as DeepLab2's do, with its checkpoints rebuilt under its own names."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore
from tests import shared

CASES = [("convnext_tiny", "kmax_convnext_tiny"), ("moat0", "moat0_pretrain_224_1k")]


@pytest.mark.parametrize("case, name", CASES)
def test_backbone(case, name, tmp_path):
    manifest, arrays = shared.case(case)
    backbone = backbones.BACKBONES[name]()
    images = tf.constant(arrays["input"])
    compared = set()

    def compare(prefix):
        pyramid = tf.function(backbone)(images, training=False)
        for field, actual in pyramid._asdict().items():
            key = prefix + field
            if field == "output":
                np.testing.assert_array_equal(actual, pyramid.res5)
                continue
            spec, tolerance = manifest["outputs"][key], manifest["outputs"][key]["tolerance"]
            assert list(actual.shape) == spec["shape"]
            sampled = np.asarray(actual).reshape(-1)[:: spec.get("step", 1)]
            np.testing.assert_allclose(
                sampled, arrays[key].reshape(-1), rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=key
            )
            compared.add(key)

    if "variable_scale" in manifest:
        restore.load_deeplab2_checkpoint(backbone, shared.write_checkpoint(case, tmp_path / "live", live=True))
        compare("live_")
    restore.load_deeplab2_checkpoint(backbone, shared.write_checkpoint(case, tmp_path / "plain"))
    compare("")
    assert compared == set(manifest["outputs"])


@pytest.mark.slow
@pytest.mark.parametrize("case, name", CASES)
@pytest.mark.parametrize("mode", ["eager", "xla", "bfloat16"])
def test_backbone_in_other_modes(case, name, mode, tmp_path):
    _, arrays = shared.case(case)
    images = tf.constant(arrays["input"])
    graph = backbones.BACKBONES[name]()
    prefix = shared.write_checkpoint(case, tmp_path / "plain")
    restore.load_deeplab2_checkpoint(graph, prefix)
    expected = tf.function(graph)(images, training=False)
    if mode == "eager":
        actual, tolerance = graph(images, training=False), 1e-4
    elif mode == "xla":
        actual, tolerance = tf.function(graph, jit_compile=True)(images, training=False), 1e-4
    else:
        before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        try:
            backbone = backbones.BACKBONES[name]()
            restore.load_deeplab2_checkpoint(backbone, prefix)
            actual, tolerance = tf.function(backbone)(images, training=False), 0.1
        finally:
            keras.mixed_precision.set_global_policy(before)
    for feature, right in zip(actual, expected):
        difference = np.asarray(tf.cast(feature, tf.float32)) - right
        assert np.abs(difference).max() < tolerance * np.abs(right).max()
