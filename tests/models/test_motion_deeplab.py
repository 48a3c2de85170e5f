"""Motion-DeepLab: what it sees and learns, how a video goes through it, what it starts from."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import structures
from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import restore, surgery
from deeplab2_kmax.models import motion_deeplab, panoptic_deeplab, passes
from deeplab2_kmax.postprocess import center_tracking
from deeplab2_kmax.protos import model_pb2
from tests.models import small

SIZE = (33, 65)
OPTIONS = """
decoder { feature_key: "res5" decoder_channels: 8 aspp_channels: 8 aspp_use_only_1x1_proj_conv: true }
motion_deeplab {
  low_level { feature_key: "res2" channels_project: 4 }
  semantic_head { output_channels: 5 head_channels: 8 }
  instance {
    center_head { output_channels: 1 head_channels: 4 }
    regression_head { output_channels: 2 head_channels: 4 }
  }
  motion_head { output_channels: 2 head_channels: 4 }
}
"""
PANOPTIC = OPTIONS.replace("  motion_head { output_channels: 2 head_channels: 4 }\n", "").replace(
    "motion_", "panoptic_"
)
CLASSES = structures.MaskClasses((1, 2), (0, 3, 4), ignore_label=255, label_divisor=1000)


def one_square(maps, size):
    """A post-processing that finds the same object wherever it looks."""
    panoptic = np.zeros((1, *size), np.int32)
    panoptic[0, 10:17, 20:31] = 1001
    zeros = tf.zeros(panoptic.shape)
    semantic = tf.constant(panoptic // 1000)
    return structures.CenterMaps(tf.constant(panoptic), semantic, semantic, zeros, zeros, zeros)


class Backbone(keras.Model):
    """Two convolutions, for what the model makes of features."""

    def __init__(self):
        super().__init__()
        self.stem = keras.layers.Conv2D(4, 5, strides=4, padding="same", activation="relu")
        self.deep = keras.layers.Conv2D(8, 5, strides=8, padding="same", activation="relu")

    def call(self, images, training=False):
        fine = self.stem(images)
        deep = self.deep(fine)
        levels = {name: deep if name.endswith("5") else fine for name in structures.Pyramid._fields}
        return structures.Pyramid(**levels)


def build(module=motion_deeplab, text=OPTIONS, postprocess=None):
    options = text_format.Parse(text, model_pb2.ModelOptions())
    kit = small.kit(Backbone())._replace(postprocess=postprocess)
    model = module.build(options, kit, passes=[passes.Pass()])
    model.build_variables()
    return model


@pytest.fixture(scope="module")
def model():
    return build(postprocess=center_tracking.CenterTracking(one_square, CLASSES, sigma=2.0))


@pytest.fixture(scope="module")
def frames():
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [3, 1, *SIZE, 3]), tf.float32)


def test_every_weight_learns_and_has_a_name_in_deeplab2(model, frames):
    images = tf.concat([frames[0], frames[1], tf.random.stateless_uniform([1, *SIZE, 1], [1, 2])], axis=-1)
    with tf.GradientTape() as tape:
        output = model(images, training=True)
        maps = {key: value for key, value in output._asdict().items() if value is not None}
        loss = sum(tf.reduce_mean(tf.square(values - 1)) for values in maps.values())
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "semantic_logits": (1, *SIZE, 5),
        "center_heatmap": (1, *SIZE),
        "offset_map": (1, *SIZE, 2),
        "frame_offset_map": (1, *SIZE, 2),
    }
    gradients = tape.gradient(loss, model.trainable_variables)
    assert [v.name for v, g in zip(model.trainable_variables, gradients) if g is None or not np.isfinite(g).all()] == []
    names = restore._model_names([path for path in restore.built_variables(model) if "backbone/" not in path])
    assert None not in names.values()
    assert "motion_regression_head_last_layer/kernel" in names.values()
    assert len(set(names.values())) == len(names)


def test_a_frame_is_seen_with_the_one_before_and_its_centres(model, frames):
    state = model.start(SIZE)
    found = []
    for frame in frames:
        output, state = model.step(frame, state)
        found.append(output)
        assert np.array_equal(np.unique(output.maps.panoptic), [0, 1001])
    assert state.heatmap.shape == (1, *SIZE, 1)
    assert float(state.heatmap[0, 13, 25, 0]) == 1.0
    assert state.tracks.rows.numpy().tolist() == [[25, 13, 1001, 60, 1]]
    assert int(state.tracks.next_number) == 2
    # By hand: the first frame is its own previous one, without centres; then they are drawn.
    for index, before, heat in ((0, 0, tf.zeros_like(state.heatmap)), (1, 0, state.heatmap), (2, 1, state.heatmap)):
        images = tf.concat([frames[index], frames[before], heat], axis=-1)
        for name, values in model.predict(images).items():
            if name == "frame_offset_map":
                expected = passes.resize_map(name, values, SIZE)
                np.testing.assert_allclose(found[index].frame_offset_map, expected, atol=1e-5)
    np.testing.assert_array_equal(model(tf.concat([frames[0]] * 2, axis=-1)).semantic_logits, found[0].semantic_logits)


def test_records_give_what_frames_give_and_equal_frames_begin_no_video(model, frames):
    states = [model.start(SIZE), model.start(SIZE)]
    for frame, before in ((0, 0), (0, 0), (1, 0)):
        first, states[0] = model.step(frames[frame], states[0])
        second, states[1] = model.step_record(tf.concat([frames[frame], frames[before]], axis=-1), states[1])
        np.testing.assert_array_equal(first.frame_offset_map, second.frame_offset_map)
    assert int(states[1].tracks.next_number) == 2
    tf.nest.map_structure(np.testing.assert_array_equal, *states)
    tf.nest.map_structure(
        lambda spec, part: spec.shape.assert_is_compatible_with(part.shape), model.state_spec(SIZE), states[0]
    )


def test_a_widened_panoptic_deeplab_says_what_it_said(model, frames, tmp_path):
    """By itself as initial checkpoint, and after the surgery; whatever was before the frame."""
    images = build(panoptic_deeplab, PANOPTIC)
    plain = tf.train.Checkpoint(images).write(str(tmp_path / "panoptic"))
    changed = surgery.operate(plain, tmp_path / "wide", input_channels=7)
    assert list(changed.values()) == [((5, 5, 3, 4), (5, 5, 7, 4))]
    expected = images(frames[0], training=False)
    for path in (plain, tmp_path / "wide"):
        other = build()
        report = restore.load_initial(other, path)
        assert report.mismatched == {}
        assert {path.split("/")[0] for path in report.missing} == {"motion_head"}
        found = other(tf.concat([frames[0], frames[1], tf.ones([1, *SIZE, 1])], axis=-1), training=False)
        for name in ("semantic_logits", "center_heatmap", "offset_map"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_mirrored_passes_are_averaged(model, frames):
    """Mirrored images under mirrored passes give mirrored maps, offsets with x negated."""
    both = passes.make([1.0], add_mirrored=True)
    model.passes, kept = both, model.passes
    try:
        images = tf.concat([frames[0], frames[1]], axis=-1)
        plain = model.predict(images)["frame_offset_map"]
        mirrored = model.predict(tf.reverse(images, [2]))["frame_offset_map"]
    finally:
        model.passes = kept
    np.testing.assert_allclose(tf.reverse(mirrored, [2]) * [1.0, -1.0], plain, atol=1e-4)
