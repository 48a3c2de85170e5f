"""Every shipped config loads; DeepLab2's own files load and mean the same."""

import pytest

from deeplab2_kmax import config
from deeplab2_kmax.protos import config_pb2, dataset_pb2, evaluator_pb2, model_pb2, trainer_pb2
from tests.configs import catalogue, resolved

SCHEMA = (resolved.GOLDEN.parent / "deeplab2_schema.txt").read_text().splitlines()[1:]
TYPES = {2: "float", 5: "int32", 8: "bool", 9: "string"}
CATALOGUE = catalogue.configs()
SIZES = ("1", "3", "4.5")  # of SWideRNets
OF_DEEPLAB2 = {
    "coco/kmax_deeplab/resnet50": "coco/kmax_deeplab/kmax_meta_r50_os32",
    "coco/kmax_deeplab/axial_resnet50": "coco/kmax_deeplab/kmax_meta_axial_r50_os32",
    "cityscapes/kmax_deeplab/resnet50": "cityscapes/kmax_deeplab/kmax_meta_r50_os32",
    "cityscapes/kmax_deeplab/axial_resnet50": "cityscapes/kmax_deeplab/kmax_meta_axial_r50_os32",
    "ade20k/kmax_deeplab/resnet50": "ade20k/kmax_deeplab/kmax_meta_r50_os32",
    "ade20k/kmax_deeplab/resnet50_1281": "ade20k/kmax_deeplab/kmax_meta_r50_os32_res1281",
    **{
        f"{dataset}/kmax_deeplab/convnext_{size}": f"{dataset}/kmax_deeplab/kmax_meta_convnext_{size}_os32"
        for dataset in ("coco", "cityscapes")
        for size in ("tiny", "small", "base", "large")
    },
    **{
        f"coco/max_deeplab/{size}_{crop}_{steps}": f"coco/max_deeplab/{size}_os16_res{crop}_{steps}"
        for size, crop in (("max_deeplab_s", 641), ("max_deeplab_s", 1025), ("max_deeplab_l", 1025))
        for steps in ("100k", "200k", "400k")
    },
    **{
        f"cityscapes/panoptic_deeplab/{ours}": f"cityscapes/panoptic_deeplab/{theirs}"
        for ours, theirs in {
            **{name: f"{name}_os32" for name in ("mobilenet_v3_large", "mobilenet_v3_small", "resnet50_beta")},
            **{name: name for name in ("mobilenet_v3_large_os16", "mobilenet_v3_small_os16")},
            **{f"swidernet_sac_1_1_{size.replace('.', '_')}": f"swidernet_sac_1_1_{size}_os16" for size in SIZES},
            "resnet50": "resnet50_os32_merge_with_pure_tf_func",
            "resnet50_semantic": "resnet50_os32_semseg",
            "wide_resnet41": "wide_resnet41_os16",
        }.items()
    },
    **{
        f"cityscapes/axial_deeplab/{name.replace('.', '_')}": f"cityscapes/axial_deeplab/{name}_os16"
        for name in (
            *(f"axial_swidernet_1_1_{size}" for size in SIZES),
            *("max_deeplab_s_backbone", "max_deeplab_l_backbone"),
        )
    },
    **{
        f"coco/panoptic_deeplab/{name}": f"coco/panoptic_deeplab/{name if '_os' in name else name + '_os32'}"
        for name in ("resnet50", "resnet50_os16", "resnet50_beta", "resnet50_beta_os16")
    },
    **{
        name.removesuffix("_os32").removesuffix("_os16"): name
        for name in (
            *(f"cityscapes_dvps/vip_deeplab/{backbone}" for backbone in ("resnet50_beta_os32", "wide_resnet41_os16")),
            "semkitti_dvps/vip_deeplab/resnet50_beta_os32",
        )
    },
    **{
        name.replace("_os32", ""): name
        for architecture in ("panoptic_deeplab", "motion_deeplab")
        for name in (
            *(f"kitti/{architecture}/resnet50_os32{split}" for split in ("", "_trainval")),
            f"motchallenge/{architecture}/resnet50_os32",
        )
    },
    "ade20k/kmax_deeplab/convnext_large": "ade20k/kmax_deeplab/kmax_meta_convnext_large_os32",
    "ade20k/kmax_deeplab/convnext_large_1281": "ade20k/kmax_deeplab/kmax_meta_convnext_large_os32_res1281",
}


def message_type(name):
    outer, _, inner = name.partition(".")
    for module in (config_pb2, model_pb2, trainer_pb2, evaluator_pb2, dataset_pb2):
        if hasattr(module, outer):
            return getattr(getattr(module, outer), inner) if inner else getattr(module, outer)
    raise AssertionError(name)


