import re

import pytest

from deeplab2_kmax import config
from tests import shared

COCO = shared.ROOT / "configs/coco/kmax_deeplab/resnet50.textproto"
MAX = "model_options { max_deeplab { %s } }"
KMAX = "model_options { max_deeplab { kmax { %s } } }"
TRAIN = "train_dataset_options { %s }"
SOLVER = "trainer_options { solver_options { %s } }"

WRONG = [
    (
        'model_options { backbone { name: "kmax_resnet5O" } }',
        "model_options.backbone.name: expected the name of a backbone, got 'kmax_resnet5O'; nearest: kmax_resnet50",
    ),
    (
        TRAIN % 'dataset: "coco"',
        "train_dataset_options.dataset: expected the name of a data set, got 'coco'; nearest: coco_panoptic",
    ),
    (
        TRAIN % "crop_size: [1280, 1281]",
        "train_dataset_options.crop_size: expected [height, width], each k * 32 + 1, got [1280, 1281]; "
        "nearest: [1281, 1281]",
    ),
    (TRAIN % "crop_size: 1281", "train_dataset_options.crop_size: expected [height, width]"),
    (TRAIN % "max_resize_value: 1282", "train_dataset_options.max_resize_value: expected at most the crop size"),
    (TRAIN % "min_resize_value: [1, 2, 3]", "train_dataset_options.min_resize_value: expected at most two values"),
    (TRAIN % "augmentations { min_scale_factor: 3 }", "train_dataset_options.augmentations.min_scale_factor: expected"),
    (
        TRAIN % 'mixture { dataset: "cityscape_panoptic" }',
        "train_dataset_options.mixture[0].dataset: expected the name of a data set, got 'cityscape_panoptic'; "
        "nearest: cityscapes_panoptic",
    ),
    (TRAIN % "mixture { weight: 0 }", "train_dataset_options.mixture[0].weight: expected a number > 0, got 0"),
    (
        'eval_dataset_options { mixture { dataset: "coco_panoptic" } }',
        "eval_dataset_options.mixture: expected file_pat",
    ),
    (TRAIN % "skip_corrupt_budget: 1", "train_dataset_options.skip_corrupt_budget: expected a number in [0, 1), got 1"),
    (
        TRAIN % "augmentations { color_jitter { hue: 0.6 } }",
        "train_dataset_options.augmentations.color_jitter.hue: exp",
    ),
    (TRAIN % "use_two_frames: true", "train_dataset_options.use_two_frames: expected false"),
    (
        TRAIN % "max_thing_id: 129",
        "train_dataset_options.max_thing_id: expected at most 128: the label divisor of 'coco_panoptic' is 256",
    ),
    (
        TRAIN % "max_thing_id: 256 augmentations { panoptic_copy_paste { panoptic_copy_paste_scale: 0 } }",
        "train_dataset_options.max_thing_id: expected at most 255",
    ),
    (
        KMAX % "num_mask_slots: 256",
        "model_options.max_deeplab.kmax.num_mask_slots: expected fewer than the label divisor",
    ),
    (
        MAX % "auxiliary_semantic_head { output_channels: 133 }",
        "model_options.max_deeplab.auxiliary_semantic_head.output_channels: expected 134, the classes of "
        "train_dataset_options.dataset 'coco_panoptic', got 133",
    ),
    (KMAX % "pixel_decoder_blocks: [1, 1]", "model_options.max_deeplab.kmax.pixel_decoder_blocks: expected 4 numbers"),
    (KMAX % "transformer_decoder_blocks: 6", "model_options.max_deeplab.kmax.transformer_decoder_blocks: expected 3"),
    (KMAX % "num_heads: 3", "model_options.max_deeplab.kmax.transformer_decoder_filters: expected a multiple of"),
    (KMAX % "highest_stride: 8", "model_options.max_deeplab.kmax.highest_stride: expected one of 2, 4, got 8"),
    (MAX % "remax {} cmt {}", "model_options.max_deeplab.remax: expected nothing beside max_deeplab.cmt"),
    (
        MAX % "remax { remask_blocks: [0, 7] }",
        "model_options.max_deeplab.remax.remask_blocks: expected blocks of the transformer decoder, 0 to 5, or 6 for "
        "the final prediction, got [0, 7]",
    ),
    (MAX % "remax { reclass_eta: 2 }", "model_options.max_deeplab.remax.reclass_eta: expected a number in [0, 1]"),
    (
        MAX % "cmt { reference_mask_loss_weight: -1 }",
        "model_options.max_deeplab.cmt.reference_mask_loss_weight: expected a number >= 0, got -1",
    ),
    ("model_options { decoder { atrous_rates: 6 } }", "model_options.decoder.atrous_rates: expected three rates"),
    (
        'model_options { decoder { feature_key: "res5" } }',
        "model_options.decoder.feature_key: expected 'feature_semantic'",
    ),
    (
        'model_options { backbone { name: "resnet50" } }',
        "model_options.max_deeplab.kmax: expected a backbone whose name begins with kmax_",
    ),
    (
        'model_options { backbone { name: "kmax_mobilenet_v3_small" } }',
        "model_options.backbone.use_squeeze_and_excite: expected true with the backbone 'kmax_mobilenet_v3_small', "
        "got false",
    ),
    (
        'model_options { backbone { name: "kmax_mobilenet_v3_large" use_squeeze_and_excite: true '
        "drop_path_keep_prob: 0.5 } }",
        "model_options.backbone.drop_path_keep_prob: expected 1.0 with the backbone 'kmax_mobilenet_v3_large', got 0.5",
    ),
    (
        "model_options { backbone { output_stride: 16 } }",
        "model_options.backbone.output_stride: expected 32 with the backbone 'kmax_resnet50', got 16",
    ),
    (
        "model_options { backbone { reduce_last_block_filters: true } }",
        "model_options.backbone.reduce_last_block_filters: expected false with the backbone 'kmax_resnet50', got true",
    ),
    (
        "model_options { backbone { recompute_stages: [2, 6] } }",
        "model_options.backbone.recompute_stages[1]: expected a stage, 1 to 5, got 6",
    ),
    (
        'model_options { backbone { name: "kmax_xception_41" recompute_stages: 2 } }',
        "model_options.backbone.recompute_stages: expected [] with the backbone 'kmax_xception_41', got [2]",
    ),
    (SOLVER % "training_number_of_steps: 10", "trainer_options.solver_options.warmup_steps: expected fewer than"),
    (SOLVER % "poly_end_learning_rate: 1", "trainer_options.solver_options.poly_end_learning_rate: expected at most"),
    (
        'trainer_options { loss_options { semantic_loss { name: "l1" } } }',
        "trainer_options.loss_options.semantic_loss.name: expected 'softmax_cross_entropy', got 'l1'",
    ),
    (
        'trainer_options { loss_options { pq_style_loss { name: "mse" } } }',
        "trainer_options.loss_options.pq_style_loss.name: expected no name, only a weight, got 'mse'",
    ),
]


