"""Weights of other libraries: their names and shapes, where every tensor lands, and the same features as there."""

import functools
import hashlib
import importlib

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax import backbones
from deeplab2_kmax._keras import keras
from deeplab2_kmax.backbones import convnext, mobilenet_v2, mobilenet_v3
from deeplab2_kmax.checkpoints import pretrained, restore, sources
from deeplab2_kmax.layers import norm
from tests.checkpoints import foreign
from tests.models import small

# Of the names and shapes of the real models' state dicts, without the classifier and the counters: the SHA-256 of lines
# "name (shape)". From torchvision 0.29.2, timm 1.0.31 and transformers 5.17.0.
DIGESTS = {
    ("torchvision", "resnet50"): "9fb760970125b1e9",
    ("torchvision", "convnext_tiny"): "89e7a0ecf6d2b039",
    ("torchvision", "mobilenet_v2"): "169476a8b25caa92",
    ("torchvision", "mobilenet_v3_small"): "003732c644b79612",
    ("torchvision", "mobilenet_v3_large"): "497f6a393a4ed5b6",
    ("timm", "resnet50"): "9fb760970125b1e9",
    ("timm", "convnext_tiny"): "b9c96a68250f39a4",
    ("timm", "mobilenet_v2"): "b124a779be7f4073",
    ("timm", "mobilenet_v3_small"): "c56f7c4d3d1e1f4a",
    ("timm", "mobilenet_v3_large"): "ff5d259a1c945cdd",
    ("hugging_face", "resnet50"): "4d4f2f14a186901c",
    ("hugging_face", "convnext_tiny"): "9fd209db5ddf1c7a",
    ("hugging_face", "mobilenet_v2"): "890992bb12fc17cc",
}
LARGE_DIGESTS = {
    ("torchvision", "resnet101"): "5a1ad461b7161e1c",
    ("torchvision", "convnext_small"): "d00b85e5799e7e0c",
    ("torchvision", "convnext_base"): "96e833745ee12e88",
    ("torchvision", "convnext_large"): "3f0384bf8aecdc04",
    ("timm", "resnet101"): "5a1ad461b7161e1c",
    ("timm", "convnext_base"): "0316de04d0fc5c03",
    ("timm", "convnext_xlarge"): "c227f1d4b2bc12ec",
    ("hugging_face", "resnet101"): "f1e2ce1ccbfb8f9c",
}
# What the classifiers of these have, and counters: left aside by name.
HEADS = {
    ("torchvision", "resnet"): ("fc.weight", "bn1.num_batches_tracked"),
    ("torchvision", "convnext"): ("classifier.0.bias", "classifier.2.weight"),
    ("torchvision", "mobilenet_v2"): ("features.18.0.weight", "features.18.1.running_var", "classifier.1.bias"),
    ("torchvision", "mobilenet_v3_small"): ("classifier.0.weight", "classifier.3.bias"),
    ("timm", "resnet"): ("fc.bias",),
    ("timm", "convnext"): ("head.norm.weight", "head.fc.weight"),
    ("timm", "mobilenet_v2"): ("conv_head.weight", "bn2.running_mean", "bn2.num_batches_tracked", "classifier.weight"),
    ("timm", "mobilenet_v3_small"): ("conv_head.bias", "classifier.bias"),
    ("timm_tf", "mobilenet_v3_small"): ("conv_head.bias", "classifier.bias"),
    ("hugging_face", "resnet"): ("classifier.1.weight",),
    ("hugging_face", "convnext"): ("convnext.layernorm.weight", "classifier.bias"),
    ("hugging_face", "mobilenet_v2"): ("mobilenet_v2.conv_1x1.normalization.weight", "classifier.weight"),
}
NORM = norm.batch_norm(epsilon=1e-3)
TINY = {
    "resnet": functools.partial(small.backbone, "resnet50"),
    "convnext": functools.partial(convnext.ConvNeXt, depths=(2, 1, 1, 1), widths=(8, 12, 16, 20), name="convnext_tiny"),
    "mobilenet_v2": functools.partial(mobilenet_v2.MobileNetV2, backbone_width_multiplier=0.35, norm=NORM),
    "mobilenet_v3_small": functools.partial(
        mobilenet_v3.MobileNetV3, backbone_width_multiplier=0.35, squeeze_and_excite_gate="hard_sigmoid", norm=NORM
    ),
}