@pytest.mark.parametrize("row", SCHEMA, ids=lambda row: row.split()[0])
def test_field_is_that_of_deeplab2(row):
    path, number, label, kind, default = row.split()
    message, _, name = path.rpartition(".")
    field = message_type(message).DESCRIPTOR.fields_by_name[name]
    value = getattr(message_type(message)(), name)
    assert field.number == int(number)
    assert (field.message_type.name if field.message_type else TYPES[field.type]) == kind
    assert (label in ("repeated", "packed")) == hasattr(value, "extend")
    assert (label == "packed") == field.GetOptions().packed
    assert (label == "oneof") == (field.containing_oneof is not None)
    if default != "-":
        expected = {"bool": lambda: default == "true", "string": lambda: default.strip('"')}.get(kind)
        assert field.default_value == pytest.approx(expected() if expected else float(default))


def test_every_addition_is_beyond_deeplab2s_numbers():
    known = {row.split()[0] for row in SCHEMA}
    for message in {row.split()[0].rpartition(".")[0] for row in SCHEMA}:
        for field in message_type(message).DESCRIPTOR.fields:
            assert f"{message}.{field.name}" in known or field.number >= 1000


def test_every_addition_is_documented():
    page = (resolved.ROOT / "docs/configs.md").read_text()
    known = {row.split()[0] for row in SCHEMA}
    messages = {row.split()[0].rpartition(".")[0] for row in SCHEMA}
    messages |= {f"ModelOptions.{name}Options" for name in ("KMaX", "Memory", "CMT", "ReMaX")}
    for message in messages:
        for field in message_type(message).DESCRIPTOR.fields:
            assert f"{message}.{field.name}" in known or f"{field.name}`" in page, f"docs/configs.md lacks {field.name}"


def test_catalogue_is_complete():
    assert len(CATALOGUE) == 62


@pytest.mark.parametrize("name", CATALOGUE)
def test_deeplab2_file_loads(name, tmp_path):
    path = tmp_path / "config.textproto"
    path.write_text(catalogue.text_of(name, CATALOGUE[name]))
    loaded = config.load(path)
    config.check(loaded)
    expected = CATALOGUE[name]
    if name.endswith("example_kitti-step_motion_deeplab"):
        expected = config_pb2.ExperimentOptions(model_options=expected.model_options)
    if loaded.model_options.HasField("max_deeplab"):  # what load adds
        loaded.model_options.max_deeplab.ClearField("kmax")
        if not expected.model_options.max_deeplab.HasField("transformer_decoder_drop_path_keep_prob"):
            loaded.model_options.max_deeplab.ClearField("transformer_decoder_drop_path_keep_prob")
    for options in (loaded, expected):
        options.model_options.decoder.ClearField("aspp_pool_size")
    for architecture in ("panoptic_deeplab", "motion_deeplab", "vip_deeplab"):
        override = getattr(loaded.model_options, architecture).instance.instance_decoder_override
        if override.aspp_pool_size:
            override.ClearField("aspp_pool_size")
    assert loaded == expected


@pytest.mark.parametrize("name", OF_DEEPLAB2)
def test_hyperparameters_are_the_published_ones(name, tmp_path):
    path = tmp_path / "config.textproto"
    path.write_text(catalogue.text_of("", CATALOGUE[OF_DEEPLAB2[name]]))
    theirs, ours = config.load(path), config.load(resolved.CONFIGS / f"{name}.textproto")
    for each in (theirs, ours):
        each.ClearField("experiment_name")
        for data in (each.train_dataset_options, each.eval_dataset_options):
            data.ClearField("file_pattern")
            if not data.increase_small_instance_weights:  # then neither field has a meaning
                data.ClearField("increase_small_instance_weights")
                data.ClearField("small_instance_weight")
    assert config.to_text(ours) == config.to_text(theirs)


@pytest.mark.parametrize("name", resolved.shipped())
def test_shipped_config_resolves_to_its_golden_text(name):
    hint = "if the change is meant: python -m tests.configs.resolved"
    assert resolved.golden_path(name).is_file(), hint
    assert resolved.text_of(name) == resolved.golden_path(name).read_text(), hint


@pytest.mark.parametrize("name", resolved.shipped())
def test_shipped_config_uses_every_setting(name):
    assert config.check(config.load(resolved.CONFIGS / f"{name}.textproto")) == []


def test_every_golden_text_has_its_config():
    golden = {str(path.relative_to(resolved.GOLDEN).with_suffix("")) for path in resolved.GOLDEN.rglob("*.textproto")}
    assert golden == set(resolved.shipped())
