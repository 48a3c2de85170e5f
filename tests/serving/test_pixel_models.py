"""Serving models of pixels: the folded network and its maps are those of the model in memory."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config as configs
from deeplab2_kmax.models import deeper_lab, outputs
from deeplab2_kmax.serving import network
from tests import backbone_checks, shared

OVERRIDE = """
eval_dataset_options { crop_size: [65, 65] min_resize_value: [65, 65] max_resize_value: [65, 65] }
evaluator_options { add_flipped_images: true }
"""
MAPS = {
    "panoptic_deeplab": sorted(network.MAPS),
    "deeplab_v3": ["semantic_pred", "semantic_scores"],
    "lr_aspp": ["semantic_pred", "semantic_scores"],
    "spgnet": ["semantic_pred", "semantic_scores"],
    "deeper_lab": sorted(network.MAPS),
    "recursive_feature_pyramid": sorted(network.MAPS),
}
SLOW = ("deeplab_v3", "lr_aspp", "spgnet", "deeper_lab", "recursive_feature_pyramid")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MAPS])
def test_network_equals_the_model_in_memory(name, picture):
    override = OVERRIDE if name != "deeper_lab" else OVERRIDE.replace("add_flipped_images: true", "eval_scales: [1, 2]")
    config = configs.load(shared.ROOT / f"configs/tiny/{name}_synthetic.textproto", [override])
    model = network.load_model(config, None)
    if name == "deeper_lab":
        backbone_checks.randomize(model)  # of logits around 0 the least difference decides what is a keypoint
    served = network.Network(model, config, include_logits=True)
    images = tf.constant(picture[np.newaxis], tf.float32)
    got = tf.function(lambda: network.serve(served, config.eval_dataset_options, images))()
    expected = network.serve(
        lambda padded: outputs.deeplab2_outputs(model(padded, training=False)), config.eval_dataset_options, images
    )
    assert sorted(got) == sorted(expected)
    for key, value in expected.items():
        if value.dtype.is_integer:
            assert np.mean(got[key] == value) > 0.99, key
        else:
            np.testing.assert_allclose(got[key], value, atol=1e-3 * (1 + np.abs(value).max()), err_msg=key)
    lean = tf.function(network.Network(model, config)).get_concrete_function(tf.TensorSpec([1, 65, 65, 3]))
    assert sorted(lean.structured_outputs) == MAPS[name]
    sizes = {key: tuple(value.shape[1:3]) for key, value in got.items()}
    # These stay as the network gives them.
    assert {sizes.pop(key) for key in ("semantic_logits", "guide_logits", *deeper_lab.MAPS) if key in sizes} == {
        (65, 65)
    }
    assert set(sizes.values()) == {(50, 90)}
