import subprocess
import sys

import pytest

import deeplab2_kmax as dk
from deeplab2_kmax import config
from deeplab2_kmax.protos import config_pb2, dataset_pb2, model_pb2
from tests import shared

COCO = shared.ROOT / "configs/coco/kmax_deeplab/resnet50.textproto"
KMAX = """
model_options {
  backbone { name: "kmax_resnet50" }
  decoder { atrous_rates: [6, 12, 18] }
  max_deeplab {
    pixel_space_head { output_channels: 8 head_channels: 8 }
    auxiliary_low_level { feature_key: "res2" channels_project: 8 }
    auxiliary_semantic_head { output_channels: %d head_channels: 8 }
  }
}
train_dataset_options { dataset: "%s" crop_size: [65, 65] max_thing_id: 100 }
"""


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.textproto").write_text(text)
    return folder / f"{next(iter(files))}.textproto"


def merged(target, source):
    config.merge(target, source)
    return target


# Merging


def test_messages_merge_scalars_replace_presence_is_kept():
    target = model_pb2.ModelOptions(initial_checkpoint="a")
    target.backbone.name = "x"
    target.backbone.output_stride = 16
    source = model_pb2.ModelOptions()
    source.backbone.name = "y"
    result = merged(target, source)
    assert (result.backbone.name, result.backbone.output_stride) == ("y", 16)
    assert result.initial_checkpoint == "a"
    assert not result.backbone.HasField("drop_path_keep_prob")


def test_a_value_equal_to_the_default_still_replaces():
    target, source = dataset_pb2.DatasetOptions(batch_size=8), dataset_pb2.DatasetOptions(batch_size=32)
    assert merged(target, source).batch_size == 32


def test_repeated_fields_replace_and_never_append():
    target = dataset_pb2.DatasetOptions(crop_size=[1, 2, 3])
    assert list(merged(target, dataset_pb2.DatasetOptions(crop_size=[65, 129])).crop_size) == [65, 129]
    assert list(merged(target, dataset_pb2.DatasetOptions(batch_size=2)).crop_size) == [65, 129]


def test_repeated_messages_replace():
    target, source = model_pb2.ModelOptions(), model_pb2.ModelOptions()
    for key in ("res3", "res2"):
        target.max_deeplab.auxiliary_low_level.add(feature_key=key)
    source.max_deeplab.auxiliary_low_level.add(feature_key="res4")
    assert [level.feature_key for level in merged(target, source).max_deeplab.auxiliary_low_level] == ["res4"]


def test_another_architecture_replaces_the_first():
    target, source = model_pb2.ModelOptions(), model_pb2.ModelOptions()
    target.max_deeplab.semantic_sample_k = 3
    source.deeplab_v3.SetInParent()
    assert merged(target, source).WhichOneof("meta_architecture") == "deeplab_v3"


def test_an_empty_message_counts():
    target, source = dataset_pb2.DatasetOptions(), dataset_pb2.DatasetOptions()
    source.augmentations.panoptic_copy_paste.SetInParent()
    assert merged(target, source).augmentations.HasField("panoptic_copy_paste")


# Bases


def test_later_bases_win_and_the_file_wins_over_all(tmp_path):
    (tmp_path / "deep").mkdir()
    write(
        tmp_path / "deep", b='base: "../c.textproto" train_dataset_options { batch_size: 3 sigma: 3 max_thing_id: 3 }'
    )
    path = write(
        tmp_path,
        a='base: "c.textproto"\nbase: "deep/b.textproto"\ntrain_dataset_options { max_thing_id: 9 }',
        c='experiment_name: "c" train_dataset_options { batch_size: 1 sigma: 1 crop_size: [33, 33] }',
    )
    result = config.load(path)
    assert result.experiment_name == "c"
    assert len(result.base) == 0
    data = result.train_dataset_options
    assert (data.batch_size, data.sigma, data.max_thing_id, list(data.crop_size)) == (3, 3, 9, [33, 33])


def test_cycle_of_bases_is_an_error(tmp_path):
    path = write(tmp_path, a='\nbase: "b.textproto"', b='base: "a.textproto"')
    with pytest.raises(config.ConfigError, match=r"b.textproto:1:7: the bases form a cycle: .*a.* -> .*b.* -> .*a"):
        config.load(path)


def test_missing_base_gives_line_and_nearest_file(tmp_path):
    path = write(tmp_path, a='# first\n  base: "resnet5.textproto"', resnet50="")
    with pytest.raises(config.ConfigError, match=r"a.textproto:2:9: base 'resnet5.textproto' does not exist; nearest"):
        config.load(path)


def test_missing_file_gives_the_nearest(tmp_path):
    write(tmp_path, resnet50="")
    with pytest.raises(config.ConfigError, match="does not exist; nearest in .*: resnet50.textproto"):
        config.load(tmp_path / "resnet5.textproto")


def test_errors_in_a_base_name_the_base(tmp_path):
    path = write(tmp_path, a='base: "b.textproto"', b="\n\n  nme: 3")
    with pytest.raises(config.ConfigError, match=r"b.textproto:3:3: unknown field 'nme' in ExperimentOptions"):
        config.load(path)


def test_bare_model_options_become_model_options(tmp_path):
    result = config.load(write(tmp_path, a='# proto-message: ModelOptions\nbackbone { name: "resnet50" }'))
    assert result.model_options.backbone.name == "resnet50"


def test_binary_file_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(config.ConfigError, match="expected a text file"):
        config.load(tmp_path / "a")


# Overrides and placeholders


