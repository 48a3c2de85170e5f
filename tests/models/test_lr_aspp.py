"""LR-ASPP: the arithmetic of its head, its grid, its window at several scales, and the backbone's narrow end."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax import backbones
from deeplab2_kmax.models import lr_aspp, passes
from deeplab2_kmax.protos import model_pb2
from deeplab2_kmax.structures import Pyramid
from tests.models import small

OPTIONS = """
lr_aspp { num_classes: 3 channels: 4 pool_crop_size: [33, 65] pool_stride: [1, 2] }
"""


def backbone(**options):
    return backbones.BACKBONES["mobilenet_v3_small"](
        norm=small.NORM, output_stride=16, backbone_width_multiplier=0.1, reduce_last_block_filters=True, **options
    )


@pytest.fixture(scope="module")
def model():
    options = text_format.Parse(OPTIONS, model_pb2.ModelOptions())
    model = lr_aspp.build(options, small.kit(backbone()), passes=[passes.Pass()])
    model.build_variables()
    return model


def images(height, width, batch=1):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


def test_training_gives_classes_of_the_images_size_and_every_weight_a_gradient(model):
    with tf.GradientTape() as tape:
        output = model(images(33, 65, batch=2), training=True)
        loss = tf.reduce_mean(tf.square(output.semantic_logits - 1))
    assert tuple(output.semantic_logits.shape) == (2, 33, 65, 3)
    assert [name for name, value in output._asdict().items() if value is not None] == ["semantic_logits"]
    gradients = tape.gradient(loss, model.trainable_variables)
    assert [v.name for v, g in zip(model.trainable_variables, gradients) if g is None or not np.isfinite(g).all()] == []


def test_the_head_by_hand(model):
    """On 4 x 9 cells a window of 3 x 5 has 2 x 3 places in steps of 1 and 2, and the fine feature has the grid."""
    random = np.random.RandomState(1)
    fine, coarse = model.backbone.channels[2], model.backbone.channels[4]
    high = random.standard_normal([1, 4, 9, coarse]).astype(np.float32)
    low = random.standard_normal([1, 7, 17, fine]).astype(np.float32)
    weights = {
        layer: random.standard_normal(layer.kernel.shape[2:])
        for layer in (model.project.conv, model.gate, model.last, model.low_last)
    }
    before = {layer: layer.kernel.numpy() for layer in weights}
    for layer, kernel in weights.items():
        layer.kernel.assign(kernel[np.newaxis, np.newaxis])
    model.gate.bias.assign([0.5, -0.5, 1.0, 4.0])
    model.low_last.bias.assign([1.0, 2.0, 3.0])
    model.project.norm.moving_mean.assign(tf.zeros([4]))
    model.project.norm.moving_variance.assign(tf.ones([4]))
    empty = dict.fromkeys(Pyramid._fields)
    features = Pyramid(**{**empty, "res5": tf.constant(high), "res3": tf.constant(low)})
    got = model.decode(features, training=False)["semantic_logits"].numpy()
    for layer, kernel in before.items():
        layer.kernel.assign(kernel)

    pooled = np.stack([[high[0, y : y + 3, x : x + 5].mean((0, 1)) for x in (0, 2, 4)] for y in (0, 1)])
    gate = np.clip(pooled @ weights[model.gate] + model.gate.bias.numpy() + 3, 0, 6) * 0.16667
    assert gate.shape == (2, 3, 4)
    projected = np.maximum(high[0] @ weights[model.project.conv] / np.sqrt(1 + model.project.norm.epsilon), 0)
    gated = _stretched(_stretched(projected * _stretched(gate, 4, 9), 7, 17), 7, 17)
    expected = gated @ weights[model.last] + low[0] @ weights[model.low_last] + [1.0, 2.0, 3.0]
    np.testing.assert_allclose(got[0], expected, rtol=1e-3, atol=1e-3)


def _stretched(x, height, width):
    """Bilinear with aligned corners: along one axis, then the other."""
    for axis, size in ((0, height), (1, width)):
        at = np.linspace(0, x.shape[axis] - 1, size)
        below = np.minimum(at.astype(int), max(x.shape[axis] - 2, 0))
        above = np.minimum(below + 1, x.shape[axis] - 1)
        part = np.expand_dims(at - below, tuple(i for i in range(3) if i != axis))
        x = np.take(x, below, axis) * (1 - part) + np.take(x, above, axis) * part
    return x


def test_logits_are_at_stride_8_and_the_window_follows_the_scale_of_the_images(model, monkeypatch):
    assert model.pool_size == (3, 5)  # of 33 x 65 pixels at stride 16
    assert tuple(model.predict(images(65, 129))["semantic_logits"].shape) == (1, 9, 17, 3)
    seen = []
    means = lr_aspp.pooling.window_means
    monkeypatch.setattr(
        lr_aspp.pooling,
        "window_means",
        lambda x, window, *, scale, steps: (
            seen.append(tuple(means(x, window, scale=scale, steps=steps).shape))
            or means(x, window, scale=scale, steps=steps)
        ),
    )
    model.passes = passes.make([1.0, 2.0])
    try:
        model.predict(images(65, 129))
    finally:
        model.passes = (passes.Pass(),)
    # 5 x 9 cells with a window of 3 x 5: 3 x 3 places; 9 x 17 cells with one of 5 x 9: 5 x 5.
    assert [shape[1:3] for shape in seen] == [(3, 3), (5, 5)]


def test_the_narrow_backbone_has_half_the_channels_behind_level_4():
    wide = {}
    for reduced in (False, True):
        made = backbones.BACKBONES["mobilenet_v3_large"](
            norm=small.NORM, output_stride=16, reduce_last_block_filters=reduced
        )
        wide[reduced] = (made.channels[2], made.channels[4])
    assert wide == {False: (120, 960), True: (120, 480)}


def test_an_unset_window_is_the_whole_map():
    options = text_format.Parse("lr_aspp { num_classes: 3 }", model_pb2.ModelOptions())
    model = lr_aspp.build(options, small.kit(backbone()), passes=[passes.Pass()])
    assert model.pool_size is None and model.pool_steps == (4, 5)
    assert model.project.conv.filters == model.gate.filters == 128
