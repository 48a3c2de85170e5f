"""Reading PyTorch's files: both formats, views of storages, and files that want to do harm."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from deeplab2_kmax.checkpoints import torch_pickle

PROTO = b"\x80\x02"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def integer(value):
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def sizes(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(key, count, *, offset=0, shape, strides, kind="FloatStorage", extra=b"N"):
    """Instructions of a tensor, as PyTorch writes them."""
    storage = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + integer(count)
    storage += extra + b"tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + integer(offset) + sizes(shape) + sizes(strides) + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def state(**tensors):
    items = b"".join(text(name) + code for name, code in tensors.items())
    # The attribute that PyTorch hangs on a state dict.
    metadata = b"}" + text("_metadata") + b"}s"
    return PROTO + b"ccollections\nOrderedDict\n)R(" + items + b"u" + metadata + b"b."


def legacy(body, storages, *, counts=None):
    """A file in the legacy format. `counts` overrides what the headers of the storages say."""
    content = b"".join(pickle.dumps(part, 2) for part in (MAGIC, VERSION, SYSTEM)) + body
    content += pickle.dumps(list(storages), 2)
    for key, numbers in storages.items():
        content += struct.pack("<q", (counts or {}).get(key, numbers.size)) + numbers.tobytes()
    return content


def zipped(body, storages, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", body)
        archive.writestr("model/byteorder", "little")
        for key, numbers in storages.items():
            archive.writestr(f"model/data/{key}", numbers.tobytes())
        archive.writestr("model/version", "3\n")
    return file.getvalue()


@pytest.fixture
def load(tmp_path):
    def read(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return torch_pickle.load_state_dict(path)

    return read


NUMBERS = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize("write", [legacy, zipped])
def test_round_trip(load, write):
    body = state(
        whole=tensor("a", 12, shape=(3, 4), strides=(4, 1)),
        transposed=tensor("a", 12, shape=(4, 3), strides=(1, 4)),
        part=tensor("a", 12, offset=5, shape=(2, 2), strides=(4, 1)),
        scalar=tensor("b", 1, shape=(), strides=(), kind="LongStorage"),
        empty=tensor("c", 0, shape=(0, 3), strides=(3, 1)),
        half=tensor("d", 2, shape=(2,), strides=(1,), kind="HalfStorage"),
        brain=tensor("e", 2, shape=(2,), strides=(1,), kind="BFloat16Storage"),
        flags=tensor("f", 2, shape=(2,), strides=(1,), kind="BoolStorage"),
    )
    storages = {
        "a": NUMBERS,
        "b": np.array([7], np.int64),
        "c": np.zeros(0, np.float32),
        "d": np.array([0.5, -2], np.float16),
        "e": np.array([0x3F80, 0xC020], np.uint16),
        "f": np.array([True, False]),
    }
    arrays = load(write(body, storages))
    grid = NUMBERS.reshape(3, 4)
    np.testing.assert_array_equal(arrays["whole"], grid)
    np.testing.assert_array_equal(arrays["transposed"], grid.T)
    np.testing.assert_array_equal(arrays["part"], [[5, 6], [9, 10]])
    assert arrays["scalar"].shape == () and arrays["scalar"] == 7 and arrays["scalar"].dtype == np.int64
    assert arrays["empty"].shape == (0, 3)
    np.testing.assert_array_equal(arrays["half"], [0.5, -2])
    np.testing.assert_array_equal(arrays["brain"], np.array([1.0, -2.5], np.float32))
    np.testing.assert_array_equal(arrays["flags"], [True, False])
    assert list(arrays) == ["whole", "transposed", "part", "scalar", "empty", "half", "brain", "flags"]
    with pytest.raises(ValueError, match="read-only"):
        arrays["whole"][0, 0] = 1


class Call:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.result = function, arguments

    def __reduce__(self):
        return self.result


@pytest.mark.parametrize("write", [legacy, zipped])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_nothing_is_executed(load, tmp_path, write, protocol, function):
    proof = tmp_path / "executed"
    order = f"touch {proof}" if function is os.system else f"open({str(proof)!r}, 'w')"
    body = pickle.dumps({"weight": Call(function, order)}, protocol)
    with pytest.raises(ValueError, match="its pickle"):
        load(write(body, {}))
    assert not proof.exists()


@pytest.mark.parametrize("part", range(3))
def test_nothing_is_executed_in_the_header(load, tmp_path, part):
    proof = tmp_path / "executed"
    header = [MAGIC, VERSION, SYSTEM]
    header[part] = Call(os.mkdir, str(proof))
    with pytest.raises(ValueError, match="mkdir"):
        load(b"".join(pickle.dumps(value, 2) for value in header) + state() + pickle.dumps([], 2))
    assert not proof.exists()


WHOLE = {"shape": (3, 4), "strides": (4, 1)}
HOSTILE = {
    "offset beyond the end": (tensor("a", 12, offset=1, **WHOLE), "beyond its storage"),
    "huge offset": (tensor("a", 12, offset=2**40, **WHOLE), "beyond its storage"),
    "negative offset": (tensor("a", 12, offset=-1, **WHOLE), "not sizes"),
    "negative stride": (tensor("a", 12, shape=(12,), strides=(-1,)), "not sizes"),
    "stride beyond the end": (tensor("a", 12, shape=(3, 4), strides=(5, 1)), "beyond its storage"),
    "huge shape": (tensor("a", 12, shape=(2**40, 2**40), strides=(0, 0)), "beyond its storage"),
    "more strides than sides": (tensor("a", 12, shape=(12,), strides=(4, 1)), "not sizes"),
    "storage larger than the file": (tensor("a", 2**40, shape=(12,), strides=(1,)), "storage a|bytes instead of"),
    "negative storage": (tensor("a", -12, shape=(12,), strides=(1,)), "unknown way"),
    "unknown storage": (tensor("b", 12, **WHOLE), "list of storages|no member"),
    "unknown kind": (tensor("a", 12, kind="QInt8Storage", **WHOLE), "QInt8Storage"),
    "view of a storage": (tensor("a", 12, extra=b"(K\x00K\x01t", **WHOLE), "unknown kind"),
    "two kinds": (tensor("a", 12, **WHOLE) + text("c") + tensor("a", 12, kind="IntStorage", **WHOLE), "two ways"),
    "no tensor": (b"K\x07", "named tensors"),
    "called twice": (tensor("a", 12, **WHOLE) + b")R", "not a function"),
    "arguments of a dict": (b"ccollections\nOrderedDict\n(lK\x01\x85R", "LIST|unknown way"),
    "empty stack": (b"0" * 3, "POP"),
    "fills a number": (b"K\x07K\x01a", "not a list"),
    "unknown memory": (b"j\xff\xff\xff\x7f", "did not store"),
}


@pytest.mark.parametrize("write", [legacy, zipped])
@pytest.mark.parametrize("code, message", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_state(load, write, code, message):
    with pytest.raises(ValueError, match=message):
        load(write(state(weight=code), {"a": NUMBERS}))


@pytest.mark.parametrize("count", [11, 13, -1, 2**62])
def test_header_of_a_storage_that_lies(load, count):
    body = state(weight=tensor("a", 12, **WHOLE))
    with pytest.raises(ValueError, match="its header says"):
        load(legacy(body, {"a": NUMBERS}, counts={"a": count}))


def test_damaged_files(load):
    body = state(weight=tensor("a", 12, **WHOLE))
    whole = legacy(body, {"a": NUMBERS})
    for length in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="read safely"):
            load(whole[:length])
    with pytest.raises(ValueError, match="3 bytes follow"):
        load(whole + b"abc")
    archive = zipped(body, {"a": NUMBERS})
    for length in range(0, len(archive), 7):
        with pytest.raises(ValueError, match="read safely"):
            load(archive[:length])


def test_damaged_numbers_in_an_archive(load):
    archive = zipped(state(weight=tensor("a", 12, **WHOLE)), {"a": NUMBERS})
    with pytest.raises(ValueError, match="CRC"):
        load(archive.replace(NUMBERS.tobytes(), NUMBERS[::-1].tobytes()))


def test_compressed_archive(load):
    with pytest.raises(ValueError, match="compressed"):
        load(zipped(state(weight=tensor("a", 12, **WHOLE)), {"a": NUMBERS}, zipfile.ZIP_DEFLATED))


def test_giant_instructions_cost_nothing(load):
    for code in (b"X\xff\xff\xff\x7fab", b"\x8d" + b"\xff" * 7 + b"\x0f", b"\x95" + b"\xff" * 8, b"r\xff\xff\xff\x7f"):
        with pytest.raises(ValueError, match="read safely"):
            load(legacy(PROTO + code + b".", {}))


def test_not_such_a_file(load):
    with pytest.raises(ValueError, match="read safely"):
        load(b"These are no weights at all.")
    with pytest.raises(ValueError, match="Tensor|dict of tensors"):
        load(legacy(pickle.dumps([1, 2], 2), {}))


def test_state_dict_in_a_dict(load):
    inner = state(weight=tensor("a", 12, **WHOLE)).removeprefix(PROTO).removesuffix(b".")
    body = PROTO + b"}" + text("model") + inner + b"s."
    assert list(load(zipped(body, {"a": NUMBERS}))) == ["weight"]
    more = PROTO + b"}(" + text("model") + inner + text("epoch") + integer(3) + b"u."
    with pytest.raises(ValueError, match="'model' is a dict"):
        load(zipped(more, {"a": NUMBERS}))


def test_tuples_of_tuples_are_not_spelled_out(load):
    """Each level names the one below twice: written out it would be 2^64 entries."""
    laughs = b")" + b"".join(b"q%c0h%ch%c\x86" % (level, level, level) for level in range(64))
    for code in (laughs, tensor("a", 12, extra=laughs, **WHOLE)):
        with pytest.raises(ValueError, match="read safely"):
            load(zipped(state(weight=code), {"a": NUMBERS}))


def test_members_that_overlap(load):
    """Both names of the directory lead to members that reach to the end of the archive."""
    content = bytearray(zipped(state(weight=tensor("a", 12, **WHOLE)), {"a": NUMBERS}))
    # The size of data/a in the directory at the end: as large as all of the file.
    entry = content.rindex(b"model/data/a") - 46
    content[entry + 20 : entry + 28] = struct.pack("<II", len(content) - 9, len(content) - 9)
    with pytest.raises(ValueError, match="overlap|bytes instead of"):
        load(bytes(content))


def test_names_that_lead_elsewhere(load, tmp_path):
    (tmp_path / "secret").write_bytes(NUMBERS.tobytes())
    body = state(weight=tensor("../../secret", 12, **WHOLE))
    with pytest.raises(ValueError, match="no member model/data/../../secret"):
        load(zipped(body, {"a": NUMBERS}))


OBJECTS = {
    "INST": b"(ios\nsystem\n",
    "OBJ": b"(" + text("x") + b"o",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92",
    "EXT1": b"\x82\x01",
    "PERSID": b"Pabc\n",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93",
    "not a dict": tensor("a", 12, **WHOLE) + b"}b",
}


@pytest.mark.parametrize("message, code", OBJECTS.items(), ids=list(OBJECTS))
def test_no_objects_are_made(load, message, code):
    """Neither made nor given a state: `BUILD` would call their __setstate__."""
    with pytest.raises(ValueError, match=message):
        load(zipped(state(weight=code), {"a": NUMBERS}))
