"""Configs of models of pixels: what is filled in, and what is wrong with them, one line each."""

import pytest

from deeplab2_kmax import architectures, config
from tests import shared

TINY = shared.ROOT / "configs/tiny"
PANOPTIC = TINY / "panoptic_deeplab_synthetic.textproto"
V3 = TINY / "deeplab_v3_synthetic.textproto"
PLUS = TINY / "deeplab_v3_plus_synthetic.textproto"
VIP = TINY / "vip_deeplab_synthetic.textproto"
MOTION = TINY / "motion_deeplab_synthetic.textproto"
DEEPER = TINY / "deeper_lab_synthetic.textproto"
LR_ASPP = TINY / "lr_aspp_synthetic.textproto"
SPGNET = TINY / "spgnet_synthetic.textproto"
RECURSIVE = TINY / "recursive_feature_pyramid_synthetic.textproto"


def problem(path, override):
    with pytest.raises(config.ConfigError) as error:
        config.load(path, [override])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "path, override, field, expected",
    [
        (V3, 'model_options { decoder { feature_key: "feature_semantic" } }', "decoder.feature_key", "'res5'"),
        (V3, "model_options { deeplab_v3 { num_classes: 8 } }", "deeplab_v3.num_classes", "9, the classes of"),
        (V3, "model_options { decoder { atrous_rates: [1, 2] } }", "decoder.atrous_rates", "three rates"),
        (V3, 'model_options { backbone { name: "max_deeplab_s" } }', "backbone.name", "without a memory"),
        (V3, "trainer_options { loss_options { center_loss {} } }", "loss_options.center_loss", "semantic_loss"),
        (V3, "evaluator_options { nms_kernel: 7 }", "evaluator_options.nms_kernel", "does not use it"),
        (PLUS, "model_options { deeplab_v3_plus { low_level { channels_project: 0 } } }", "channels_project", "> 0"),
        (
            PANOPTIC,
            "trainer_options { loss_options { motion_loss {} } }",
            "loss_options.motion_loss",
            "regression_loss",
        ),
        (PANOPTIC, "evaluator_options { thing_area_limit: 7 }", "evaluator_options.thing_area_limit", "does not use"),
        (PANOPTIC, "evaluator_options { maskwise_postprocessing {} }", "maskwise_postprocessing", "does not use it"),
        (PANOPTIC, "train_dataset_options { use_next_frame: true }", "use_next_frame", "single images"),
        (PANOPTIC, "train_dataset_options { thing_id_mask_annotations: true }", "mask_annotations", "does not use it"),
        (
            PANOPTIC,
            "trainer_options { loss_options { keypoint_loss {} } }",
            "loss_options.keypoint_loss",
            "center_loss",
        ),
        (PANOPTIC, "train_dataset_options { keypoint_radius: 8 }", "keypoint_radius", "does not use it"),
        (V3, "evaluator_options { keypoint_distance_limit: 1 }", "keypoint_distance_limit", "does not use it"),
        (LR_ASPP, "model_options { decoder { feature_key: 'res5' } }", "model_options.decoder", "does not use it"),
        (LR_ASPP, "model_options { lr_aspp { num_classes: 8 } }", "lr_aspp.num_classes", "9, the classes of"),
        (LR_ASPP, "model_options { lr_aspp { pool_stride: 4 } }", "lr_aspp.pool_stride", "[down, right]"),
        (LR_ASPP, "model_options { lr_aspp { pool_crop_size: [65, 0] } }", "lr_aspp.pool_crop_size", "> 0"),
        (
            LR_ASPP,
            "model_options { lr_aspp { low_level_feature_key: 'feature_semantic' } }",
            "lr_aspp.low_level_feature_key",
            "a feature of the backbone",
        ),
        (LR_ASPP, "trainer_options { loss_options { guide_loss {} } }", "loss_options.guide_loss", "semantic_loss"),
        (V3, "trainer_options { loss_options { guide_loss {} } }", "loss_options.guide_loss", "semantic_loss"),
        (SPGNET, "model_options { spgnet { num_stages: 1 } }", "loss_options.guide_loss", "semantic_loss"),
        (SPGNET, "model_options { spgnet { num_stages: 3 } }", "spgnet.num_stages", "1, 2"),
        (SPGNET, "model_options { spgnet { decoder_channels: 30 } }", "spgnet.decoder_channels", "multiple of 4"),
        (SPGNET, "model_options { decoder {} }", "model_options.decoder", "does not use it"),
        (SPGNET, "train_dataset_options { sigma: 4 }", "train_dataset_options.sigma", "does not use it"),
        (DEEPER, "trainer_options { loss_options { center_loss {} } }", "loss_options.center_loss", "long_offset_loss"),
        (DEEPER, "train_dataset_options { sigma: 4 }", "train_dataset_options.sigma", "deeper_lab does not use it"),
        (DEEPER, "evaluator_options { add_flipped_images: true }", "add_flipped_images", "mirrored keypoint"),
        (DEEPER, "eval_dataset_options { keypoint_radius: 4 }", "eval_dataset_options.keypoint_radius", "8, as in"),
        (DEEPER, "evaluator_options { keypoint_distance_limit: 0 }", "keypoint_distance_limit", "> 0"),
        (DEEPER, "model_options { deeper_lab { semantic_head { output_channels: 8 } } }", "output_channels", "9, the"),
        (
            DEEPER,
            'model_options { deeper_lab { low_level { feature_key: "res5" } } }',
            "low_level.feature_key",
            "finer than",
        ),
        (
            MOTION,
            "train_dataset_options { use_two_frames: false }",
            "train_dataset_options.use_two_frames",
            "expected true",
        ),
        (MOTION, "train_dataset_options { use_next_frame: true }", "use_next_frame", "takes use_two_frames"),
        (
            MOTION,
            "model_options { motion_deeplab { instance { enable: false } } }",
            "instance.enable",
            "follows instances",
        ),
        (
            MOTION,
            "model_options { motion_deeplab { motion_head { output_channels: 1 } } }",
            "motion_head",
            "expected 2, got 1",
        ),
        (
            MOTION,
            "model_options { motion_deeplab { instance { next_regression_head {} } } }",
            "next_regression_head",
            "vip",
        ),
        (MOTION, "trainer_options { loss_options { next_regression_loss {} } }", "next_regression_loss", "motion_loss"),
        (RECURSIVE, "model_options { backbone { rfp_channels: 6 } }", "backbone.rfp_channels", "a multiple of 4"),
        (RECURSIVE, "model_options { backbone { rfp_steps: 1 } }", "backbone.rfp_channels", "without rfp_steps"),
        (RECURSIVE, "model_options { backbone { rfp_steps: 0 } }", "backbone.rfp_steps", "> 0"),
        (PANOPTIC, "model_options { backbone { rfp_steps: 2 } }", "backbone.rfp_steps", "1 with the backbone 'effi"),
        *(
            (PANOPTIC, "model_options { panoptic_deeplab { " + text + " } }", field, expected)
            for text, field, expected in (
                ("instance { center_head { output_channels: 2 } }", "center_head.output_channels", "expected 1, got 2"),
                ("instance { regression_head { output_channels: 3 } }", "regression_head.output_channels", "2, got 3"),
                ("instance { next_regression_head {} }", "next_regression_head", "vip_deeplab"),
                ("depth_head {}", "depth_head", "vip_deeplab"),
                ("semantic_head { output_channels: 8 }", "semantic_head.output_channels", "9, the classes of"),
                ("low_level { channels_project: 8 }", "low_level[0].feature_key", "for example 'res2'"),
                ("instance { center_head { max_value_after_activation: 3 } }", "max_value_after_activation", "depth"),
            )
        ),
        (VIP, "train_dataset_options { use_next_frame: false }", "use_next_frame", "true: vip_deeplab takes a frame"),
        (VIP, "eval_dataset_options { use_two_frames: true }", "use_two_frames", "takes use_next_frame"),
        (VIP, "trainer_options { loss_options { motion_loss {} } }", "loss_options.motion_loss", "depth_loss"),
        *(
            (VIP, "model_options { vip_deeplab { " + text + " } }", field, expected)
            for text, field, expected in (
                ("instance { enable: false }", "instance.enable", "follows instances"),
                ("instance { next_regression_head { output_channels: 1 } }", "next_regression_head", "2, got 1"),
                ("depth_head { output_channels: 2 }", "depth_head.output_channels", "expected 1, got 2"),
                ("depth_head { max_value_after_activation: 0 }", "max_value_after_activation", "metres, got 0"),
                ("semantic_head { output_channels: 8 }", "semantic_head.output_channels", "9, the classes of"),
            )
        ),
    ],
)
def test_one_line_says_what_is_wrong(path, override, field, expected):
    line = problem(path, override)
    assert field in line.split(": expected")[0].split(" (also")[0]
    assert expected in line


