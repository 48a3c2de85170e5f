"""TFRecord shards against their manifest and their own checksums: cut, changed, empty, missing."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import pathlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from deeplab2_kmax.data import crc32c
from deeplab2_kmax.data.validate.problems import Problem

_SHARD = re.compile(r"(?P<split>.*)-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?P<rest>\.?\w*)")
_BLOCK = 1 << 20


class Shard(NamedTuple):
    """A file, with its entry in the manifest where there is one."""

    path: str
    entry: Mapping[str, Any] | None = None  # with `source`, what the whole manifest says of its making


def find(patterns: Iterable[str], problems: list[Problem]) -> list[Shard]:
    """The files that match, and those that should be there too.

    Raises:
        ValueError: a pattern that matches nothing, not even the entry of a manifest.
    """
    found: dict[str, Shard] = {}
    for pattern in patterns:
        matches = [path for path in sorted(glob.glob(pattern)) if not path.endswith(".manifest.json")]
        folder = pathlib.Path(pattern).parent
        manifests = {str(_manifest(path)) for path in matches}
        if not glob.has_magic(str(folder)):
            manifests |= {str(path) for path in folder.glob("*.manifest.json")}
        entries = {}
        for manifest in sorted(manifests):
            if os.path.exists(manifest):
                entries.update(_entries(pathlib.Path(manifest), problems))
        wanted = {path: entry for path, entry in entries.items() if _matches(path, pattern)}
        if not matches and not wanted:
            raise ValueError(f"no file matches {pattern!r}")
        for path in sorted({*matches, *wanted}):
            shard = Shard(path, wanted.get(path))
            if path not in matches:
                problems.append(Problem("missing", path, "", "the manifest lists this shard, but it is not there"))
            elif _stays(path, problems):
                found[path] = shard
        _check_gaps(matches, pattern, set(wanted), problems)
    return list(found.values())


def of_manifest(path: pathlib.Path, problems: list[Problem]) -> list[Shard]:
    """The shards that a manifest lists."""
    found = []
    for name, entry in _entries(path, problems).items():
        if not os.path.exists(name):
            problems.append(Problem("missing", name, "", "the manifest lists this shard, but it is not there"))
        elif _stays(name, problems):
            found.append(Shard(name, entry))
    return found


def check(shard: Shard, problems: list[Problem], *, allow_empty: bool = False) -> bool:
    """Compares a shard with its manifest; whether its records are sure to be as they were written."""
    path, entry = shard
    size = os.path.getsize(path)
    if entry is not None and entry.get("records", -1) < 0:
        problems.append(Problem("manifest", path, "", "the conversion that was to write it has not ended"))
        return False
    if size == 0:
        if not (allow_empty or (entry is not None and entry["records"] == 0)):
            problems.append(Problem("shard_empty", path, "", "the file has no bytes"))
        return False
    if entry is None:
        return False
    if size != entry["bytes"]:
        told = f"{size} bytes, but the manifest says {entry['bytes']} ({entry['records']} records)"
        problems.append(Problem("shard_cut", path, "", told))
        return False
    if "sha256" not in entry:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != entry["sha256"]:
        problems.append(Problem("checksum", path, "", "its SHA-256 is not that of the manifest"))
        return False
    return True


def records(path: str, problems: list[Problem], *, sure: bool) -> Iterator[tuple[int, bytes]]:
    """(number, data) of every record that can be read. `sure`: checksums need not be compared."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        number = position = 0
        while position < size:
            head = file.read(12)
            if len(head) < 12:
                told = f"the file ends within the head of record {number}"
                problems.append(Problem("shard_cut", path, f"record {number}", told))
                return
            length, head_sum = struct.unpack("<QI", head)
            if crc32c.masked(head[:8]) != head_sum:
                told = "the length of the record does not match its checksum; the rest of the file is not read"
                problems.append(Problem("checksum", path, f"record {number}", told))
                return
            if position + 16 + length > size:
                told = f"the record ends {position + 16 + length - size} bytes after the file"
                problems.append(Problem("shard_cut", path, f"record {number}", told))
                return
            data, tail = file.read(length), file.read(4)
            if not sure and crc32c.masked(data) != struct.unpack("<I", tail)[0]:
                problems.append(Problem("checksum", path, f"record {number}", "its bytes do not match their checksum"))
            else:
                yield number, data
            number, position = number + 1, position + 16 + length


def _manifest(path: str) -> pathlib.Path:
    folder, name = os.path.split(path)
    shard = _SHARD.fullmatch(name)
    return pathlib.Path(folder, f"{shard['split'] if shard else os.path.splitext(name)[0]}.manifest.json")


def _entries(manifest: pathlib.Path, problems: list[Problem]) -> dict[str, Mapping[str, Any]]:
    """Path -> entry. Names that lead out of the folder are problems."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        if content["format"] != 1:
            raise ValueError(f"format {content['format']}, but only 1 is known")
        source = content.get("source")
        source = source if isinstance(source, dict) else {}
        rows = [(row["file"], {**row, "source": source}) for row in content["shards"]]
        for _, row in rows:
            if not isinstance(row["records"], int) or not isinstance(row["bytes"], int):
                raise ValueError("records and bytes are numbers")
    except (KeyError, TypeError, ValueError) as error:
        problems.append(Problem("manifest", str(manifest), "", f"not a manifest of shards ({error!r})"))
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, row in rows:
        if not isinstance(name, str) or pathlib.PurePath(name).name != name or name in ("", ".", ".."):
            problems.append(Problem("outside", str(manifest), str(name), "a shard is a file beside its manifest"))
        else:
            found[os.path.join(manifest.parent, name)] = row
    return found


def _matches(path: str, pattern: str) -> bool:
    return pathlib.PurePath(os.path.abspath(path)).match(os.path.abspath(pattern))


def _stays(path: str, problems: list[Problem]) -> bool:
    folder = pathlib.Path(path).parent.resolve()
    if pathlib.Path(path).resolve().is_relative_to(folder):
        return True
    problems.append(Problem("outside", path, "", f"a link to {pathlib.Path(path).resolve()}"))
    return False


def _check_gaps(matches: list[str], pattern: str, known: set[str], problems: list[Problem]) -> None:
    """Shards without a manifest: those between others must be there, by their names."""
    groups: dict[tuple[str, str, str], set[int]] = {}
    for path in matches:
        folder, name = os.path.split(path)
        if path not in known and (shard := _SHARD.fullmatch(name)):
            group = os.path.join(folder, shard["split"]), shard["shards"], shard["rest"]
            groups.setdefault(group, set()).add(int(shard["shard"]))
    for (split, count, rest), have in groups.items():
        for k in range(int(count)):
            path = f"{split}-{k:05d}-of-{count}{rest}"
            if k not in have and _matches(path, pattern):
                problems.append(Problem("missing", path, "", f"one of {int(count)} shards, by the names of the others"))
