import pytest

from deeplab2_kmax import config_text, config_values
from deeplab2_kmax.protos import config_pb2


def all_messages(message, found):
    if message.name not in found:
        found[message.name] = message
        for field in message.fields:
            if field.message_type is not None:
                all_messages(field.message_type, found)
    return found


def problems(text):
    found = config_values.Findings()
    config_values.check_values(config_text.parse(text, config_pb2.ExperimentOptions(), "file"), found)
    return list(found.problems.values())


def test_tables_name_existing_fields():
    messages = all_messages(config_pb2.ExperimentOptions.DESCRIPTOR, {})
    for message, field in [*config_values.RANGES, *config_values.CHOICES]:
        assert field in messages[message].fields_by_name
    for path in config_values.IGNORED_BY_KMAX:
        message = config_pb2.ExperimentOptions.DESCRIPTOR
        for name in path.split("."):
            field = message.fields_by_name[name]
            message = field.message_type
    assert set(config_values.LOSS_NAMES) <= set(messages["LossOptions"].fields_by_name)


def test_every_default_is_valid():
    for name, message in all_messages(config_pb2.ExperimentOptions.DESCRIPTOR, {}).items():
        for field in message.fields:
            key = (name, field.name)
            if not field.has_default_value:
                continue
            assert key not in config_values.CHOICES or field.default_value in config_values.CHOICES[key]
            assert key not in config_values.RANGES or config_values.RANGES[key].holds(field.default_value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "trainer_options { solver_options { base_learning_rate: -1 } }",
            "trainer_options.solver_options.base_learning_rate: expected a number >= 0, got -1",
        ),
        (
            "trainer_options { loss_options { semantic_loss { top_k_percent: 0 } } }",
            "trainer_options.loss_options.semantic_loss.top_k_percent: expected a number in (0, 1], got 0",
        ),
        (
            'evaluator_options { raw_formats: "coco_panoptic" }',
            "evaluator_options.raw_formats[0]: expected one of deeplab2, coco, cityscapes, step, dvps, got "
            "'coco_panoptic'",
        ),
        (
            "model_options { backbone { drop_path_keep_prob: nan } }",
            "model_options.backbone.drop_path_keep_prob: expected a finite number, got nan",
        ),
        (
            "train_dataset_options { crop_size: [65, 0] }",
            "train_dataset_options.crop_size[1]: expected a number > 0, got 0",
        ),
        (
            'trainer_options { solver_options { optimizer: "adamW" } }',
            "trainer_options.solver_options.optimizer: expected one of adam, sgd, adamw, got 'adamW'; nearest: adamw",
        ),
        (
            "model_options { backbone { output_stride: 64 } }",
            "model_options.backbone.output_stride: expected one of 4, 8, 16, 32, got 64",
        ),
        (
            'model_options { max_deeplab { auxiliary_low_level { feature_key: "res2" } auxiliary_low_level { '
            'feature_key: "rez3" } } }',
            "model_options.max_deeplab.auxiliary_low_level[1].feature_key: expected one of res1, res2, res3, res4, "
            "res5, stage1, stage2, stage3, stage4, stage5, feature_semantic, got 'rez3'; nearest: res3",
        ),
    ],
)
def test_a_wrong_value_gives_path_expectation_and_value(text, problem):
    assert problems(text) == [problem]


def test_placeholders_are_no_values():
    assert problems('trainer_options { solver_options { optimizer: "${OPTIMIZER}" } }') == []


def test_deeplab2_backbones_are_all_known():
    assert len(config_values.DEEPLAB2_BACKBONES) == len(set(config_values.DEEPLAB2_BACKBONES)) == 15 + 7 + 18
    assert "kmax_moat1_pretrain_224_no_pe_1k" in config_values.DEEPLAB2_BACKBONES
