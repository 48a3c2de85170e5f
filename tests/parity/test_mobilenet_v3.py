"""MobileNetV3 answers as DeepLab2's does, with its checkpoint rebuilt under its own names."""

import numpy as np
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax.checkpoints import restore
from deeplab2_kmax.layers import norm
from tests import shared

NAME = "mobilenet_v3_small"
MOVING_MEANS = ("blocks/0/norm", "blocks/4/depthwise/norm", "blocks/9/project/norm")


def test_mobilenet_v3_small(tmp_path):
    manifest, arrays = shared.case(NAME)
    backbone = backbones.BACKBONES[NAME](norm=norm.batch_norm(momentum=0.99, epsilon=1e-5))
    images = tf.constant(arrays["input"])
    compared = set()

    def compare(name, actual):
        spec = manifest["outputs"][name]
        actual = np.asarray(actual)
        assert list(actual.shape) == spec["shape"]
        np.testing.assert_allclose(
            actual.reshape(-1)[:: spec.get("step", 1)],
            arrays[name].reshape(-1),
            rtol=spec["tolerance"]["rtol"],
            atol=spec["tolerance"]["atol"],
            err_msg=name,
        )
        compared.add(name)

    inference = tf.function(lambda: backbone(images, training=False))
    for live in (True, False):
        prefix = "live_" if live else ""
        report = restore.load_deeplab2_checkpoint(backbone, shared.write_checkpoint(NAME, tmp_path / "ckpt", live=live))
        assert len(report.loaded) == len(manifest["variables"])
        pyramid = inference()
        for level in range(1, 6):
            compare(f"{prefix}res{level}", getattr(pyramid, f"res{level}"))
            np.testing.assert_array_equal(getattr(pyramid, f"stage{level}"), getattr(pyramid, f"res{level}"))
        np.testing.assert_array_equal(pyramid.output, pyramid.res5)
    compare("train_res5", tf.function(lambda: backbone(images, training=True))().res5)
    variables = restore.variable_paths(backbone)
    for index, path in enumerate(MOVING_MEANS):
        compare(f"train_moving_mean_{index}", variables[f"{path}/moving_mean"])
    assert compared == set(manifest["outputs"])
