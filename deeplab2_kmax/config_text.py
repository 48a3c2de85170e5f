"""Text of a config file -> message, or one line that says where and what is wrong, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from deeplab2_kmax import registry
from deeplab2_kmax.protos import config_pb2

M = TypeVar("M", bound=Message)

_TOKEN = re.compile(r"""\#[^\n]*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|[\w.+-]+|[^\s]""")
_EXPECTED = {
    FieldDescriptor.TYPE_INT32: "an integer",
    FieldDescriptor.TYPE_FLOAT: "a number",
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_STRING: "a string in quotes",
    FieldDescriptor.TYPE_MESSAGE: "a message in braces, { ... }",
}


class ConfigError(ValueError):
    """A config that cannot be used; its text is one line for the user."""


def parse(text: str, message: M, source: str) -> M:
    """Reads text format into `message`, an empty one, and returns it. `source` names the text in errors.

    Raises:
        ConfigError: `source:line:column: ` and an unknown field or value with the nearest valid ones, a value of a
            wrong type with the expected one, or the syntax error.
    """
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        where = f"{source}:{line}:{column}"
        raise ConfigError(f"{where}: {_explain(text, line, column, message, error)}") from None


def field_names(text: str) -> list[str]:
    """The outermost field names of a text, in order, also of one that does not parse."""
    return [fields[0] for _, fields, token in _walk(text) if len(fields) == 1 and token == fields[0]]


def find_string(text: str, value: str) -> str:
    """`line:column` of a string value in a text."""
    for quote in "\"'":
        offset = text.find(quote + value + quote)
        if offset >= 0:
            return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"
    return "1:1"


def _explain(text: str, line: int, column: int, root: Message, error: text_format.ParseError) -> str:
    lines = text.split("\n")
    offset = sum(len(row) + 1 for row in lines[: line - 1]) + column - 1
    fields: list[str] = []
    got = ""
    for position, fields, got in _walk(text):  # noqa: B007
        if position >= offset:
            break
    # "line:column : 'the line': what" -> "what"
    raw = re.sub(r"^(\d+:\d+ : )?('.*': )?", "", str(error).replace("\n", " "))
    message: Any = root.DESCRIPTOR
    field = None
    for depth, name in enumerate(fields):
        field = message.fields_by_name.get(name)
        if field is None:
            return _unknown_field(name, message) if "no field named" in raw else raw
        if depth < len(fields) - 1:
            if field.message_type is None:
                break
            message = field.message_type
    path = ".".join(fields)
    if field is None:
        return raw
    if "should not have multiple" in raw:
        return f"{path} is set twice"
    if "is specified along with field" in raw:
        return f"{path}: only one of these can be set, and another one is"
    if got == fields[-1]:  # the error is at a name, or at what follows it
        if field.message_type is None or "{" in raw:
            return f"{path}: expected {_expected(field)}; {raw}"
        return raw
    if field.enum_type is not None:
        names = [value.name for value in field.enum_type.values]
        return f"unknown value {got} of {path}; nearest: {', '.join(registry.nearest(got.upper(), names))}"
    if field.type == FieldDescriptor.TYPE_INT32 and "out of range" in raw:
        return f"{path}: expected an integer of 32 bits, got {got}"
    if got in ("{", "}", "<", ">", "[", "]", ";", ","):
        return raw
    return f"{path}: expected {_expected(field)}, got {got}"


def _unknown_field(name: str, message: Any) -> str:
    near = ", ".join(registry.nearest(name, message.fields_by_name))
    owners = sorted(
        {owner.name for owner in _messages(config_pb2.ExperimentOptions.DESCRIPTOR) if name in owner.fields_by_name}
    )
    elsewhere = f"; it is a field of {', '.join(owners)}" if owners else ""
    return f"unknown field '{name}' in {message.name}; nearest: {near}{elsewhere}"


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(value.name for value in field.enum_type.values)}"
    return _EXPECTED[field.type]


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _messages(field.message_type)


def _walk(text: str) -> Iterator[tuple[int, list[str], str]]:
    """The tokens of a text: offset, the fields around and at the token (outermost first), the token."""
    outer: list[tuple[str, bool]] = []  # (field, whether inside a list) of the open messages
    field, in_list, is_value = "", False, False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token.startswith("#"):
            continue
        names = [name for name, _ in outer]
        if token in "{<":
            yield match.start(), [*names, field] if field else names, token
            outer.append((field, in_list))
            field, in_list, is_value = "", False, False
            continue
        if token in "}>":
            if outer:
                field, in_list = outer.pop()
            is_value = False
        elif token in "[]":
            in_list = token == "["
            is_value = False
        elif token == ":":
            is_value = True
        elif token not in ",;":
            if not (is_value or in_list):
                field = token
            is_value = False
        names = [name for name, _ in outer]
        yield match.start(), [*names, field] if field else names, token