@pytest.mark.parametrize(("override", "problem"), WRONG, ids=[override for override, _ in WRONG])
def test_wrong_config_is_refused(override, problem, tmp_path):
    # From the resolved text, so that options of kMaX-DeepLab are set whatever the override says.
    path = tmp_path / "resolved.textproto"
    path.write_text(config.to_text(config.load(COCO)))
    with pytest.raises(config.ConfigError, match=re.escape(problem)) as error:
        config.load(path, [override])
    assert "\n" not in str(error.value)


def test_all_problems_are_named():
    overrides = [SOLVER % "base_learning_rate: -1", TRAIN % "batch_size: 0"]
    with pytest.raises(
        config.ConfigError, match=r"base_learning_rate: .* \(also wrong: train_dataset_options.batch_size"
    ):
        config.load(COCO, overrides)


def test_remask_needs_the_semantic_loss(tmp_path):
    path = tmp_path / "resolved.textproto"
    text = config.to_text(config.load(COCO, [MAX % "remax {}"]))
    path.write_text(re.sub(r"semantic_loss \{.*?\}", "", text, count=1, flags=re.DOTALL))
    with pytest.raises(
        config.ConfigError, match="semantic_loss: expected the loss that max_deeplab.remax.remask learns"
    ):
        config.load(path)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ('evaluator_options { raw_formats: "coco" }', "evaluator_options.raw_formats is not used"),
        (
            "evaluator_options { best_checkpoint_higher_is_better: false }",
            "evaluator_options.best_checkpoint_higher_is",
        ),
        ("evaluator_options { nms_kernel: 7 }", "evaluator_options.nms_kernel"),
        ('evaluator_options { transformer_post_processing: "pixelwise" }', "evaluator_options.maskwise_postprocessing"),
        ('model_options { backbone { drop_path_schedule: "constant" } }', "model_options.backbone.drop_path_schedule"),
        (
            'model_options { initial_checkpoint: "" backbone { pretrained_format: "timm" } }',
            "model_options.backbone.pretrained_format",
        ),
        (
            'model_options { initial_checkpoint: "" skip_from_initial_checkpoint: "semantic_last_layer" }',
            "model_options.skip_from_initial_checkpoint",
        ),
        (
            'model_options { initial_checkpoint: "" allow_partial_backbone: true }',
            "model_options.allow_partial_backbone",
        ),
        ("trainer_options { loss_options { center_loss { } } }", "trainer_options.loss_options.center_loss"),
        (SOLVER % "weight_decay: 1", "trainer_options.solver_options.weight_decay"),
        (SOLVER % "clip_gradient_norm: 1", "trainer_options.solver_options.clip_gradient_norm"),
        (SOLVER % 'optimizer: "sgd"', "trainer_options.solver_options.adamw_weight_decay"),
        ("eval_dataset_options { augmentations { } }", "eval_dataset_options.augmentations"),
        (TRAIN % "crop_size: [65, 65] max_resize_value: 65", "model_options.max_deeplab.semantic_sample_k is 4096"),
        (MAX % "remax { remask: false remask_blocks: 0 }", "model_options.max_deeplab.remax.remask_blocks is not used"),
        (MAX % "remax { reclass: false reclass_eta: 0.2 }", "model_options.max_deeplab.remax.reclass_eta is not used"),
        (MAX % "remax { remask: false reclass: false }", "model_options.max_deeplab.remax changes nothing"),
        (
            MAX % "cmt { reference_masks: false reference_mask_loss_weight: 2 }",
            "model_options.max_deeplab.cmt.reference_mask_loss_weight is not used",
        ),
    ],
)
def test_settings_without_effect_are_warnings(override, field):
    warnings = config.check(config.load(COCO, [override]))
    assert any(warning.startswith(field) for warning in warnings), warnings


@pytest.mark.parametrize(
    "override",
    [
        "evaluator_options { eval_scales: [0.5, 1] add_flipped_images: true }",
        "model_options { backbone { output_stride: 32 } }",
        'model_options { backbone { drop_path_schedule: "linear" } }',
        "model_options { backbone { backbone_width_multiplier: 2 use_sac_beyond_stride: 32 } }",
    ],
)
def test_what_changes_nothing_is_no_warning(override):
    assert config.check(config.load(COCO, [override])) == []
