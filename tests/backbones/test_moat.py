import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import architectures
from deeplab2_kmax.backbones import BACKBONES, moat
from tests import backbone_checks

tiny = functools.partial(moat.Moat, stem=(8, 8), depths=(1, 1, 2, 1), widths=(8, 8, 32, 32))

PARAMETERS = {  # trainable, trainable without positions, other; of the networks in full
    "moat0": (27076356, 27007008, 88576),
    "moat1": (40827912, 40697328, 147328),
    "moat2": (72395360, 72221248, 196608),
    "moat3": (188674480, 188252720, 441600),
    "moat4": (481161088, 480486272, 706560),
    "tiny_moat0": (3097836, 3074720, 29568),
    "tiny_moat1": (4801255, 4772360, 36960),
    "tiny_moat2": (9322845, 9282392, 51744),
    "tiny_moat3": (18892110, 18834320, 73920),
}


@pytest.mark.parametrize(
    "size", ["tiny_moat0", *(pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS if name != "tiny_moat0")]
)
def test_parameters(size):
    trainable, without_positions, others = PARAMETERS[size]
    for name, expected in ((size, trainable), (f"{size}_no_pe", without_positions)):
        # In a graph variables have shapes, but no values; those of the smallest are made sooner than a graph.
        with contextlib.nullcontext() if size == "tiny_moat0" else tf.Graph().as_default():
            backbone = BACKBONES[name]()
            assert backbone_checks.count_parameters(backbone) == (expected, others)
        assert backbone.name == name
        assert backbone.strides == (2, 4, 8, 16, 32)


def test_every_name_of_deeplab2_is_there():
    long = ["moat0_pretrain_224_1k", "moat1_pretrain_224_1k", "moat2_finetune_384_22k", "moat3_finetune_512_22k"]
    long += ["moat4_finetune_512_22k", *(f"tiny_moat{size}_pretrain_256_1k" for size in range(4))]
    for name in long:
        stem, data = name.rsplit("_", 1)
        for full in (name, f"{stem}_no_pe_{data}"):
            assert {full, f"kmax_{full}"} <= set(BACKBONES)
    assert len(moat.VARIANTS) == 36
    backbone = BACKBONES["kmax_tiny_moat1_pretrain_256_no_pe_1k"]()
    assert backbone.name == "kmax_tiny_moat1_pretrain_256_no_pe_1k"
    assert backbone.channels == (40, 40, 80, 160, 320)


@pytest.mark.slow
@pytest.mark.parametrize("windows", [(), (3, 2)])
def test_sizes(windows):
    backbone_checks.check_sizes(tiny(window_size=windows))


def test_training():
    backbone_checks.check_training(functools.partial(tiny, window_size=(2, 0)))


def test_all_is_finite_without_positions():
    backbone = tiny(position_embedding=False, drop_path_keep_prob=0.5)
    pyramid = backbone(tf.random.stateless_normal([2, 33, 33, 3], [0, 4]), training=True)
    assert not positions(backbone)
    assert np.isfinite(pyramid.res5).all()


def positions(backbone):
    return [variable for variable in backbone.trainable_variables if "position_bias" in variable.name]


def test_positions_learn_and_count():
    backbone = tiny(window_size=(2, 2))
    images = tf.random.stateless_normal([1, 65, 65, 3], [0, 1])
    backbone(images)
    backbone_checks.randomize(backbone)
    run = tf.function(lambda: backbone(images).res5)
    before = run()
    assert [variable.shape for variable in positions(backbone)] == [[1, 27, 27], [1, 27, 27], [1, 13, 13]]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(backbone(images, training=True).res5)
    for variable, gradient in zip(positions(backbone), tape.gradient(loss, positions(backbone))):
        assert np.any(gradient)
        variable.assign(-variable)
        assert np.abs(run() - before).max() > 1e-5
        before = run()


def windows_of(backbone):
    stages = (backbone.stage4, backbone.stage5)
    return [[getattr(s, f"block{n + 1}").attention.window for n in range(s.num_blocks)] for s in stages]


def test_windows():
    assert windows_of(tiny()) == [[0, 0], [0]]
    assert windows_of(tiny(window_size=(14, 7))) == [[14, 14], [7]]
    end = tiny(window_size=(14, 7), global_attention_at_end_of_moat_stage=True)
    assert windows_of(end) == [[14, 0], [0]]
    by_config = architectures.build_backbone("kmax_tiny_moat0", window_size=[4, 2])
    assert windows_of(by_config) == [[4] * 7, [2] * 2]


def test_a_window_of_the_whole_map_is_global():
    images = tf.random.stateless_normal([1, 65, 97, 3], [0, 3])
    whole, windowed = tiny(), tiny(window_size=(7, 4))
    for backbone in (whole, windowed):
        backbone(images)
        backbone_checks.randomize(backbone)
        for variable in positions(backbone):  # constant, so that resizing to another window changes nothing
            variable.assign(tf.ones_like(variable))
    np.testing.assert_allclose(windowed(images).stage5, whole(images).stage5, rtol=1e-4, atol=1e-4)


def test_drop_path_stops_before_the_last_block():
    backbone = tiny(drop_path_keep_prob=0.5)
    rates = [
        backbone.stage2.block1.drop_path.rate,
        backbone.stage3.block1.drop_path.rate,
        *(block.mbconv.drop_path.rate for block in (backbone.stage4.block1, backbone.stage4.block2)),
        backbone.stage5.block1.drop_path.rate,
    ]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


def test_published_survival_rates():
    rate = BACKBONES["moat1"]().stage5.block2.drop_path.rate
    assert rate == pytest.approx(0.3 * 23 / 24)
    assert BACKBONES["kmax_moat1"]().stage5.block2.drop_path.rate == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 16}, "output_stride must be 32, but got 16"),
        ({"window_size": [7]}, r"window_size has two entries.*got \[7\]"),
        ({"window_size": [7, -1]}, r"got \[7, -1\]"),
        ({"use_squeeze_and_excite": True}, "use_squeeze_and_excite must be false"),
        ({"squeeze_and_excite_gate": "hard_sigmoid"}, "squeeze_and_excite_gate must be"),
        ({"drop_path_keep_prob": 1.5}, r"drop_path_keep_prob lies in \(0, 1\], but got 1.5"),
    ],
)
def test_options_that_it_does_not_have(options, message):
    with pytest.raises(ValueError, match=message):
        architectures.build_backbone("tiny_moat0", **options)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="pool_size is 2 or 3, but got 4"):
        tiny(pool_size=4)
    with pytest.raises(ValueError, match="48 channels do not split into heads of 32"):
        moat.Moat(stem=(8, 8), depths=(1, 1, 1, 1), widths=(8, 8, 48, 32))(tf.zeros([1, 33, 33, 3]))
