"""A machine for pickles that knows the few instructions of PyTorch's state dicts, and nothing else.

A pickle is a program. This follows it by itself, so nothing that a file names is ever imported or called: what the
pickle calls "a global" becomes a name here, and the two calls that state dicts make become descriptions of tensors.
"""

from __future__ import annotations

import dataclasses
import io
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

# Storage class in torch -> dtype of its numbers in the file.
DTYPES: dict[str, np.dtype] = {
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


@dataclasses.dataclass(frozen=True)
class Global:
    """Something that the pickle names: stands for it, and cannot be called."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    kind: str
    key: str
    count: int

    @property
    def num_bytes(self) -> int:
        return self.count * DTYPES[self.kind].itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Machine:
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
        self.stack.append(Global(name))

    def reduce(self) -> None:
        function, arguments = self.pop_many(2)
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
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
        if not isinstance(kind, Global) or not isinstance(key, str) or not _is_count(count):
            raise ValueError("its pickle describes a storage in an unknown way")
        short = kind.name.removeprefix("torch ")
        if short not in DTYPES or parts[5:] not in ((), (None,)):
            raise ValueError(f"its pickle has a storage of an unknown kind, {kind.name} or a view of another")
        self.stack.append(Storage(short, key, count))


def _rebuild(arguments: tuple[Any, ...]) -> Tensor:
    # Storage, offset, shape and strides; then requires_grad, hooks and metadata, which numbers do not need.
    if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage):
        raise ValueError("its pickle makes a tensor of something that is not a storage")
    storage, offset, shape, strides = arguments[:4]
    tuples = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 32
    if not tuples or not all(map(_is_count, (offset, *shape, *strides))):
        raise ValueError("its pickle makes a tensor with an offset, shape or strides that are not sizes")
    return Tensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


_ORDERED_DICT = Global("collections OrderedDict")
_REBUILD = Global("torch._utils _rebuild_tensor_v2")
_GLOBALS = {_ORDERED_DICT.name, _REBUILD.name, *(f"torch {kind}" for kind in DTYPES)}

# Instructions that push their argument.
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}

_INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
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
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "MEMOIZE": Machine.remember,
    "BINGET": Machine.recall,
    "LONG_BINGET": Machine.recall,
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append_items(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.append_items(machine.pop_to_mark()),
    "GLOBAL": Machine.name_global,
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.drop_attributes(),
    "BINPERSID": lambda machine, _: machine.persistent(),
}
