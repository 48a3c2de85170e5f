"""Serving models of video: the folded network gives the maps and the states of the model in memory."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import config as configs
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.serving import network, video_network
from tests import backbone_checks, shared
from tests.trainer import tiny

SIZE = (33, 65)
OVERRIDE = """
eval_dataset_options { crop_size: [33, 65] min_resize_value: [33, 65] max_resize_value: [33, 65] }
evaluator_options { center_score_threshold: 0 keep_k_centers: 20 }
"""


def build(name):
    """A model with random norms, so that folding them matters, that finds instances; and its functions."""
    tiny.install()
    config = configs.load(shared.ROOT / f"configs/tiny/{name}_synthetic.textproto", [OVERRIDE])
    config.model_options.backbone.CopyFrom(model_pb2.ModelOptions.BackboneOptions(name="kmax_tiny"))
    model = network.load_model(config, None)
    backbone_checks.randomize(model)
    model.center_head.last.bias.assign([1.0])
    return model, video_network.VideoNetwork(model, config)


def frames(count):
    return np.random.RandomState(0).randint(0, 255, [count, *SIZE, 3], np.uint8)


def operations(function):
    return [node.type for node in function.get_concrete_function().graph.get_operations()]


def test_norms_are_folded_and_the_network_is_the_same():
    model, served = build("motion_deeplab")
    spec = tf.nest.flatten(model.state_spec(SIZE))
    state = [tf.random.stateless_uniform(one.shape, [1, 2]) if one.dtype == tf.float32 else None for one in spec[:3]]
    state = [tf.constant(True), *state[1:], tf.zeros([0, 5], tf.int32), tf.constant(1)]
    images = tf.constant(frames(1), tf.float32)
    folded = tf.function(served.folded, input_signature=[tf.TensorSpec(images.shape), *spec])

    def observe(images, *parts):
        return tf.nest.flatten(model.observe(images, tf.nest.pack_sequence_as(model.state_spec(SIZE), parts)))

    plain = tf.function(observe, input_signature=folded.input_signature)
    expected = plain(images, *state)
    for _ in range(2):
        for part, other in zip(folded(images, *state), expected):
            np.testing.assert_allclose(part, other, rtol=1e-5, atol=1e-5)
        for variable in model.variables:  # later changes of the model do not reach it
            variable.assign(tf.zeros_like(variable))
    assert "Rsqrt" in operations(plain) and "Rsqrt" not in operations(folded)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["motion_deeplab", "vip_deeplab"])
def test_steps_equal_those_of_the_model(name):
    model, served = build(name)
    functions = video_network.Functions(served, delay=model.delay)
    step = tf.function(model.step, input_signature=[tf.TensorSpec([1, *SIZE, 3]), model.state_spec(SIZE)])
    got_state, state = functions.start(), model.start(SIZE)
    for frame in frames(3):
        got, got_state = functions.step(frame, got_state)
        answer, state = step(tf.constant(frame[np.newaxis], tf.float32), state)
        for part, expected in zip(got_state, tf.nest.flatten(state)):
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)
        expected = video_network.maps(answer, SIZE)
        assert sorted(got) == sorted(expected)
        for key in got:
            np.testing.assert_allclose(got[key], expected[key], rtol=1e-5, atol=1e-5, err_msg=key)
    assert len(np.unique(got["panoptic_pred"])) > 3
    if model.delay:
        last = video_network.maps(model.finish(state), SIZE)
        np.testing.assert_array_equal(functions.finish(SIZE, got_state)["panoptic_pred"], last["panoptic_pred"])
    assert "Rsqrt" not in operations(served.step)
