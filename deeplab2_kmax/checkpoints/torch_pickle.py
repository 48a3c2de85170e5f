"""PyTorch state dicts as numpy arrays, without PyTorch and without running what a pickle asks for.

A pickle is a program. This reader knows the few instructions that make up a dict of tensors and follows them itself, so
nothing named in a file is ever imported or called. Both formats are read: the legacy one (pickles, then raw numbers)
and the zip archive that PyTorch writes since 1.6.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

# Storage class in torch -> dtype of its numbers in the file.
_DTYPES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a file of torch.save(module.state_dict()). The arrays are read-only views of the stored numbers.

    Raises:
        ValueError: the file is damaged, or holds anything but named tensors.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        parse = _parse_zip if content[:4] == b"PK\x03\x04" else _parse_legacy
        return parse(content)
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a state dict of PyTorch that can be read safely: {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class _Global:
    """Something that the pickle names: stands for it, and cannot be called."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int

    @property
    def num_bytes(self) -> int:
        return self.count * _DTYPES[self.kind].itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _parse_legacy(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    header = [_Machine(file).run() for _ in range(3)]
    if header[:2] != [_MAGIC, _PROTOCOL] or not isinstance(header[2], dict):
        raise ValueError("it does not begin as PyTorch's files do")
    if header[2].get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    tensors = _tensors(_Machine(file).run())
    storages = _storages(tensors)
    keys = _Machine(file).run()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("its list of storages differs from the storages in use")
    position = file.tell()
    numbers = {}
    for key in keys:
        storage = storages[key]
        start = position + 8
        count = int.from_bytes(content[position:start], "little", signed=True)
        if start > len(content) or count != storage.count:
            raise ValueError(f"storage {key} has {storage.count} numbers, but its header says {count}")
        if storage.num_bytes > len(content) - start:
            raise ValueError(f"it ends within storage {key}")
        position = start + storage.num_bytes
        numbers[key] = _numbers(storage, memoryview(content)[start:position])
    if position != len(content):
        raise ValueError(f"{len(content) - position} bytes follow its last storage")
    return {name: _view(tensor, numbers[tensor.storage.key], name) for name, tensor in tensors.items()}


def _parse_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: info for info in archive.infolist()}

        def read(name: str, size: int | None = None) -> bytes:
            info = members.get(name)
            if info is None:
                raise ValueError(f"the archive has no member {name}")
            # PyTorch stores; a compressed member could unfold to any size.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
                raise ValueError(f"member {name} is compressed")
            if size is not None and info.file_size != size:
                raise ValueError(f"member {name} has {info.file_size} bytes instead of {size}")
            return archive.read(info)

        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"the archive has {len(pickles)} members */data.pkl, expected 1")
        root = pickles[0].split("/")[0]
        if f"{root}/byteorder" in members and read(f"{root}/byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        tensors = _tensors(_Machine(io.BytesIO(read(pickles[0]))).run())
        numbers = {
            key: _numbers(storage, read(f"{root}/data/{key}", storage.num_bytes))
            for key, storage in _storages(tensors).items()
        }
    return {name: _view(tensor, numbers[tensor.storage.key], name) for name, tensor in tensors.items()}


def _tensors(state: Any) -> dict[str, _Tensor]:
    if not isinstance(state, dict):
        raise ValueError(f"expected a dict of tensors, but it holds a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"expected named tensors, but {name!r} is a {type(value).__name__}")
    return state


def _storages(tensors: Mapping[str, _Tensor]) -> dict[str, _Storage]:
    storages: dict[str, _Storage] = {}
    for tensor in tensors.values():
        storage = tensor.storage
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is described in two ways")
    return storages


def _numbers(storage: _Storage, content: bytes | memoryview) -> np.ndarray:
    numbers = np.frombuffer(content, _DTYPES[storage.kind])
    if storage.kind == "BFloat16Storage":
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers


def _view(tensor: _Tensor, numbers: np.ndarray, name: str) -> np.ndarray:
    shape, strides = tensor.shape, tensor.strides
    num_elements = math.prod(shape)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if num_elements > len(numbers) or tensor.offset > len(numbers) or (num_elements and last >= len(numbers)):
        raise ValueError(f"{name} reaches beyond its storage of {len(numbers)} numbers: {tensor}")
    if not num_elements:
        return np.zeros(shape, numbers.dtype)
    byte_strides = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, byte_strides, writeable=False)


class _Machine:
    """Follows one pickle, from the file's position to its end; knows only what state dicts need."""

    def __init__(self, file: io.BytesIO):
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(self.file):
            name = opcode.name
            if name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise ValueError("its pickle does not end with one object")
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _INSTRUCTIONS:
                _INSTRUCTIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"its pickle has the instruction {name}, which no state dict needs")
        raise ValueError("its pickle does not end")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("its pickle takes more than it made")
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle takes more than it made")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"its pickle fills something that is not a {kind.__name__}")
        return self.stack[-1]

    def remember(self, index: int | None) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[len(self.memo) if index is None else index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"its pickle recalls number {index}, which it did not store")
        self.stack.append(self.memo[index])

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise ValueError("its pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) not in (str, int):
                raise ValueError(f"its pickle has a key that is a {type(key).__name__}")
            target[key] = value

    def append_items(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def name_global(self, name: str) -> None:
        if name not in _GLOBALS:
            raise ValueError(f"its pickle names {name}, which is none of {', '.join(sorted(_GLOBALS))}")
        self.stack.append(_Global(name))

    def reduce(self) -> None:
        function, arguments = self.pop_many(2)
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls something that is not a function")
        if function == _ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif function == _REBUILD:
            self.stack.append(_rebuild(arguments))
        else:
            raise ValueError(f"its pickle calls {function.name} in an unknown way")

    def drop_attributes(self) -> None:
        # The attributes of a state dict are versions of its modules.
        self.pop()
        self.top(dict)

    def persistent(self) -> None:
        parts = self.pop()
        if not isinstance(parts, tuple) or len(parts) not in (5, 6) or parts[0] != "storage":
            raise ValueError("its pickle refers to something that is not a storage")
        kind, key, _, count = parts[1:5]
        if not isinstance(kind, _Global) or not isinstance(key, str) or not _is_count(count):
            raise ValueError("its pickle describes a storage in an unknown way")
        short = kind.name.removeprefix("torch ")
        if short not in _DTYPES or parts[5:] not in ((), (None,)):
            raise ValueError(f"its pickle has a storage of an unknown kind, {kind.name} {parts[5:]}")
        self.stack.append(_Storage(short, key, count))


def _rebuild(arguments: tuple[Any, ...]) -> _Tensor:
    # Storage, offset, shape and strides; then requires_grad, hooks and metadata, which numbers do not need.
    if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], _Storage):
        raise ValueError("its pickle makes a tensor of something that is not a storage")
    storage, offset, shape, strides = arguments[:4]
    tuples = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
    if not tuples or not all(map(_is_count, (offset, *shape, *strides))):
        raise ValueError("its pickle makes a tensor with an offset, shape or strides that are not sizes")
    return _Tensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


_ORDERED_DICT = _Global("collections OrderedDict")
_REBUILD = _Global("torch._utils _rebuild_tensor_v2")
_GLOBALS = {_ORDERED_DICT.name, _REBUILD.name, *(f"torch {kind}" for kind in _DTYPES)}

# Instructions that push their argument.
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}

_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop_many(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop_many(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop_many(3))),
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append_items(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.append_items(machine.pop_to_mark()),
    "GLOBAL": _Machine.name_global,
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.drop_attributes(),
    "BINPERSID": lambda machine, _: machine.persistent(),
}