def test_mask_transformers_do_not_use_centres():
    loaded = config.load(TINY / "kmax_synthetic.textproto", ["evaluator_options { merge_as_compiled_kernel: true }"])
    assert config.check(loaded) == [
        "evaluator_options.merge_as_compiled_kernel is not used by kMaX-DeepLab (kmax_efficientnet_lite0)"
    ]


def test_the_training_crop_decides_the_pooling_window():
    loaded = config.load(PANOPTIC)
    decoder = loaded.model_options.decoder
    override = loaded.model_options.panoptic_deeplab.instance.instance_decoder_override
    assert list(decoder.aspp_pool_size) == list(override.aspp_pool_size) == [3, 5]  # 65x129 at stride 32
    override = config.load(VIP).model_options.vip_deeplab.instance.instance_decoder_override
    assert list(override.aspp_pool_size) == [3, 5]
    given = config.load(PANOPTIC, ["model_options { decoder { aspp_pool_size: [7, 8] } }"]).model_options.decoder
    assert list(given.aspp_pool_size) == [7, 8]
    single = config.load(PANOPTIC, ["model_options { decoder { aspp_use_only_1x1_proj_conv: true } }"])
    assert not single.model_options.decoder.aspp_pool_size


def test_which_architecture_it_is():
    without = "model_options { panoptic_deeplab { instance { enable: false } } }"
    name = architectures.name_of(config.load(PANOPTIC).model_options)
    assert (name, architectures.ARCHITECTURES[name].tasks) == ("panoptic_deeplab", ("panoptic", "semantic"))
    with pytest.raises(config.ConfigError, match="center_loss"):
        config.load(PANOPTIC, [without])
    options = config.load(PANOPTIC).model_options
    options.panoptic_deeplab.instance.enable = False
    name = architectures.name_of(options)
    assert architectures.ARCHITECTURES[name].targets == ("semantic",)


