"""ViP-DeepLab: pairs in training and inference, videos frame by frame and record by record, names of variables."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import name_maps, restore
from deeplab2_kmax.checkpoints.name_maps import deeplab as names
from deeplab2_kmax.models import outputs, passes, vip_deeplab
from deeplab2_kmax.postprocess import center_grouping, two_frames
from deeplab2_kmax.protos import model_pb2
from tests.models import small

OPTIONS = """
decoder { feature_key: "res5" decoder_channels: 8 aspp_channels: 8 atrous_rates: [1, 2, 3] }
vip_deeplab {
  low_level { feature_key: "res3" channels_project: 4 }
  semantic_head { output_channels: 5 head_channels: 8 }
  depth_head { output_channels: 1 head_channels: 4 min_value_after_activation: 2 max_value_after_activation: 10 }
  instance {
    low_level_override { feature_key: "res2" channels_project: 2 }
    instance_decoder_override {
      feature_key: "res5" decoder_channels: 4 aspp_channels: 4 aspp_use_only_1x1_proj_conv: true
    }
    center_head { output_channels: 1 head_channels: 4 }
    regression_head { output_channels: 2 head_channels: 4 }
    next_regression_head { output_channels: 2 head_channels: 4 }
  }
}
"""
SIZE = (33, 65)
PLAIN = (passes.Pass(),)
# Random weights find no centres above the usual threshold.
RULES = center_grouping.Rules(center_threshold=-1.0, nms_kernel=5, max_centers=8)


def build(wanted=PLAIN, depth=True) -> vip_deeplab.ViPDeepLab:
    options = text_format.Parse(OPTIONS, model_pb2.ModelOptions())
    if not depth:
        options.vip_deeplab.ClearField("depth_head")
    postprocess = two_frames.TwoFrames(RULES, small.CLASSES)
    kit = small.kit(small.backbone("resnet50"))._replace(postprocess=postprocess)
    keras.utils.set_random_seed(0)
    made = vip_deeplab.build(options, kit, passes=wanted)
    made.build_variables()
    random = np.random.RandomState(0)
    for head in (made.semantic_head, made.center_head, made.offset_head, made.next_offset_head):
        head.last.kernel.assign(random.normal(size=head.last.kernel.shape))
    images = tf.constant(random.uniform(0, 255, [1, *SIZE, 6]), tf.float32)
    kept, made.passes, made.postprocess = made.passes, PLAIN, None
    output = made(images, training=False)
    made.passes, made.postprocess = kept, postprocess
    # All classes are somewhere, and centres too.
    made.semantic_head.last.bias.assign(-tf.reduce_mean(output.semantic_logits, axis=[0, 1, 2]))
    made.center_head.last.bias.assign([1.0 - tf.reduce_mean(output.center_heatmap)])
    return made


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def frames():
    random = np.random.RandomState(1)
    return [tf.constant(random.uniform(0, 255, [1, *SIZE, 3]), tf.float32) for _ in range(4)]


@pytest.fixture(scope="module")
def streamed(model, frames):
    """The answers about all frames, in order."""
    return stream(model, frames)


def graph(model, step, channels):
    return tf.function(step, input_signature=[tf.TensorSpec([1, *SIZE, channels]), model.state_spec(SIZE)])


def stream(model, frames, in_graph=False):
    step = graph(model, model.step, 3) if in_graph else model.step
    state, answers = model.start(SIZE), []
    for frame in frames:
        answer, state = step(frame, state)
        answers.append(answer)
    return [*answers[1:], model.finish(state)]


def pair(frames, first=0):
    return tf.concat(frames[first : first + 2], axis=-1)


def test_training_gives_every_weight_a_gradient(model, frames):
    with tf.GradientTape() as tape:
        output = model(tf.concat([pair(frames), pair(frames, 1)], axis=0), training=True, seed=tf.constant([1, 2]))
        maps = {key: value for key, value in output._asdict().items() if value is not None}
        loss = sum(tf.reduce_mean(tf.square(values - 1)) for values in maps.values())
    assert {key: tuple(value.shape[1:]) for key, value in maps.items()} == {
        "semantic_logits": (*SIZE, 5),
        "center_heatmap": SIZE,
        "offset_map": (*SIZE, 2),
        "next_offset_map": (*SIZE, 2),
        "depth_pred": (*SIZE, 1),
    }
    gradients = tape.gradient(loss, model.trainable_variables)
    assert [v.name for v, g in zip(model.trainable_variables, gradients) if g is None or not np.isfinite(g).all()] == []


def test_a_pair_tells_of_both_frames(model, frames, streamed):
    output = model(pair(frames), training=False)
    assert isinstance(output.maps, structures.PairMaps)
    named = outputs.deeplab2_outputs(output)
    assert {"panoptic_pred", "next_panoptic_pred", "concat_next_panoptic_pred", "depth_pred"} <= named.keys()
    assert 2 <= np.min(output.depth_pred) < np.max(output.depth_pred) <= 10
    # As the first two frames of a video; the other order tells of the other frame.
    for name, values in streamed[0].maps._asdict().items():
        if values is not None:
            np.testing.assert_allclose(values, getattr(output.maps, name), atol=1e-5, err_msg=name)
    turned = model(tf.concat([frames[1], frames[0]], axis=-1), training=False)
    np.testing.assert_allclose(turned.semantic_logits, streamed[1].semantic_logits, atol=1e-4)
    assert np.abs(turned.next_offset_map - output.next_offset_map).max() > 0.1


def test_next_offsets_look_at_both_frames(model, frames):
    plain, other, same = (
        model(tf.concat(both, axis=-1), training=False)
        for both in ((frames[0], frames[1]), (frames[2], frames[1]), (frames[0], frames[2]))
    )
    assert np.abs(plain.next_offset_map - other.next_offset_map).max() > 0.01
    assert np.abs(plain.next_offset_map - same.next_offset_map).max() > 0.01
    np.testing.assert_allclose(plain.depth_pred, same.depth_pred, atol=1e-5)


def test_a_video_has_one_answer_for_every_frame_and_ids_that_go_on(model, frames, streamed):
    divisor = small.CLASSES.label_divisor
    assert len(streamed) == len(frames)
    for before, after in zip(streamed, streamed[1:-1]):
        carried, own = (maps.numpy() for maps in (before.maps.concat_next_panoptic, after.maps.panoptic))
        shared = {*np.unique(carried)} & {*np.unique(own)}
        assert {*np.unique(own // divisor)} <= {0, 1, 2, 3, 4}
        assert all((carried == one)[own == one].any() for one in shared if one % divisor)
    ids = {number for answer in streamed for number in np.unique(answer.maps.panoptic) if number % divisor}
    assert len(ids) > 2
    assert streamed[-1].next_offset_map is None


@pytest.mark.slow
def test_a_graph_gives_the_same_answers(model, frames, streamed):
    for eager, in_graph in zip(streamed, stream(model, frames, in_graph=True)):
        np.testing.assert_array_equal(eager.maps.panoptic, in_graph.maps.panoptic)
        np.testing.assert_allclose(eager.depth_pred, in_graph.depth_pred, atol=1e-4)


@pytest.mark.parametrize("mode", ["eager", pytest.param("graph", marks=pytest.mark.slow)])
def test_records_are_the_video(model, frames, streamed, mode):
    step = model.step_record
    if mode == "graph":
        step = graph(model, step, 6)
    state = model.start(SIZE)
    for first in range(3):
        answer, state = step(pair(frames, first), state)
        np.testing.assert_array_equal(answer.maps.panoptic, streamed[first].maps.panoptic)
        np.testing.assert_allclose(answer.depth_pred, streamed[first].depth_pred, atol=1e-4)
    # A record that does not go on where the last one ended has a network of its own.
    answer, _ = step(pair(frames), state)
    np.testing.assert_allclose(answer.semantic_logits, streamed[0].semantic_logits, atol=1e-4)


def test_every_frame_goes_through_the_network_once(model, frames, monkeypatch):
    seen = []
    backbone = model.backbone.call
    monkeypatch.setattr(model.backbone, "call", lambda x, **options: seen.append(len(x)) or backbone(x, **options))
    state = model.start(SIZE)
    seen.clear()
    for frame in frames:
        _, state = model.step(frame, state)
    assert seen == [1] * len(frames)
    seen.clear()
    state = model.start(SIZE)
    for first in range(3):
        _, state = model.step_record(pair(frames, first), state)
    assert seen == [1] * len(frames)


@pytest.mark.slow
def test_passes_are_averaged_over_both_frames(frames):
    several = build(passes.make([0.75, 1.0], add_mirrored=True))
    mirrored = [tf.reverse(frame, [2]) for frame in frames]
    one, other = (several(pair(given), training=False) for given in (frames, mirrored))
    for name in ("semantic_probs", "depth_pred"):
        np.testing.assert_allclose(getattr(one, name), tf.reverse(getattr(other, name), [2]), atol=1e-4, err_msg=name)
    turned = tf.reverse(other.next_offset_map, [2]) * [1.0, -1.0]
    np.testing.assert_allclose(one.next_offset_map, turned, atol=1e-2)
    np.testing.assert_array_equal(stream(several, frames, in_graph=True)[0].maps.panoptic, one.maps.panoptic)


def test_without_a_depth_head_there_is_no_depth(frames):
    output = build(depth=False)(pair(frames), training=False)
    assert output.depth_pred is None
    assert output.maps is not None


def test_names_of_variables_are_those_of_deeplab2(model):
    found = name_maps.NameMap(names.VIP_DEEPLAB).names(restore.variable_paths(model))
    assert [path for path, theirs in found.items() if theirs is None] == []
    assert len({*found.values()}) == len(found)
    expected = {
        "next_decoder/aspp/conv/kernel": "next_instance_decoder/_aspp/_proj_conv_bn_act/_conv/kernel",
        "next_decoder/projections/0/norm/beta": "next_instance_decoder/_low_level_conv1/_batch_norm/beta",
        "next_offset_head/last/kernel": "next_instance_regression_head_last_layer/kernel",
        "depth_head/last/bias": "depth_head_last_layer/bias",
        "depth_head/conv1/pointwise/conv/kernel": "depth_head_without_last_layer/_conv1_bn_act/_pointwise/_conv/kernel",
    }
    assert {path: found.get(path) for path in expected} == expected
