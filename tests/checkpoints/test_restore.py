"""Loading DeepLab2's checkpoints: everything used once or an error that names what is not; starting from parts."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax.checkpoints import name_maps, restore
from deeplab2_kmax.checkpoints.name_maps import backbones as backbone_names
from deeplab2_kmax.checkpoints.name_maps import kmax_deeplab as names
from tests.models import small

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def model():
    return small.build()


@pytest.fixture
def stored(model):
    """DeepLab2's names for the tiny model's variables, with other values than the model has."""
    random = np.random.RandomState(3)
    translate = name_maps.NameMap(names.TABLE)
    paths = restore.variable_paths(model)
    return {translate(path): random.standard_normal(v.shape).astype(np.float32) for path, v in paths.items()}


def write(folder, values):
    prefix = str(folder / "ckpt-7")
    keys = [name + SUFFIX for name in values]
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=list(values.values())
    )
    return prefix


def test_paths_are_short_and_complete(model):
    paths = restore.variable_paths(model)
    assert len(paths) == len(model.variables)
    assert "backbone/stage2/block1/conv1/conv/kernel" in paths
    assert "transformer_decoder/blocks/0/predictor/mask_norm/gamma" in paths
    assert not any("/_" in path for path in paths)


def test_every_variable_is_loaded(model, stored, tmp_path):
    report = restore.load_deeplab2_checkpoint(model, write(tmp_path, stored))
    assert len(report.loaded) == len(stored)
    variables = restore.variable_paths(model)
    np.testing.assert_array_equal(
        variables["mask_predictor/class_head/kernel"], stored["transformer_class_head/_conv/kernel"]
    )


def test_training_checkpoint_and_folder(model, stored, tmp_path):
    for extra in ("optimizer/iter", "global_step", "save_counter", "backbone_optimizer/_variables/3"):
        stored[extra] = np.zeros([], np.int64)
    stored["semantic_last_layer/bias/.OPTIMIZER_SLOT/optimizer/m"] = np.zeros([5], np.float32)
    write(tmp_path, stored)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-7"\n')
    assert not restore.load_deeplab2_checkpoint(model, tmp_path).unused


def test_backbone_alone_takes_its_part(stored, tmp_path):
    backbone = small.backbone()
    report = restore.load_deeplab2_checkpoint(backbone, write(tmp_path, stored))
    assert len(report.loaded) == len(backbone.variables)
    np.testing.assert_array_equal(
        restore.variable_paths(backbone)["stem/conv/kernel"], stored["encoder/_stem/_conv/kernel"]
    )


def test_dense_kernels_come_from_convolutions_of_size_1(model, stored, tmp_path):
    name = "transformer_class_head/_conv/kernel"
    stored[name] = stored[name][np.newaxis]
    report = restore.load_deeplab2_checkpoint(model, write(tmp_path, stored))
    path = "mask_predictor/class_head/kernel"
    assert report.reshaped[path] == f"{stored[name].shape} as {stored[name].shape[1:]}"
    assert f"{stored[name].shape} as {stored[name].shape[1:]}" in report.table().splitlines()[-1]


def test_misfits_are_listed_with_the_nearest_names(model, stored, tmp_path):
    weights = [v.numpy() for v in model.variables]
    stored["semantic_last_layer/kernal"] = stored.pop("semantic_last_layer/kernel")
    stored["encoder/_stem/_conv/kernel"] = np.zeros([3, 3, 3, 4], np.float32)
    with pytest.raises(ValueError) as error:
        restore.load_deeplab2_checkpoint(model, write(tmp_path, stored))
    message = str(error.value)
    assert "semantic_head/last/kernel (semantic_last_layer/kernel; nearest: semantic_last_layer/kernal)" in message
    assert "semantic_last_layer/kernal (nearest: semantic_last_layer/kernel)" in message
    assert (
        "backbone/stem/conv/kernel: expected (7, 7, 3, 4), but encoder/_stem/_conv/kernel has (3, 3, 3, 4)" in message
    )
    # Nothing was loaded.
    for variable, before in zip(model.variables, weights):
        np.testing.assert_array_equal(variable, before)


def test_parts_can_be_skipped(model, stored, tmp_path):
    before = restore.variable_paths(model)["semantic_head/last/kernel"].numpy()
    del stored["semantic_last_layer/kernel"]
    stored["transformer_class_head/_conv/kernel"] = np.zeros([8, 9], np.float32)
    skip = ("semantic_last_layer", "transformer_class_head")
    report = restore.load_deeplab2_checkpoint(model, write(tmp_path, stored), skip=skip)
    # Main and auxiliary class heads, and the last semantic layer: a kernel and a bias each.
    assert len(report.skipped) == 2 * (1 + 3 + 1)
    np.testing.assert_array_equal(restore.variable_paths(model)["semantic_head/last/kernel"], before)


@pytest.mark.parametrize("path", ["nothing/here", "."])
def test_no_checkpoint(model, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no checkpoint"):
        restore.load_deeplab2_checkpoint(model, path)


def test_initial_from_our_own_run(model, tmp_path):
    source = small.build()
    step = tf.Variable(5)
    averages = {"weights": small.backbone()}
    averages["weights"](tf.zeros([1, 33, 33, 3]))
    prefix = tf.train.Checkpoint(model=source, global_step=step, averages=averages).save(str(tmp_path / "ckpt"))
    report = restore.load_initial(model, prefix)
    assert len(report.loaded) == len(model.variables) and not report.missing
    for path, variable in restore.variable_paths(source).items():
        np.testing.assert_array_equal(restore.variable_paths(model)[path], variable)


def test_initial_from_our_own_run_without_the_last_semantic_layer(model, tmp_path):
    prefix = tf.train.Checkpoint(model=small.build()).save(str(tmp_path / "ckpt"))
    report = restore.load_initial(model, prefix, restore_semantic_last_layer=False)
    assert sorted(report.skipped) == ["semantic_head/last/bias", "semantic_head/last/kernel"]
    assert len(report.loaded) == len(model.variables) - 2


def test_initial_from_deeplab2_without_last_layers(model, stored, tmp_path):
    prefix = write(tmp_path, stored)
    report = restore.load_initial(model, prefix, restore_semantic_last_layer=False, skip=["transformer_class_head"])
    assert sorted(report.skipped)[-1] == "transformer_decoder/blocks/2/predictor/class_head/kernel"
    assert "semantic_head/last/kernel" in report.skipped
    assert not report.missing and not report.unused
    assert len(report.loaded) + len(report.skipped) == len(model.variables)


@pytest.mark.parametrize("root", ["encoder/", "backbone/_encoder/"])
def test_initial_from_a_classifier(model, stored, root, tmp_path):
    encoder = {name.replace("encoder/", root): v for name, v in stored.items() if name.startswith("encoder/")}
    encoder["classifier/kernel"] = np.zeros([4, 10], np.float32)
    report = restore.load_initial(model, write(tmp_path, encoder))
    assert len(report.loaded) == len(model.backbone.variables)
    assert report.unused == ["classifier/kernel"]
    rows = [line.split() for line in report.table().splitlines()]
    assert rows[0] == ["item", "loaded", "reshaped", "missing", "mismatched", "skipped", "unused"]
    assert ["backbone", str(len(report.loaded)), "0", "0", "0", "0", "0"] in rows
    assert ["classifier", "0", "0", "0", "0", "0", "1"] in rows


def test_initial_leaves_other_shapes_at_their_start_and_says_so(model, stored, tmp_path):
    stored["semantic_last_layer/kernel"] = np.zeros([1, 1, 8, 19], np.float32)
    report = restore.load_initial(model, write(tmp_path, stored))
    assert list(report.mismatched) == ["semantic_head/last/kernel"]
    assert "shape of semantic_head/last/kernel: expected (1, 1, 8, 5)" in str(report)


def test_initial_of_another_backbone_is_an_error(model, stored, tmp_path):
    for name in [name for name in stored if name.startswith("encoder/_stage5")]:
        del stored[name]
    with pytest.raises(ValueError, match="fewer than 90 %"):
        restore.load_initial(model, write(tmp_path, stored))


def test_initial_without_any_match(model, tmp_path):
    with pytest.raises(ValueError, match="holds no variable of this model"):
        restore.load_initial(model, write(tmp_path, {"something/kernel": np.zeros([3], np.float32)}))


def test_initial_of_part_of_the_backbone_if_allowed(model, stored, tmp_path):
    for name in [name for name in stored if name.startswith("encoder/_stage5")]:
        del stored[name]
    report = restore.load_initial(model, write(tmp_path, stored), allow_partial_backbone=True)
    assert all(path.startswith("backbone/stage5/") for path in report.missing) and report.missing
    assert f"not in the checkpoint: {report.missing[0]}, " in str(report)


def test_other_number_of_classes(stored, tmp_path):
    """A published model, but other classes: the last layers stay at their start, everything else is loaded."""
    prefix = write(tmp_path, stored)
    other = small.build("max_deeplab { auxiliary_semantic_head { output_channels: 7 } }")
    start = restore.variable_paths(other)["semantic_head/last/kernel"].numpy()
    report = restore.load_initial(other, prefix)
    assert set(report.mismatched) == {"semantic_head/last/kernel", "semantic_head/last/bias"} and not report.missing
    assert "shape of semantic_head/last/kernel: expected (1, 1, 8, 7)" in str(report)
    np.testing.assert_array_equal(restore.variable_paths(other)["semantic_head/last/kernel"], start)
    report = restore.load_deeplab2_checkpoint(other, prefix, skip=["semantic_last_layer"])
    assert "left at its start: semantic_head/last/bias, semantic_head/last/kernel" in str(report)


@pytest.mark.parametrize("load", [restore.load_initial, restore.load_deeplab2_checkpoint])
def test_a_part_to_skip_that_there_is_not(model, stored, load, tmp_path):
    with pytest.raises(ValueError, match="no part 'semantic_last_layr' to skip; nearest: semantic_last_layer"):
        load(model, write(tmp_path, stored), skip=["semantic_last_layr"])


@pytest.mark.parametrize("load", [restore.load_initial, restore.load_deeplab2_checkpoint])
def test_damaged_checkpoints(model, stored, load, tmp_path):
    prefix = write(tmp_path, stored)
    before = [v.numpy() for v in model.variables]
    (data,) = tmp_path.glob("*.data-*")
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        load(model, prefix)
    data.write_bytes(content)
    index = tmp_path / "ckpt-7.index"
    index.write_bytes(index.read_bytes()[:-30])
    with pytest.raises(ValueError, match="is damaged"):
        load(model, prefix)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable, value)


def test_switches_of_another_output_stride(tmp_path):
    """Which convolutions have a switch depends on the output stride; without one they are plain, as at its start."""
    settings = {"output_stride": 16, "backbone_layer_multiplier": 0.34, "use_sac_beyond_stride": 16}
    narrow = {"stem_width_multiplier": 1 / 16, "backbone_width_multiplier": 1 / 32}
    finer, coarser = (
        backbones.BACKBONES["swidernet"](**{**settings, **narrow, "output_stride": stride}) for stride in (16, 32)
    )
    ours = restore.built_variables(finer)
    translate = name_maps.NameMap(backbone_names.TABLE)
    random = np.random.default_rng(0)
    stored = {f"encoder/{translate(path)}": random.normal(size=v.shape).astype(np.float32) for path, v in ours.items()}
    switches = {path for path in ours if "/switch/" in path}
    prefix = write(tmp_path, stored)
    restore.load_deeplab2_checkpoint(finer, prefix)
    report = restore.load_deeplab2_checkpoint(coarser, prefix)
    fewer = {path for path in restore.variable_paths(coarser) if "/switch/" in path}
    assert fewer < switches
    assert {name.replace("encoder/", "") for name in report.unused} == {translate(path) for path in switches - fewer}

    fewer_stored = {
        name: value
        for name, value in stored.items()
        if name.removeprefix("encoder/") in {translate(path) for path in restore.variable_paths(coarser)}
    }
    other = backbones.BACKBONES["swidernet"](**settings, **narrow)
    report = restore.load_deeplab2_checkpoint(other, write(tmp_path, fewer_stored))
    assert set(report.skipped) == switches - fewer
    assert not any(np.any(restore.variable_paths(other)[path]) for path in switches - fewer)
