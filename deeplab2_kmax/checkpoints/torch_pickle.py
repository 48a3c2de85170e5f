"""PyTorch state dicts as numpy arrays, without PyTorch and without running what a pickle asks for.

Both formats are read: the legacy one (pickles, then raw numbers) and the zip archive that PyTorch writes since 1.6. The
pickles in them are programs; `pickle_machine` follows the few instructions that a dict of tensors needs.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from deeplab2_kmax.checkpoints import pickle_machine
from deeplab2_kmax.checkpoints.pickle_machine import Machine, Storage, Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# What reading a damaged file may raise.
_DAMAGE = (
    *(ValueError, ArithmeticError, EOFError, LookupError, MemoryError, RuntimeError),
    *(struct.error, zipfile.BadZipFile),
)


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
    except _DAMAGE as error:
        raise ValueError(
            f"{os.fspath(path)} is not a state dict of PyTorch that can be read safely: {error}"
        ) from error


def _parse_legacy(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    header = [Machine(file).run() for _ in range(3)]
    if header[:2] != [_MAGIC, _PROTOCOL] or not isinstance(header[2], dict):
        raise ValueError("it does not begin as PyTorch's files do")
    if header[2].get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    tensors = _tensors(Machine(file).run())
    storages = _storages(tensors)
    keys = Machine(file).run()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
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
        # Members that overlap could unfold to any size.
        if sum(info.file_size for info in members.values()) > len(content):
            raise ValueError("its members are larger than the archive: they are compressed or overlap")

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
        tensors = _tensors(Machine(io.BytesIO(read(pickles[0]))).run())
        numbers = {
            key: _numbers(storage, read(f"{root}/data/{key}", storage.num_bytes))
            for key, storage in _storages(tensors).items()
        }
    return {name: _view(tensor, numbers[tensor.storage.key], name) for name, tensor in tensors.items()}


def _tensors(state: Any) -> dict[str, Tensor]:
    if isinstance(state, dict) and len(state) == 1 and isinstance(next(iter(state.values())), dict):
        state = next(iter(state.values()))  # {"model": state dict}, as some training programs save it
    if not isinstance(state, dict):
        raise ValueError(f"expected a dict of tensors, but it holds a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"expected named tensors, but {name!r} is a {type(value).__name__}")
    return state


def _storages(tensors: Mapping[str, Tensor]) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():
        storage = tensor.storage
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key} is described in two ways")
    return storages


def _numbers(storage: Storage, content: bytes | memoryview) -> np.ndarray:
    numbers = np.frombuffer(content, pickle_machine.DTYPES[storage.kind])
    if storage.kind == "BFloat16Storage":
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers


def _view(tensor: Tensor, numbers: np.ndarray, name: str) -> np.ndarray:
    shape, strides = tensor.shape, tensor.strides
    num_elements = math.prod(shape)
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if num_elements > len(numbers) or tensor.offset > len(numbers) or (num_elements and last >= len(numbers)):
        raise ValueError(f"{name} reaches beyond its storage of {len(numbers)} numbers: {tensor}")
    if not num_elements:
        return np.zeros(shape, numbers.dtype)
    byte_strides = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, byte_strides, writeable=False)
