"""Safetensors files as numpy arrays: a header of names, types, shapes and places, then the numbers.

The header of a file is not trusted: it is short, every tensor lies within the file, and together they cover it without
gaps and overlaps. Nothing is allocated by what the header says.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, NamedTuple

import numpy as np

_LONGEST_HEADER = 16 * 2**20  # a name takes about a hundred bytes

_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class _Tensor(NamedTuple):
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a file. The arrays are read-only views of its numbers, bfloat16 as float32.

    Raises:
        ValueError: the file is damaged, or its header says what cannot be.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _parse(memoryview(content))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is not a safetensors file: {error}") from error


def _parse(content: memoryview) -> dict[str, np.ndarray]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError(f"it has {len(content)} bytes, too few for its header")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length} bytes, more than {_LONGEST_HEADER}")
    header = json.loads(content[8 : 8 + length].tobytes().decode(), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("its header is not a table of tensors")
    header.pop("__metadata__", None)
    tensors = [_tensor(name, entry) for name, entry in header.items()]
    numbers = content[8 + length :]
    position = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != position:
            raise ValueError(f"{tensor.name} begins at byte {tensor.start} of the numbers, expected {position}")
        position = tensor.end
    if position != len(numbers):
        raise ValueError(f"its tensors have {position} bytes, but {len(numbers)} are there")
    return {tensor.name: _array(tensor, numbers) for tensor in tensors}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return table


def _tensor(name: str, entry: Any) -> _Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"{name} has a type that is none of {', '.join(_DTYPES)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(shape) > 32 or len(offsets) != 2:
        raise ValueError(f"{name} has a shape or offsets that are not sizes")
    start, end = offsets
    if end - start != math.prod(shape) * _DTYPES[kind].itemsize:
        raise ValueError(f"{name} of shape {tuple(shape)} and type {kind} does not have {end - start} bytes")
    return _Tensor(name, kind, tuple(shape), start, end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _array(tensor: _Tensor, numbers: memoryview) -> np.ndarray:
    array = np.frombuffer(numbers[tensor.start : tensor.end], _DTYPES[tensor.kind]).reshape(tensor.shape)
    return (array.astype("<u4") << 16).view("<f4") if tensor.kind == "BF16" else array
