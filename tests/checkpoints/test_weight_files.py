"""Files are told apart by how they begin, not by what they are called."""

import zipfile

import numpy as np
import pytest

from deeplab2_kmax.checkpoints import weight_files
from tests.checkpoints import foreign, test_torch_pickle

VALUES = {"a": np.arange(4, dtype=np.float32)}


def test_the_beginning_decides(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(foreign.safetensors(VALUES))
    np.testing.assert_array_equal(weight_files.load(path)["a"], VALUES["a"])
    body = test_torch_pickle.state(a=test_torch_pickle.tensor("0", 4, shape=(4,), strides=(1,)))
    for write in (test_torch_pickle.zipped, test_torch_pickle.legacy):
        path.write_bytes(write(body, {"0": VALUES["a"]}))
        np.testing.assert_array_equal(weight_files.load(path)["a"], VALUES["a"])


@pytest.mark.parametrize("content", [b"", b"What is this?", b"\x1f\x8b\x08", b"PK\x03\x04", b"\x89HDF", b"\x80"])
def test_unknown_files(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is no"):
        weight_files.load(path)


def test_names_of_any_length(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(foreign.safetensors({"a" * 501: VALUES["a"]}))
    with pytest.raises(ValueError, match="a name in it has 501 characters"):
        weight_files.load(path)


def test_an_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="0 members"):
        weight_files.load(tmp_path / "weights.pth")


def test_what_is_a_weight_file(tmp_path):
    assert weight_files.is_weight_file("/nowhere/model.safetensors")
    assert not weight_files.is_weight_file("/nowhere/ckpt-7") and not weight_files.is_weight_file("")
    assert not weight_files.is_weight_file(str(tmp_path))
