"""Reading safetensors files: types and shapes, and headers that lie."""

import json
import struct

import numpy as np
import pytest

from deeplab2_kmax.checkpoints import safetensors
from tests.checkpoints import foreign


@pytest.fixture
def load(tmp_path):
    def read(content):
        path = tmp_path / "weights.safetensors"
        path.write_bytes(content)
        return safetensors.load(path)

    return read


def test_round_trip(load):
    values = {
        "whole": np.arange(12, dtype=np.float32).reshape(3, 4),
        "half": np.array([0.5, -2], np.float16),
        "brain": np.array([0x3F80, 0xC020], np.uint16),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros([0, 3], np.float32),
        "flags": np.array([True, False]),
    }
    arrays = load(foreign.safetensors(values))
    assert list(arrays) == list(values)
    np.testing.assert_array_equal(arrays["whole"], values["whole"])
    np.testing.assert_array_equal(arrays["half"], [0.5, -2])
    np.testing.assert_array_equal(arrays["brain"], np.array([1.0, -2.5], np.float32))
    assert arrays["scalar"] == 7 and arrays["scalar"].shape == () and arrays["empty"].shape == (0, 3)
    with pytest.raises(ValueError, match="read-only"):
        arrays["whole"][0, 0] = 1


def entry(shape=(2,), offsets=(0, 8), kind="F32", **more):
    return {"dtype": kind, "shape": shape, "data_offsets": offsets, **more}


HOSTILE = {
    "beyond the end": ({"a": entry((3,), (0, 12))}, "12 bytes, but 8 are there"),
    "gap": ({"a": entry((1,), (4, 8))}, "begins at byte 4"),
    "overlap": ({"a": entry(), "b": entry((1,), (4, 8))}, "b begins at byte 4 of the numbers, expected 8"),
    "twice the same place": ({"a": entry(), "b": entry()}, "begins at byte 0"),
    "bytes left": ({"a": entry((1,), (0, 4))}, "4 bytes, but 8 are there"),
    "backwards": ({"a": entry((2,), (8, 0))}, "does not have -8 bytes"),
    "negative offset": ({"a": entry((2,), (-8, 0))}, "not sizes"),
    "giant shape": ({"a": entry((2**40, 2**40))}, "does not have 8 bytes"),
    "shape beyond all numbers": ({"a": entry((2**70,))}, "not sizes"),
    "negative shape": ({"a": entry((-2, -1))}, "not sizes"),
    "broken shape": ({"a": entry((2.0,))}, "not sizes"),
    "many axes": ({"a": entry((1,) * 33)}, "not sizes"),
    "three offsets": ({"a": entry((2,), (0, 4, 8))}, "not sizes"),
    "unknown type": ({"a": entry(kind="F8_E4M3")}, "a type that is none of"),
    "type of another kind": ({"a": entry(kind=["F32"])}, "a type that is none of"),
    "further keys": ({"a": entry(code="import os")}, "not described by"),
    "no table": ([1, 2], "not a table"),
    "no entry": ({"a": 3}, "not described by"),
}


@pytest.mark.parametrize("header, message", HOSTILE.values(), ids=list(HOSTILE))
def test_header_that_lies(load, header, message):
    with pytest.raises(ValueError, match=message):
        load(foreign.framed(json.dumps(header).encode(), bytes(8)))


def test_name_that_stands_twice(load):
    one = json.dumps(entry())
    with pytest.raises(ValueError, match="twice"):
        load(foreign.framed(f'{{"a": {one}, "a": {one}}}'.encode(), bytes(8)))


@pytest.mark.parametrize("length", [0, 8, 2**24 + 1, 2**40, 2**64 - 1])
def test_giant_or_empty_header(load, length):
    with pytest.raises(ValueError, match="not a safetensors file"):
        load(struct.pack("<Q", length) + b"{}")


def test_header_too_long_for_any_model(load):
    with pytest.raises(ValueError, match="its header has"):
        load(struct.pack("<Q", 2**24 + 1) + b"{" + bytes(2**24))


def test_nested_header_and_other_noise(load):
    for header in (b"[" * 100_000, b'{"a": ' * 100_000, b"\xff\xfe", b"{" * 9, b'{"a": 1e999}', b"1" * 9999):
        with pytest.raises(ValueError, match="not a safetensors file"):
            load(foreign.framed(header, b""))


def test_truncated_files(load):
    whole = foreign.safetensors({"a": np.arange(6, dtype=np.float32), "b": np.ones([2, 2], np.float16)})
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="not a safetensors file"):
            load(whole[:length])
