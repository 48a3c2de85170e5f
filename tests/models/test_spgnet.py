"""SPGNet: its two stages, what each loss reaches, guidance by hand, and what passes from stage to stage."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.losses import pixel_terms
from deeplab2_kmax.models import passes, spgnet
from deeplab2_kmax.pixel_decoders import spgnet as decoders
from deeplab2_kmax.protos import model_pb2, trainer_pb2
from tests.models import small


def build(changes="", name="resnet50", **settings):
    options = text_format.Parse("spgnet { num_classes: 5 decoder_channels: 8 }", model_pb2.ModelOptions())
    options.MergeFrom(text_format.Parse(changes, model_pb2.ModelOptions()))
    model = spgnet.build(options, small.kit(small.backbone(name, **settings)), passes=[passes.Pass()])
    model.build_variables()
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def images(batch=1, height=33, width=65):
    return tf.constant(np.random.RandomState(0).uniform(0, 255, [batch, height, width, 3]), tf.float32)


LOSSES = """
semantic_loss { name: "softmax_cross_entropy" weight: 1 }
guide_loss { name: "softmax_cross_entropy" weight: 2 }
"""


def test_both_stages_are_supervised_and_every_weight_learns(model):
    loss = pixel_terms.PixelLoss(text_format.Parse(LOSSES, trainer_pb2.LossOptions()), ignore_label=255)
    targets = {"semantic_gt": tf.ones([2, 33, 65], tf.int32), "semantic_loss_weight": tf.ones([2, 33, 65])}
    # The last norms of residual branches begin at zero, which would hide what lies before them.
    for variable in model.trainable_variables:
        if variable.name.endswith("gamma:0"):
            variable.assign(tf.ones_like(variable))
    with tf.GradientTape(persistent=True) as tape:
        output = model(images(batch=2), training=True)
        terms = loss(output, targets)
    assert sorted(terms) == ["guide_loss", "semantic_loss", "total_loss"]
    assert tuple(output.semantic_logits.shape) == tuple(output.guide_logits.shape) == (2, 33, 65, 5)
    logits = output.guide_logits.numpy()
    log_probability = logits[..., 1] - np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(terms["guide_loss"], -2 * log_probability.mean((1, 2)), rtol=1e-4)

    def lacking(term):
        gradients = tape.gradient(terms[term], model.trainable_variables)
        return {v.ref() for v, g in zip(model.trainable_variables, gradients) if g is None or not np.any(g)}

    behind = [model.second, model.fuse, model.last, model.guide.gate, model.guide.project]
    assert lacking("guide_loss") >= {v.ref() for layer in behind for v in layer.trainable_variables}
    assert not lacking("guide_loss") & {v.ref() for v in model.guide.last.trainable_variables}
    assert lacking("total_loss") == set()


def test_guidance_by_hand():
    guide = decoders.Guide(2, 3, norm=small.NORM, activation=tf.nn.relu)
    x = tf.constant([[[[1.0, -2.0]]]])
    guide(x)
    guide.last.kernel.assign([[[[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]]])
    guide.last.bias.assign([0.0, 1.0, 0.0])
    guide.gate.kernel.assign([[[[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]]])
    guide.gate.bias.assign([-3.0, 0.0])
    guide.project.conv.kernel.assign([[[[4.0, -1.0], [0.0, -3.0]]]])
    guided, logits = guide(x)
    np.testing.assert_allclose(logits[0, 0, 0], [1.0, -1.0, 2.0])
    # Gates sigmoid(1 + 2 - 3) and sigmoid(0); projections max(4, 0) and max(-1 + 6, 0), through a norm at its start.
    scale = 1 / np.sqrt(1 + guide.project.norm.epsilon)
    np.testing.assert_allclose(guided[0, 0, 0], [1 + 0.5 * 4 * scale, -2 + 0.5 * 5 * scale], rtol=1e-5)


def test_the_second_encoder_is_a_resnet_behind_stride_4_with_weights_of_its_own(model):
    first = [getattr(model.backbone, f"stage{number}") for number in range(2, 6)]
    assert [stage.num_blocks for stage in model.second.stages] == [stage.num_blocks for stage in first]
    assert [stage.block1.channels for stage in model.second.stages] == list(model.backbone.channels[1:])
    assert [stage.block1.stride for stage in model.second.stages] == [1, 2, 2, 2]
    own = {v.ref() for v in model.second.variables}
    assert not own & {v.ref() for v in model.backbone.variables}
    assert {name: tuple(value.shape) for name, value in model.predict(images()).items()} == {
        "semantic_logits": (1, 9, 17, 5),
        "guide_logits": (1, 9, 17, 5),
    }


@pytest.mark.parametrize("source", ["encoded", "decoded"])
@pytest.mark.parametrize("level", [0, 3])
def test_the_second_stage_reads_every_level_of_the_first(model, source, level):
    random = np.random.RandomState(0)
    x = random.standard_normal([1, 9, 17, 8])
    shapes = [(9, 17), (5, 9), (3, 5), (2, 3)]
    levels = {
        "encoded": [random.standard_normal([1, *s, c]) for s, c in zip(shapes, model.backbone.channels[1:])],
        "decoded": [random.standard_normal([1, *s, 8]) for s in shapes],
    }

    def run():
        parts = {key: tuple(tf.constant(value, tf.float32) for value in values) for key, values in levels.items()}
        return model.second(tf.constant(x, tf.float32), parts["encoded"], parts["decoded"]).numpy()

    before = run()
    assert before.shape == (1, 9, 17, 8)
    levels[source][level] += 1.0
    assert np.abs(run() - before).max() > 1e-3


def test_the_decoder_tells_fine_levels_of_coarse_ones_and_not_the_other_way():
    decoder = decoders.UpwardDecoder(4, norm=small.NORM, activation=tf.nn.relu)
    random = np.random.RandomState(0)
    levels = [random.uniform(0, 1, [1, *size, 3]).astype(np.float32) for size in ((9, 9), (5, 5), (3, 3), (2, 2))]

    def run():
        return [level.numpy() for level in decoder(tuple(map(tf.constant, levels)))]

    before = run()
    levels[1] += 1.0
    assert [bool(np.abs(a - b).max() > 1e-4) for a, b in zip(run(), before)] == [True, True, False, False]


def test_one_stage_is_an_encoder_and_a_decoder_alone(model):
    single = build("spgnet { num_stages: 1 }")
    assert list(single.predict(images())) == ["semantic_logits"]
    assert single.count_params() < model.count_params() / 2


def test_what_is_no_resnet_is_refused():
    with pytest.raises(ValueError, match="ResNet family.*rfp_steps"):
        build(name="mobilenet_v3_small", stem_width_multiplier=1.0, backbone_layer_multiplier=1.0)
    with pytest.raises(ValueError, match="multiple of 4, but got 6"):
        build("spgnet { decoder_channels: 6 }")
