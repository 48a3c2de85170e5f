"""Reading Keras files: what Keras itself writes, in all its versions, and files that want to do harm."""

import importlib
import io
import json
import os
import zipfile

import h5py
import numpy as np
import pytest

from deeplab2_kmax._keras import keras
from deeplab2_kmax.checkpoints import keras_files

_PLAIN = importlib.import_module("keras")
# Keras 2, and Keras 3 where TensorFlow brings it.
VERSIONS = {"keras2": keras, **({"keras3": _PLAIN} if _PLAIN.__version__.startswith("3") else {})}


def _model(name):
    version = VERSIONS[name]
    layers = version.layers
    inner = version.Sequential([layers.Conv2D(4, 1, name="inner_conv"), layers.LayerNormalization(name="inner_norm")])
    return version.Sequential(
        [
            version.Input((9, 9, 3)),
            layers.Conv2D(3, 3, use_bias=False, name="first"),
            layers.BatchNormalization(name="first/BatchNorm" if name == "keras2" else "first_bn"),
            layers.DepthwiseConv2D(3, name="Second"),
            inner,
            layers.Conv2D(2, 1, name="last"),
        ]
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_what_keras_writes(version, ending, tmp_path):
    model = _model(version)
    path = tmp_path / f"model.{ending}"
    model.save(path)
    arrays = keras_files.load(path)
    norm, inner = model.layers[1], model.layers[3]
    assert len(arrays) == len(model.weights)
    np.testing.assert_array_equal(arrays["first/kernel"], model.layers[0].kernel)
    np.testing.assert_array_equal(arrays["first_bn/moving_variance"], norm.moving_variance)
    np.testing.assert_array_equal(arrays["second/kernel"], model.layers[2].weights[0])
    np.testing.assert_array_equal(arrays["inner_conv/kernel"], inner.layers[0].kernel)
    np.testing.assert_array_equal(arrays["inner_norm/gamma"], inner.layers[1].gamma)
    np.testing.assert_array_equal(arrays["last/bias"], model.layers[4].bias)


def test_weights_alone(tmp_path):
    model = _model("keras2")
    model.save_weights(tmp_path / "weights.h5")
    assert set(keras_files.load(tmp_path / "weights.h5")) >= {"first/kernel", "first_bn/gamma", "inner_norm/beta"}
    model.save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match=r"does not name its layers: write it by model.save\('....keras'\)"):
        keras_files.load(tmp_path / "plain.weights.h5")


def test_a_lambda_is_not_made(tmp_path):
    proof = tmp_path / "executed"
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(2, name="dense")])
    model.add(keras.layers.Lambda(lambda x, place=str(proof): (os.makedirs(place), x)[1], output_shape=(2,)))
    proof.rmdir()
    model.save(tmp_path / "model.keras")
    assert set(keras_files.load(tmp_path / "model.keras")) == {"dense/kernel", "dense/bias"}
    assert not proof.exists()


@pytest.fixture
def load(tmp_path):
    """Fills an HDF5 file by a function and reads it."""

    def read(fill):
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["secret"] = np.ones(4, np.float32)
        path = tmp_path / "weights.h5"
        with h5py.File(path, "w") as file:
            fill(file)
        return keras_files.load(path)

    return read


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", shape=(4,))
    file.create_virtual_dataset("a/kernel:0", layout)


def _cycle(file):
    file["a/kernel:0"] = np.ones(2, np.float32)
    file["a/again"] = file["a"]


def _deep(file):
    file["/".join("a" * 40) + "/kernel:0"] = np.ones(2, np.float32)


def _put(name, value):
    return lambda file: file.__setitem__(name, value)


def _dataset(**options):
    return lambda file: file.create_dataset("a/kernel:0", **options)


HOSTILE = {
    "external link": (_put("a", h5py.ExternalLink("other.h5", "/secret")), "a link to another place"),
    "link to a device": (_put("a", h5py.ExternalLink("/dev/zero", "/secret")), "a link to another place"),
    "soft link": (_put("a", h5py.SoftLink("/b")), "a link to another place"),
    "virtual": (_virtual, "from another file"),
    "numbers of another file": (
        _dataset(shape=(4,), dtype="f4", external=[("/etc/passwd", 0, 16)]),
        "from another file",
    ),
    "compressed": (_dataset(data=np.zeros(10_000, np.float32), compression="gzip"), "compressed"),
    "shuffled": (_dataset(data=np.zeros(10_000, np.float32), chunks=(100,), shuffle=True), "compressed"),
    "giant but empty": (_dataset(shape=(2**40,), dtype="f4", chunks=(1024,)), "4398046511104 bytes, but 0 are stored"),
    "text": (_put("a/kernel:0", "import os"), "does not hold numbers"),
    "objects": (_dataset(shape=(2,), dtype=h5py.special_dtype(ref=h5py.Reference)), "does not hold numbers"),
    "a type": (_put("a/kernel:0", np.dtype("f8")), "neither a group nor a dataset"),
    "group in itself": (_cycle, "reached in two ways"),
    "deep groups": (_deep, "too deep"),
}


@pytest.mark.parametrize("fill, message", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_datasets(load, fill, message):
    with pytest.raises(ValueError, match=message):
        load(fill)


def test_two_names_for_one_variable(load):
    def fill(file):
        file["Conv/BatchNorm/Conv/BatchNorm/beta:0"] = np.ones(2, np.float32)
        file["conv_bn/conv_bn/beta"] = np.ones(2, np.float32)

    with pytest.raises(ValueError, match="the same name"):
        load(fill)


def _content(fill):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        fill(content)
    return file.getvalue()


WEIGHTS = _content(_put("layers/conv2d/vars/0", np.ones([1, 1, 2, 3], np.float32)))
CONFIG = {"class_name": "Functional", "config": {"layers": [{"class_name": "Conv2D", "config": {"name": "conv"}}]}}


def _archive(path, config=CONFIG, weights=WEIGHTS, compression=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("model.weights.h5", weights)
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def test_archive(tmp_path):
    path = _archive(tmp_path / "a.keras", **{"../../escaped": "x", "/absolute": "y"})
    assert list(keras_files.load(path)) == ["conv/kernel"]
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"config": "[" * 100_000}, "recursion|read safely"),
        ({"config": "{}"}, "read safely"),
        ({"config": "[]"}, "read safely"),
        ({"config": {"config": {"layers": [{"class_name": 3, "config": {}}]}}}, "without a name"),
        ({"config": {"config": {"layers": 7}}}, "read safely"),
        ({"weights": b"no numbers"}, "does not begin as HDF5 does"),
        ({"weights": _content(_put("layers/x", h5py.ExternalLink("other.h5", "/secret")))}, "a link"),
        ({"config": " " * (2**24 + 1)}, "more than 16777216 bytes"),
    ],
)
def test_hostile_archives(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        keras_files.load(_archive(tmp_path / "a.keras", **change))


def test_truncated_files(tmp_path):
    path = tmp_path / "weights"
    archive = _archive(tmp_path / "a.keras").read_bytes()
    plain = _content(_put("a/a/kernel:0", np.arange(100, dtype=np.float32)))
    for whole in (archive, plain):
        for length in range(0, len(whole), 97):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match="read safely"):
                keras_files.load(path)
