"""Files of weights as other libraries write them, made from a backbone's own names and shapes."""

from __future__ import annotations

import json
import struct

import numpy as np

from deeplab2_kmax.checkpoints import restore, sources


def source(format: str, backbone) -> sources.Source:
    """The row of a format for a backbone: of several the one that names all of its variables."""
    rows = [row for row in sources.SOURCES if row.format == format and isinstance(backbone, row.family)]
    paths = restore.built_variables(backbone)
    return max(rows, key=lambda row: sum(name is not None for name in row.names(paths).values()))


def shape_there(row: sources.Source, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that one of our variables has in PyTorch."""
    if path.endswith("depthwise_kernel"):
        return (shape[2], 1, *shape[:2])
    if path.endswith("layer_scale") and row.format == "torchvision":
        return (*shape, 1, 1)
    if len(shape) == 4:
        return (shape[3], shape[2], *shape[:2])
    return shape[::-1]


def tensors(row: sources.Source, backbone, seed: int = 0) -> dict[str, np.ndarray]:
    """Numbers for every variable of a backbone, by their names and in their shapes; none is like another."""
    random = np.random.default_rng(seed)
    ours = restore.built_variables(backbone)
    values = {}
    for path, name in row.names(ours).items():
        shape = shape_there(row, path, tuple(ours[path].shape))
        values[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
        if len(shape) > 1 and not path.endswith("layer_scale"):
            values[name] = random.normal(0, 0.3, shape).astype(np.float32)
    return values


def safetensors(values: dict[str, np.ndarray]) -> bytes:
    """The content of a file."""
    kinds = {"f8": "F64", "f4": "F32", "f2": "F16", "u2": "BF16", "i8": "I64", "b1": "BOOL"}
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, value in values.items():
        start, numbers = len(numbers), numbers + value.tobytes()
        kind = kinds[value.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [start, len(numbers)]}
    return framed(json.dumps(header).encode(), numbers)


def framed(header: bytes, numbers: bytes) -> bytes:
    """A header and the numbers as a file of safetensors."""
    return struct.pack("<Q", len(header)) + header + numbers