def test_depth_is_learnt_and_scored_with_its_head_alone():
    options = config.load(VIP).model_options
    row = architectures.ARCHITECTURES[architectures.name_of(options)]
    assert row.targets == ("semantic", "centers", "next_offsets", "depth")
    assert {"panoptic", "video_panoptic", "depth_video_panoptic", "depth"} <= {*row.tasks}
    options.vip_deeplab.ClearField("depth_head")
    row = architectures.ARCHITECTURES[architectures.name_of(options)]
    assert row.targets == ("semantic", "centers", "next_offsets")
    assert row.tasks == ("panoptic", "semantic", "video_panoptic", "next_frame_panoptic")


def test_the_window_of_lr_aspp_is_the_training_crop_unless_it_is_given():
    assert list(config.load(LR_ASPP).model_options.lr_aspp.pool_crop_size) == [65, 129]
    given = config.load(LR_ASPP, ["model_options { lr_aspp { pool_crop_size: [33, 33] } }"])
    assert list(given.model_options.lr_aspp.pool_crop_size) == [33, 33]
    assert not given.model_options.HasField("decoder")


def test_two_stages_need_two_losses(tmp_path):
    text = (shared.ROOT / "configs/_base_/models/spgnet.textproto").read_text()
    assert text.count("guide_loss") == 1
    (tmp_path / "spgnet.textproto").write_text("\n".join(line for line in text.split("\n") if "guide_loss" not in line))
    tiny = SPGNET.read_text().replace("../_base_/models/spgnet", str(tmp_path / "spgnet"))
    (tmp_path / "tiny.textproto").write_text(tiny.replace("../_base_", str(shared.ROOT / "configs/_base_")))
    assert "guide_loss: expected the loss of the first of two stages" in problem(tmp_path / "tiny.textproto", "")
