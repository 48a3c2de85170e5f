import pytest

from deeplab2_kmax import config_text
from deeplab2_kmax.protos import config_pb2

WRONG = [
    ("experiment_nam: 'x'", "1:1: unknown field 'experiment_nam' in ExperimentOptions; nearest: experiment_name"),
    ("\n# note {\ntrainer_options {\n  sead: 1 }", "4:3: unknown field 'sead' in TrainerOptions; nearest: seed"),
    ("batch_size: 3", "1:1: unknown field 'batch_size' in ExperimentOptions; .*; it is a field of DatasetOptions"),
    ("model_options { backbone { nam: 'x' } }", "1:28: unknown field 'nam' in BackboneOptions; nearest: name"),
    (
        "trainer_options { precision: FLOT32 }",
        "1:30: unknown value FLOT32 of trainer_options.precision; nearest: FLOAT32",
    ),
    ("trainer_options { seed: 'a' }", "1:25: trainer_options.seed: expected an integer, got 'a'"),
    ("trainer_options { seed: 1.5 }", "1:25: trainer_options.seed: expected an integer, got 1.5"),
    ("trainer_options { seed: 99999999999 }", "1:25: .*expected an integer of 32 bits, got 99999999999"),
    ("evaluator_options { use_tf_function: yes }", "1:38: .*use_tf_function: expected true or false, got yes"),
    ("evaluator_options { nms_kernel: [1] }", "1:33: .*Couldn't parse integer|expected an integer"),
    ("experiment_name: abc", "1:18: experiment_name: expected a string in quotes, got abc"),
    ("trainer_options { solver_options: 3 }", "1:35: .*solver_options: expected a message in braces, .*got 3"),
    ("train_dataset_options { crop_size: [65, 65.5] }", "1:41: .*crop_size: expected an integer, got 65.5"),
    ("trainer_options { seed: 1 seed: 2 }", "1:33: trainer_options.seed is set twice"),
    ("model_options { deeplab_v3 {} max_deeplab {} }", "1:31: model_options.max_deeplab: only one of these can be set"),
    ("trainer_options {", '1:17: Expected "}"'),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_error_says_where_what_and_what_was_meant(text, message):
    with pytest.raises(config_text.ConfigError, match=f"^file:{message}") as error:
        config_text.parse(text, config_pb2.ExperimentOptions(), "file")
    assert "\n" not in str(error.value)


def test_lists_and_repeated_lines_mean_the_same():
    text = """# proto-file: deeplab2/config.proto
    train_dataset_options { crop_size: 65 crop_size: 129 }
    evaluator_options { eval_scales: [0.5, 1] eval_scales: 2 }"""
    message = config_text.parse(text, config_pb2.ExperimentOptions(), "file")
    assert list(message.train_dataset_options.crop_size) == [65, 129]
    assert list(message.evaluator_options.eval_scales) == [0.5, 1, 2]


def test_field_names_are_the_outermost():
    text = "# a: 1\nbackbone { name: 'x' } decoder < atrous_rates: [1, 2] > initial_checkpoint: 'a { b: 1 }'"
    assert config_text.field_names(text) == ["backbone", "decoder", "initial_checkpoint"]


def test_position_of_a_string():
    assert config_text.find_string('a: 1\n  base: "x/y"\n', "x/y") == "2:9"
