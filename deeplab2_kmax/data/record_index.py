"""Where every record of a set of TFRecord files lies, so that samples can be read by number.

Only the framing is read (length and its checksum), or the writer's manifest where there is one. That is enough to find
shards that are missing, empty or cut, before training starts; `verify` finds changed bytes. A manifest
`<split>.manifest.json` beside the shards `<split>-00000-of-00010.tfrecord` also catches a shard cut between two
records: `{"format": 1, "shards": [{"file": name, "records": count, "bytes": size, "offsets": [...] (optional),
"sha256": "..." (optional), ...}]}`.
"""

from __future__ import annotations

import collections
import fnmatch
import functools
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax.data import crc32c

_SHARD = re.compile(r"^(?P<split>.*)-(?P<shard>\d{5})-of-(?P<shards>\d{5})(?P<rest>.*)$")
_FRAME = 8 + 4 + 4  # length, its checksum, (data), the data's checksum


class RecordIndex(NamedTuple):
    """All records of some files, in order. Arrays have one entry per record."""

    files: tuple[str, ...]
    file_ids: np.ndarray  # int32, into `files`
    offsets: np.ndarray  # int64, of the record's frame
    numbers: np.ndarray  # int32, position within its file

    @property
    def num_records(self) -> int:
        return len(self.offsets)


