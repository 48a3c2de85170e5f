"""Serving models of pixels: the folded network and its maps are those of the model in memory."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config as configs
from deeplab2_kmax.models import outputs
from deeplab2_kmax.serving import network
from tests import shared

OVERRIDE = """
eval_dataset_options { crop_size: [65, 65] min_resize_value: [65, 65] max_resize_value: [65, 65] }
evaluator_options { add_flipped_images: true }
"""
MAPS = {
    "panoptic_deeplab": sorted(network.MAPS),
    "deeplab_v3": ["semantic_pred", "semantic_scores"],
}


@pytest.mark.parametrize("name", ["panoptic_deeplab", pytest.param("deeplab_v3", marks=pytest.mark.slow)])
def test_network_equals_the_model_in_memory(name, picture):
    config = configs.load(shared.ROOT / f"configs/tiny/{name}_synthetic.textproto", [OVERRIDE])
    model = network.load_model(config, None)
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
    lean = tf.function(network.Network(model, config))(tf.zeros([1, 65, 65, 3]))
    assert sorted(lean) == MAPS[name]
    sizes = {key: tuple(value.shape[1:3]) for key, value in got.items()}
    assert sizes.pop("semantic_logits") == (65, 65)
    assert set(sizes.values()) == {(50, 90)}