@functools.cache
def _full(name):
    return backbones.BACKBONES[name]()


def _digest(format, backbone):
    row = foreign.source(format, backbone)
    ours = restore.built_variables(backbone)
    names = row.names(ours)
    lines = sorted(f"{names[path]} {foreign.shape_there(row, path, tuple(v.shape))}" for path, v in ours.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize("format, name", DIGESTS, ids=map(" ".join, DIGESTS))
def test_names_and_shapes_are_the_real_ones(format, name):
    assert _digest(format, _full(name)) == DIGESTS[format, name]


@pytest.mark.slow
@pytest.mark.parametrize("format, name", LARGE_DIGESTS, ids=map(" ".join, DIGESTS))
def test_names_and_shapes_are_the_real_ones_of_large_models(format, name):
    assert _digest(format, backbones.BACKBONES[name]()) == LARGE_DIGESTS[format, name]


def _load(backbone, values, tmp_path, **options):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(foreign.safetensors(values))
    return pretrained.load_pretrained(backbone, str(path), **options)


def _expected(row, path, value):
    """A tensor of PyTorch in our order of axes, index by index."""
    if path.endswith("depthwise_kernel"):
        return np.einsum("cihw->hwci", value)
    if value.ndim == 4:
        return np.einsum("oihw->hwio", value)
    return value[:, 0, 0] if value.ndim == 3 else value.T


@pytest.mark.parametrize("format, kind", HEADS, ids=map(" ".join, HEADS))
def test_every_tensor_lands_in_its_variable(format, kind, tmp_path):
    backbone = TINY[kind]()
    row = foreign.source(format, backbone)
    values = foreign.tensors(row, backbone)
    head = {name: np.zeros(3, np.float32) for name in HEADS[format, kind]}
    options = {"format": format} if format in ("timm_tf", "timm") else {}
    said = _load(backbone, {**values, **head}, tmp_path, **options)
    assert f"{len(values)} variables taken from" in said and f"({format})" in said
    assert all(name in said for name in head if not name.endswith("tracked"))
    first = next(pair for pair in sources.FIRST_CONVOLUTIONS if pair[0] in restore.variable_paths(backbone))
    epsilons = {layer.epsilon for layer in backbone.submodules if isinstance(layer, norm.BatchNorm)}
    for path, variable in restore.variable_paths(backbone).items():
        expected = _expected(row, path, values[row.names([path])[path]])
        if path in first and row.normalization != sources.SYMMETRIC:
            continue  # see below
        if path.endswith("/norm/gamma") and row.epsilon not in (None, *epsilons):
            variance_path = path.replace("gamma", "moving_variance")
            variance = values[row.names([variance_path])[variance_path]]
            expected = expected * np.sqrt((variance + 1e-3) / (variance + row.epsilon))
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("normalization", [sources.IMAGENET, sources.CAFFE, sources.SYMMETRIC])
def test_folded_normalization(normalization):
    random = np.random.default_rng(1)
    kernel = random.normal(size=(3, 3, 3, 5)).astype(np.float32)
    image = random.uniform(0, 255, (1, 9, 9, 3))
    there = (image - normalization.mean) / normalization.scale
    if normalization.reversed:
        there = there[..., ::-1]
    folded, added = normalization.fold(kernel)
    np.testing.assert_allclose(
        tf.nn.conv2d(image / 127.5 - 1, folded, 1, "VALID") + added,
        tf.nn.conv2d(there, kernel.astype(np.float64), 1, "VALID"),
        atol=1e-6,
    )


def _layer_norm(x, values, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * values[f"{name}.weight"] + values[f"{name}.bias"]


def _gelu(x):
    return tf.nn.gelu(x).numpy()


def test_features_of_a_convnext_are_those_of_timm(tmp_path):
    """The stem and a block in numpy, from timm's tensors and its normalisation."""
    backbone = TINY["convnext"](zero_padding=False)
    values = foreign.tensors(foreign.source("timm", backbone), backbone)
    _load(backbone, values, tmp_path)
    image = np.random.default_rng(2).uniform(0, 255, (32, 32, 3))

    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    patches = ((image / 255 - mean) / deviation).reshape(8, 4, 8, 4, 3)
    x = np.einsum("ahbwi,oihw->abo", patches, values["stem.0.weight"]) + values["stem.0.bias"]
    stem = x = _layer_norm(x, values, "stem.1")
    for block in range(2):
        name = f"stages.0.blocks.{block}"
        padded = np.pad(x, [(3, 3), (3, 3), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (0, 1))
        y = np.einsum("abchw,chw->abc", windows, values[f"{name}.conv_dw.weight"][:, 0])
        y = _layer_norm(y + values[f"{name}.conv_dw.bias"], values, f"{name}.norm")
        y = _gelu(y @ values[f"{name}.mlp.fc1.weight"].T + values[f"{name}.mlp.fc1.bias"])
        x = x + values[f"{name}.gamma"] * (y @ values[f"{name}.mlp.fc2.weight"].T + values[f"{name}.mlp.fc2.bias"])
    features = backbone(image[np.newaxis].astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(features.stage1[0], stem, atol=1e-4)
    np.testing.assert_allclose(features.stage2[0], x, atol=1e-3)


def _randomised(model, seed=3):
    random = np.random.default_rng(seed)
    for variable in model.variables:
        low, high = (0.5, 1.5) if any(part in variable.name for part in ("gamma", "variance")) else (-0.2, 0.2)
        variable.assign(random.uniform(low, high, variable.shape))
    return model


def _keras_convnext():
    family = importlib.import_module(keras.applications.ConvNeXtTiny.__module__)
    return family.ConvNeXt(
        depths=[2, 1, 1, 1],
        projection_dims=[8, 12, 16, 20],
        model_name="convnext_tiny",
        include_top=False,
        weights=None,
        input_shape=(64, 64, 3),
    )


def _keras_mobilenet_v2():
    return keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(65, 65, 3))


def _keras_mobilenet_v3():
    return keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(65, 65, 3))


# Kind, our options, the model there, where the features lie in it, what it expects, and how it is saved.
APPLICATIONS = [
    *(
        ("convnext", {"zero_padding": False}, _keras_convnext, lambda model: model.layers[-1].input, 1, 0, ending)
        for ending in ("h5", "keras", "weights")
    ),
    (
        *("mobilenet_v2", {}, _keras_mobilenet_v2),
        *(lambda model: model.get_layer("block_16_project_BN").output, 127.5, 1, "weights"),
    ),
    (
        *("mobilenet_v3_small", {"backbone_width_multiplier": 1}, _keras_mobilenet_v3),
        *(lambda model: model.output, 1, 0, "keras"),
    ),
]


@pytest.mark.parametrize(
    "kind, options, build, output, scale, offset, ending",
    APPLICATIONS,
    ids=[f"{row[0]} {row[-1]}" for row in APPLICATIONS],
)
def test_features_are_those_of_keras(kind, options, build, output, scale, offset, ending, tmp_path):
    model = _randomised(build())
    backbone = TINY[kind](**options)
    path = str(tmp_path / ("weights.h5" if ending == "weights" else f"model.{ending}"))
    (model.save_weights if ending == "weights" else model.save)(path)
    said = pretrained.load_pretrained(backbone, path)
    assert f"{len(backbone.variables)} variables taken" in said and "(keras_applications)" in said

    images = np.random.default_rng(4).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    expected = keras.Model(model.input, output(model))(images / scale - offset).numpy()
    np.testing.assert_allclose(backbone(images / 127.5 - 1).stage5, expected, atol=1e-4 * np.abs(expected).max())


def _keras_resnet():
    """Keras's ResNet with narrow stages."""
    resnet = importlib.import_module(keras.applications.ResNet50.__module__)

    def stacks(x):
        for stage, (filters, count) in enumerate([(2, 1), (4, 1), (8, 2), (16, 1)], start=2):
            x = resnet.stack1(x, filters, count, stride1=1 if stage == 2 else 2, name=f"conv{stage}")
        return x

    return resnet.ResNet(stacks, False, True, "resnet", include_top=False, weights=None, input_shape=(65, 65, 3))


def test_resnet_of_keras_is_a_start_and_says_so(monkeypatch, tmp_path):
    warnings = []
    monkeypatch.setattr(pretrained.logging, "warning", lambda text, *values: warnings.append(text % values))
    model = _randomised(_keras_resnet())
    model.save(tmp_path / "model.keras")
    backbone = small.backbone("resnet50", stem_width_multiplier=1, backbone_layer_multiplier=0.4)
    said = pretrained.load_pretrained(backbone, str(tmp_path / "model.keras"))
    assert warnings and warnings[0] in said
    assert "max pooling" in warnings[0] and "Keras's in the 1x1 before it" in warnings[0]
    # The stem is the same function, away from its padding: blue first, means, biases and epsilon are folded.
    images = np.random.default_rng(5).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    there = keras.applications.resnet.preprocess_input(images.copy())
    expected = keras.Model(model.input, model.get_layer("conv1_bn").output)(there).numpy()
    stem = backbone(images / 127.5 - 1).stage1.numpy()
    np.testing.assert_allclose(stem[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], rtol=1e-4, atol=1e-2)
    # And so is a block that does not stride, on the same features.
    features = np.random.default_rng(6).uniform(0, 1, (1, 5, 5, 32)).astype(np.float32)
    block = keras.Model(model.get_layer("conv4_block1_out").output, model.get_layer("conv4_block2_add").output)
    np.testing.assert_allclose(backbone.stage4.block2(features), block(features), rtol=1e-3, atol=1e-4)


def test_gates_that_differ_are_a_warning(monkeypatch, tmp_path):
    warnings = []
    monkeypatch.setattr(pretrained.logging, "warning", lambda text, *values: warnings.append(text % values))
    backbone = mobilenet_v3.MobileNetV3(backbone_width_multiplier=0.35)
    _load(backbone, foreign.tensors(foreign.source("torchvision", backbone), backbone), tmp_path)
    assert len(warnings) == 1 and "set backbone.squeeze_and_excite_gate to 'hard_sigmoid'" in warnings[0]


def test_unmatched_names_are_listed_with_the_nearest(tmp_path):
    backbone = TINY["convnext"]()
    values = foreign.tensors(foreign.source("timm", backbone), backbone)
    values["stages.0.blocks.0.gama"] = values.pop("stages.0.blocks.0.gamma")
    values["stages.0.blocks.2.gamma"] = np.zeros(8, np.float32)
    before = backbone.stage2.block1.layer_scale.numpy()
    with pytest.raises(ValueError) as error:
        _load(backbone, values, tmp_path)
    message = str(error.value)
    assert "read as of timm, does not fit the backbone convnext_tiny" in message
    assert "stage2/block1/layer_scale (stages.0.blocks.0.gamma; nearest: stages.0.blocks.0.gama)" in message
    assert "not in the backbone: stages.0.blocks.0.gama (nearest: stages.0.blocks.0.gamma)" in message
    assert "not in the backbone: stages.0.blocks.2.gamma" in message
    np.testing.assert_array_equal(backbone.stage2.block1.layer_scale, before)


def test_formats_can_be_named(tmp_path):
    backbone = TINY["mobilenet_v3_small"]()
    values = foreign.tensors(foreign.source("timm", backbone), backbone)
    said = _load(backbone, values, tmp_path)
    assert "(timm)" in said and "ImageNet's mean" in said
    said = _load(backbone, values, tmp_path, format="timm_tf")
    assert "(timm_tf)" in said and "ImageNet's mean" not in said and "SAME padding" in said
    with pytest.raises(ValueError, match="Unknown pretrained_format 'tim'. Did you mean: timm"):
        _load(backbone, values, tmp_path, format="tim")
    with pytest.raises(ValueError, match="no weights of the format timm_tf are known for the backbone convnext_tiny"):
        _load(TINY["convnext"](), values, tmp_path, format="timm_tf")


def test_a_family_without_foreign_weights(tmp_path):
    with pytest.raises(ValueError, match="no weights are known for the backbone xception_41"):
        _load(backbones.BACKBONES["xception_41"](), {"a": np.zeros(1, np.float32)}, tmp_path)