def test_overrides_merge_in_order(tmp_path):
    path = write(tmp_path, a="train_dataset_options { batch_size: 4 crop_size: [65, 65] }")
    overrides = [
        "train_dataset_options { batch_size: 5 }",
        "train_dataset_options { crop_size: [33, 97] batch_size: 6 }",
    ]
    data = config.load(path, overrides).train_dataset_options
    assert (data.batch_size, list(data.crop_size)) == (6, [33, 97])


def test_wrong_override_is_named(tmp_path):
    with pytest.raises(config.ConfigError, match=r"override 'batch: 3':1:1: unknown field 'batch'"):
        config.load(write(tmp_path, a=""), ["batch: 3"])
    with pytest.raises(config.ConfigError, match="base can only be set in a file"):
        config.load(write(tmp_path, a=""), ['base: "x"'])


def test_placeholders_are_filled_in_everywhere(tmp_path):
    text = 'experiment_name: "${NAME}-${NAME}" train_dataset_options { file_pattern: ["${DATA}/a", "b", "${OTHER}"] }'
    result = config.load(write(tmp_path, a=text), variables={"NAME": "x", "DATA": "/d"})
    assert result.experiment_name == "x-x"
    assert list(result.train_dataset_options.file_pattern) == ["/d/a", "b", "${OTHER}"]


def test_unused_variable_is_an_error(tmp_path):
    with pytest.raises(config.ConfigError, match=r"variable 'DTA' stands nowhere .*; placeholders: DATA"):
        config.load(write(tmp_path, a='experiment_name: "${DATA}"'), variables={"DTA": "x"})


def test_variables_of_a_command_line():
    assert config.parse_variables(["A=b", "C=d=e", "F="]) == {"A": "b", "C": "d=e", "F": ""}
    with pytest.raises(config.ConfigError, match="expected NAME=value"):
        config.parse_variables(["a b"])


# Defaults of kMaX-DeepLab


@pytest.mark.parametrize(
    ("dataset", "classes", "slots", "stride", "decoder", "blocks", "keep"),
    [
        ("coco_panoptic", 134, 128, 4, True, [1, 5, 1, 1], 0.8),
        ("cityscapes_panoptic", 19, 256, 2, False, [1, 5, 1, 1, 1], 0.8),
        ("ade20k_panoptic", 151, 128, 4, True, [1, 5, 1, 1], 1.0),
        ("kitti_step", 19, 128, 4, True, [1, 5, 1, 1], 0.8),
    ],
)
def test_data_set_decides_what_is_left_open(tmp_path, dataset, classes, slots, stride, decoder, blocks, keep):
    head = config.load(write(tmp_path, a=KMAX % (classes, dataset))).model_options.max_deeplab
    assert (head.kmax.num_mask_slots, head.kmax.highest_stride) == (slots, stride)
    assert head.kmax.auxiliary_semantic_decoder is decoder
    assert list(head.kmax.pixel_decoder_blocks) == blocks
    assert list(head.kmax.transformer_decoder_blocks) == [2, 2, 2]
    assert head.transformer_decoder_drop_path_keep_prob == pytest.approx(keep)


def test_what_is_set_stays(tmp_path):
    override = """model_options { max_deeplab { transformer_decoder_drop_path_keep_prob: 0.5 kmax {
      num_mask_slots: 7 highest_stride: 4 auxiliary_semantic_decoder: true
      transformer_decoder_blocks: [1, 1, 1] } } }"""
    head = config.load(write(tmp_path, a=KMAX % (19, "cityscapes_panoptic")), [override]).model_options.max_deeplab
    assert (head.kmax.num_mask_slots, head.kmax.highest_stride, head.kmax.auxiliary_semantic_decoder) == (7, 4, True)
    assert list(head.kmax.pixel_decoder_blocks) == [1, 5, 1, 1]
    assert list(head.kmax.transformer_decoder_blocks) == [1, 1, 1]
    assert head.transformer_decoder_drop_path_keep_prob == 0.5


def test_backbone_names_are_case_insensitive(tmp_path):
    text = (KMAX % (134, "coco_panoptic")).replace("kmax_resnet50", "KMaX_ResNet50")
    assert config.load(write(tmp_path, a=text)).model_options.backbone.name == "kmax_resnet50"


def test_other_architectures_get_no_kmax_options():
    options = config.load(shared.ROOT / "configs/tiny/motion_deeplab_synthetic.textproto").model_options
    assert options.WhichOneof("meta_architecture") == "motion_deeplab"


# The whole


def test_resolved_text_loads_to_itself(tmp_path):
    resolved = dk.load_config(COCO)
    path = write(tmp_path, a=config.to_text(resolved))
    assert config.load(path) == resolved
    assert isinstance(resolved, config_pb2.ExperimentOptions)


def test_main_prints_the_resolved_config(capsys):
    assert config.main([str(COCO), "--override", "train_dataset_options { batch_size: 2 }", "--set=DATA=/data"]) == 0
    printed = capsys.readouterr()
    expected = config.load(COCO, ["train_dataset_options { batch_size: 2 }"], variables={"DATA": "/data"})
    assert printed.out == config.to_text(expected)
    assert printed.err == ""


def test_program_says_what_is_wrong_in_one_line_from_any_folder(tmp_path):
    command = [sys.executable, "-m", "deeplab2_kmax.config", str(COCO), "--override=trainer_options { sed: 1 }"]
    done = subprocess.run(command, cwd=shared.ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "unknown field 'sed' in TrainerOptions; nearest: seed" in done.stderr


def test_a_bad_config_is_found_before_tensorflow_loads():
    code = "import sys, deeplab2_kmax.config; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=shared.ROOT, check=True)


def test_program_refuses_unknown_flags_in_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        config.main([str(COCO), "--overide=x"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