def find_files(patterns: Iterable[str]) -> list[str]:
    """The files that match, sorted, each once.

    Raises:
        ValueError: a pattern that matches nothing, or a shard that is missing among the ones found.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = tf.io.gfile.glob(pattern)
        if not matches:
            raise ValueError(f"No file matches {pattern!r}. Check file_pattern in the dataset options.")
        _check_complete(pattern, matches)
        found.update(matches)
    if not found:
        raise ValueError("file_pattern is empty: name the TFRecord files in the dataset options.")
    return sorted(found)


def build(files: Iterable[str], *, allow_empty: bool = False) -> RecordIndex:
    """Scans files, in the order given.

    Args:
        files: TFRecord files without compression.
        allow_empty: some converters write shards without records, so an empty file is no error.

    Raises:
        ValueError: a file that is missing, empty, cut or no TFRecord, or that differs from its manifest.
    """
    files = tuple(files)
    manifests: dict[str, dict[str, dict]] = {}
    file_ids, numbers, offsets = [], [], []
    for file_id, path in enumerate(files):
        entry = _manifest_entry(path, manifests)
        found = _scan(path, entry, allow_empty=allow_empty)
        offsets.append(found)
        file_ids.append(np.full(len(found), file_id, np.int32))
        numbers.append(np.arange(len(found), dtype=np.int32))
    index = RecordIndex(files, np.concatenate(file_ids), np.concatenate(offsets), np.concatenate(numbers))
    if not index.num_records:
        raise ValueError(f"No records in {', '.join(files)}.")
    return index


def verify(files: Iterable[str], *, limit: float) -> int:
    """Compares files with the checksums of their manifests, and returns how many were compared.

    Files that were compared before and have not changed since count, but are not read again.

    Args:
        files: TFRecord files; those without a checksum are left out.
        limit: bytes; where they are more in all, none is compared: every record has a checksum of its own.

    Raises:
        ValueError: a file that differs.
    """
    manifests: dict[str, dict[str, dict]] = {}
    found = []
    for path in files:
        entry = _manifest_entry(path, manifests)
        if entry is not None and entry.get("sha256"):
            found.append((path, entry["sha256"], tf.io.gfile.stat(path)))
    size = sum(status.length for _, _, status in found)
    if size > limit:
        if limit > 0:
            logging.info(
                "%d shards of %.1f GiB are not compared with their checksums before the start (verify_checksums_gib); "
                "python -m deeplab2_kmax.data.validate does that.",
                len(found),
                size / 2**30,
            )
        return 0
    for path, expected, status in found:
        if _sha256(path, status.length, status.mtime_nsec) != expected:
            raise ValueError(
                f"{path}: its bytes are not those that were written (the checksum of its manifest does not match). "
                "Copy or convert it anew."
            )
    return len(found)


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: str, size: int, time: int) -> str:
    del size, time  # of the file, so that a changed one is read again
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _check_complete(pattern: str, matches: list[str]) -> None:
    """A shard that the pattern covers must be there. (The last ones may be: some converters write fewer shards.)"""
    groups: dict[tuple[str, int, str], set[int]] = collections.defaultdict(set)
    for path in matches:
        shard = _SHARD.match(path)
        if shard:
            groups[shard["split"], int(shard["shards"]), shard["rest"]].add(int(shard["shard"]))
    for (split, count, rest), have in groups.items():
        names = [f"{split}-{k:05d}-of-{count:05d}{rest}" for k in range(count)]
        missing = [k for k in range(count) if k not in have and fnmatch.fnmatch(names[k], pattern)]
        if not missing:
            continue
        gaps = [names[k] for k in missing if k < max(have)]
        listed = _read_manifest(_manifest_path(names[0]))
        gaps += [names[k] for k in missing if os.path.basename(names[k]) in listed and names[k] not in gaps]
        if gaps:
            raise ValueError(f"{pattern!r} covers {count} shards, but these are missing: {_shorten(gaps)}.")
        logging.warning("%r covers %d shards, the last %d are not there.", pattern, count, len(missing))


def _shorten(names: list[str], keep: int = 3) -> str:
    return ", ".join(names[:keep]) + (f" and {len(names) - keep} more" if len(names) > keep else "")


def _manifest_path(path: str) -> str:
    folder, name = os.path.split(path)
    shard = _SHARD.match(name)
    split = shard["split"] if shard else os.path.splitext(name)[0]
    return os.path.join(folder, f"{split}.manifest.json")


def _read_manifest(path: str) -> dict[str, dict]:
    """The shards of a manifest by file name; empty where there is no manifest."""
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        try:
            manifest = json.load(file)
            version, shards = manifest["format"], {shard["file"]: shard for shard in manifest["shards"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: not a manifest of TFRecord shards ({error!r}). Write the records anew."
            ) from error
    if version != 1:
        raise ValueError(f"{path}: manifest format {version}, but only 1 is known. Update deeplab2_kmax.")
    return shards


def _manifest_entry(path: str, manifests: dict[str, dict[str, dict]]) -> dict | None:
    manifest = _manifest_path(path)
    if manifest not in manifests:
        manifests[manifest] = _read_manifest(manifest)
    return manifests[manifest].get(os.path.basename(path))


def _scan(path: str, entry: dict | None, *, allow_empty: bool) -> np.ndarray:
    """Offsets of the records of one file, int64."""
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{path}: no such file.")
    size = tf.io.gfile.stat(path).length
    if entry is not None and size != entry["bytes"]:
        raise ValueError(
            f"{path} has {size} bytes, but its manifest says {entry['bytes']} ({entry['records']} records). "
            "It was cut or changed: copy or convert it anew."
        )
    if size == 0:
        if allow_empty or (entry is not None and entry["records"] == 0):
            return np.zeros([0], np.int64)
        raise ValueError(f"{path} is empty. Copy or convert it anew, or leave it out of file_pattern.")
    if entry is not None and entry.get("offsets") is not None:
        offsets = np.asarray(entry["offsets"], np.int64)
        with tf.io.gfile.GFile(path, "rb") as file:  # the ends alone: a changed file of the same size
            end = _next_offset(file, path, size, int(offsets[-1]), len(offsets) - 1) if len(offsets) else size
            if len(offsets):
                _next_offset(file, path, size, int(offsets[0]), 0)
        if end != size:
            raise ValueError(f"{path}: the offsets of its manifest do not end at its end. Convert it anew.")
    else:
        offsets = _scan_frames(path, size)
    if entry is not None and len(offsets) != entry["records"]:
        raise ValueError(f"{path} has {len(offsets)} records, but its manifest says {entry['records']}.")
    return offsets


def _scan_frames(path: str, size: int) -> np.ndarray:
    offsets, offset = [], 0
    with tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0) as file:
        while offset < size:
            offsets.append(offset)
            offset = _next_offset(file, path, size, offset, len(offsets) - 1)
    return np.asarray(offsets, np.int64)


def _next_offset(file, path: str, size: int, offset: int, number: int) -> int:
    """Where the record after the one at `offset` starts."""
    file.seek(offset)
    head = file.read(12)
    if len(head) < 12:
        raise ValueError(f"{path} is cut in the middle of record {number}. Copy or convert it anew.")
    length, checksum = struct.unpack("<QI", head)
    if checksum != crc32c.masked(head[:8]):
        hint = " Is it a TFRecord file, without compression?" if number == 0 else ""
        raise ValueError(f"{path}: the head of record {number} (byte {offset}) is corrupt.{hint}")
    if offset + _FRAME + length > size:
        raise ValueError(f"{path} is cut in the middle of record {number}. Copy or convert it anew.")
    return offset + _FRAME + length
