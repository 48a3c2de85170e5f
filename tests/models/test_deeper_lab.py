"""DeeperLab: its maps and their sizes, the decoder's grids, losses, several scales."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import pixel_terms
from deeplab2_kmax.models import deeper_lab, passes
from deeplab2_kmax.pixel_decoders import deeper_lab as decoders
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from deeplab2_kmax.structures import Pyramid
from tests.models import small

OPTIONS = """
decoder { feature_key: "res5" decoder_channels: 4 aspp_channels: 8 atrous_rates: [1, 2, 3] }
deeper_lab {
  low_level { feature_key: "res2" channels_project: 2 }
  semantic_head { output_channels: 5 head_channels: 4 }
  keypoint_head_channels: 4
}
"""
CHANNELS = {"keypoint_heatmap": 5, "short_offset_map": 10, "middle_offset_map": 16, "long_offset_map": 10}


@pytest.fixture(scope="module")
def model():
    options = text_format.Parse(OPTIONS, model_pb2.ModelOptions())
    kit = small.kit(small.backbone("resnet50", output_stride=16))
    model = deeper_lab.build(options, kit, passes=[passes.Pass()])
    model.build_variables()
    return model


def images(batch=1, height=33, width=65):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


def test_training_gives_maps_of_the_images_size_and_every_weight_a_gradient(model):
    with tf.GradientTape() as tape:
        output = model(images(batch=2), training=True, seed=tf.constant([1, 2]))
        maps = {key: value for key, value in output._asdict().items() if value is not None}
        loss = sum(tf.reduce_mean(tf.square(values - 1)) for values in maps.values())
    expected = {"semantic_logits": 5, **CHANNELS}
    assert {key: tuple(value.shape) for key, value in maps.items()} == {
        key: (2, 33, 65, channels) for key, channels in expected.items()
    }
    gradients = tape.gradient(loss, model.trainable_variables)
    assert [v.name for v, g in zip(model.trainable_variables, gradients) if g is None or not np.isfinite(g).all()] == []


def test_heads_work_at_stride_4_and_offsets_are_in_pixels(model):
    raw = model.predict(images())
    output = model(images(), training=False)
    assert {name: tuple(raw[name].shape[1:]) for name in CHANNELS} == {
        name: (9, 17, channels) for name, channels in CHANNELS.items()
    }
    for name in CHANNELS:
        factor = 4 if "offset" in name else 1
        np.testing.assert_allclose(getattr(output, name)[:, ::4, ::4], factor * raw[name], rtol=1e-4, atol=1e-5)


def test_a_coarse_cell_sees_the_fine_cells_it_covers():
    """A change of one fine cell reaches no farther than the two 7x7 convolutions on the coarse grid."""

    class Zero(tf.keras.layers.Layer):
        def call(self, x, training=False, pool_scale=1.0):
            return tf.zeros_like(x)

    decoder = decoders.DeeperLabDecoder(
        Zero(), feature="res4", channels=2, norm=small.NORM, activation=tf.nn.relu, conv_type="standard_conv"
    )
    fine = np.random.RandomState(0).standard_normal([1, 129, 5, 3]).astype(np.float32)
    empty = dict.fromkeys(Pyramid._fields)

    def run(low):
        return decoder(Pyramid(**{**empty, "res2": tf.constant(low), "res4": tf.zeros([1, 33, 2, 4])})).numpy()

    before = run(fine)
    assert before.shape == (1, 129, 5, 2)
    fine[0, 66] += 1.0  # in coarse row 16, which has fine rows 64 to 67
    changed = np.flatnonzero(np.abs(run(fine) - before).max(axis=(0, 2, 3)) > 0)
    assert changed.min() >= 4 * (16 - 6) and changed.max() <= 4 * (16 + 6) + 3
    assert {64, 65, 66, 67} <= set(changed)


def test_several_scales_give_offsets_in_pixels_of_the_image(model):
    model.passes = passes.make([1.0, 2.0])
    try:
        output = model(images(), training=False)
    finally:
        model.passes = (passes.Pass(),)
    assert tuple(output.middle_offset_map.shape) == (1, 33, 65, 16)
    single = [model(x, training=False) for x in (images(), tf.image.resize(images(), [65, 129]))]
    assert np.isfinite(output.long_offset_map).all() and np.isfinite(single[1].long_offset_map).all()


LOSSES = """
keypoint_loss { name: "sigmoid_cross_entropy" weight: 2 }
short_offset_loss { name: "l1" }
long_offset_loss { name: "l1" weight: 0.5 }
"""


def test_losses_by_hand():
    loss = pixel_terms.PixelLoss(text_format.Parse(LOSSES, trainer_pb2.LossOptions()), ignore_label=255)

    class Output:
        keypoint_heatmap = tf.zeros([1, 5, 9, 5])
        short_offset_map = tf.zeros([1, 5, 9, 10])
        long_offset_map = tf.reshape(tf.range(450, dtype=tf.float32), [1, 5, 9, 10])

    targets = {  # at every fourth pixel: two rows, three columns
        "keypoint_gt": np.zeros([1, 2, 3, 5], np.float32),
        "keypoint_loss_weight": np.array([[[1, 0, 1], [1, 1, 1]]], np.float32),
        "short_offset_gt": np.zeros([1, 2, 3, 10], np.float32),
        "long_offset_gt": np.zeros([1, 2, 3, 10], np.float32),
        "long_offset_loss_weight": np.array([[[0, 0, 0], [0, 0, 1]]], np.float32),
    }
    targets["keypoint_gt"][0, 1, 2, [1, 4]] = 1
    targets["short_offset_gt"][0, 1, 2, 2:4] = [3, 5]  # of the second keypoint, in its disc
    targets["short_offset_gt"][0, 1, 2, 4:6] = [7, 7]  # of the third, not in its disc
    terms = loss(Output, {key: tf.constant(value) for key, value in targets.items()})
    np.testing.assert_allclose(terms["keypoint_loss"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(terms["short_offset_loss"], 4.0, rtol=1e-6)  # what is exact is not counted
    np.testing.assert_allclose(terms["long_offset_loss"], 0.5 * np.mean(range(440, 450)), rtol=1e-6)
