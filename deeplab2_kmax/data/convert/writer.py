"""Writes a split of a data set as TFRecord shards with a manifest: in parallel, resumable, the same bytes every time.

`<split>-00000-of-00010.tfrecord` and so on; shard k of N holds the items [k * ceil(n / N), (k + 1) * ceil(n / N)).
`<split>.manifest.json` lists the shards: file, records, bytes, sha256 and the offset of every record. A shard that
is still to come has -1 records and bytes.
A shard appears under its name only when it is complete. A second run keeps the shards that are there and unchanged,
and makes the others; if what it is made from has changed, all are made anew.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from deeplab2_kmax.data import crc32c
from deeplab2_kmax.data.convert import progress as progresses

FORMAT = 1
_SHARD = re.compile(r"(?P<split>\w+)-\d{5}-of-(?P<shards>\d{5})\.tfrecord")
_MANIFEST_SECONDS = 2.0  # between two writings of the manifest

Encode = Callable[[Any], bytes]


class Split(NamedTuple):
    """What a converter makes of one split."""

    name: str
    items: Sequence[Any]
    encode: Encode
    num_shards: int
    source: Mapping[str, Any]
    shard_sizes: Sequence[int] | None = None  # records of each shard, where they are no even shares


class Job(NamedTuple):
    """One shard to write."""

    folder: str
    name: str
    items: Sequence[Any]
    encode: Encode
    source: str  # digest of what the split is made from


Add = Callable[[dict[str, Any]], None]  # takes the manifest's entry of a finished shard
Execute = Callable[[Sequence[Job], Add], None]


def write_split(
    output_dir: str | os.PathLike[str],
    split: str,
    items: Sequence[Any],
    encode: Encode,
    *,
    num_shards: int,
    source: Mapping[str, Any],
    num_processes: int = 1,
    execute: Execute | None = None,
    shard_sizes: Sequence[int] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Writes one record per item.

    Args:
        output_dir: the folder, made if missing. Nothing outside is touched.
        split: name of the split, letters, digits and underscores.
        items: what `encode` needs for each record, in order.
        encode: item -> serialised example. With several processes it and the items are pickled, so it has to be a
            function of a module (or a `functools.partial` of one).
        num_shards: files to write; more than there are items leaves empty ones.
        source: what the records are made from, as JSON values: options, and a fingerprint of files. Shards are kept
            only while it is the same.
        num_processes: 0 means one per processor core.
        execute: runs the jobs elsewhere than in processes of this machine, by `write_shard`.
        shard_sizes: records of each shard, instead of even shares.
        quiet: no progress.

    Returns:
        the manifest.

    Raises:
        ValueError: no items, a bad name, a folder with foreign shards of this split, or an item that cannot be
            encoded; its name and files are told, where the item has `name` and `files`. The finished shards stay.
    """
    if not re.fullmatch(r"\w+", split):
        raise ValueError(f"A split is named by letters, digits and underscores, not {split!r}.")
    if num_shards < 1 or num_shards > 99999:
        raise ValueError(f"num_shards lies between 1 and 99999, but got {num_shards}.")
    if not items:
        raise ValueError(f"There is nothing to write for the split {split!r}.")
    folder = pathlib.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, split):
        return _write(
            folder, Split(split, items, encode, num_shards, source, shard_sizes), num_processes, execute, quiet
        )


def _write(
    folder: pathlib.Path, split: Split, num_processes: int, execute: Execute | None, quiet: bool
) -> dict[str, Any]:
    items = split.items
    names = [f"{split.name}-{k:05d}-of-{split.num_shards:05d}.tfrecord" for k in range(split.num_shards)]
    manifest = _Manifest(folder, split.name, names, {**split.source, "num_items": len(items)})
    for pattern in (f".{split.name}-*.tmp", f".{split.name}.manifest-*.tmp"):
        for leftover in folder.glob(pattern):  # of a run that was stopped
            leftover.unlink()

    sizes = split.shard_sizes or [-(-len(items) // split.num_shards)] * split.num_shards
    assert len(sizes) == split.num_shards and sum(sizes) >= len(items)
    starts = [0, *itertools.accumulate(sizes)]
    digest = hashlib.sha256(json.dumps(manifest.source, sort_keys=True).encode()).hexdigest()
    jobs = [
        Job(str(folder), name, items[starts[k] : starts[k + 1]], split.encode, digest)
        for k, name in enumerate(names)
        if name not in manifest.shards
    ]
    kept = len(items) - sum(len(job.items) for job in jobs)
    progress = progresses.Progress(split.name, len(items), done=kept, quiet=quiet)
    num_processes = min(num_processes or os.cpu_count() or 1, len(jobs))
    try:
        if execute:
            execute(jobs, functools.partial(_add, manifest, progress))
        elif num_processes > 1:
            _write_in_processes(jobs, num_processes, manifest, lambda done: progress.show(kept + done))
        else:
            done = itertools.count(kept + 1)
            for job in jobs:
                manifest.add(write_shard(job, lambda: progress.show(next(done))))
    finally:
        manifest.save()
    progress.show(len(items), end=True)
    return manifest.content()


def _add(manifest: _Manifest, progress: progresses.Progress, shard: dict[str, Any]) -> None:
    manifest.add(shard)
    progress.show(manifest.content()["records"])


def fingerprint(paths: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str]) -> str:
    """A digest of the names, sizes and times of files, for `source`."""
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        digest.update(f"{os.path.relpath(path, root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(folder: pathlib.Path, split: str) -> Iterator[None]:
    """Keeps a second program from writing the same split."""
    with (folder / f".{split}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"Another program is writing the split {split!r} in {folder} just now.") from None
        yield


class _Manifest:
    """The list of finished shards of a split, on disk and in memory."""

    def __init__(self, folder: pathlib.Path, split: str, names: list[str], source: Mapping[str, Any]):
        self.path = folder / f"{split}.manifest.json"
        self.folder, self.names = folder, names
        # As JSON gives it back, so that equal sources compare equal.
        self.source = json.loads(json.dumps(dict(source), sort_keys=True))
        self.shards: dict[str, dict[str, Any]] = {}
        self._saved = 0.0
        present = {path.name for path in folder.iterdir() if (m := _SHARD.fullmatch(path.name)) and m["split"] == split}
        if self.path.exists():
            before = _load(self.path)
            listed = {shard["file"]: shard for shard in before["shards"]}
            if before.get("source") == self.source and set(listed) <= set(names):
                self.shards = {name: shard for name, shard in listed.items() if unchanged(folder / name, shard)}
            else:
                for name in present & set(listed):  # written by us from something else
                    (folder / name).unlink()
                present -= set(listed)
        elif present:
            raise ValueError(
                f"{folder} holds shards of {split!r} without a manifest, such as {min(present)}. "
                "Remove them or choose another --output_dir."
            )
        if foreign := present - set(names):
            raise ValueError(f"{folder} holds other shards of {split!r}, such as {min(foreign)}. Remove them first.")
        self.save()

    def add(self, shard: dict[str, Any]) -> None:
        self.shards[shard["file"]] = shard
        if time.monotonic() - self._saved > _MANIFEST_SECONDS:
            self.save()

    def content(self) -> dict[str, Any]:
        # Shards to come are listed too, so that readers know what is missing.
        absent = {"records": -1, "bytes": -1}
        return {
            "format": FORMAT,
            "source": self.source,
            "complete": len(self.shards) == len(self.names),
            "records": sum(shard["records"] for shard in self.shards.values()),
            "shards": [self.shards.get(name, {"file": name, **absent}) for name in self.names],
        }

    def save(self) -> None:
        handle, temporary = tempfile.mkstemp(prefix=f".{self.path.stem}-", suffix=".tmp", dir=self.folder)
        with os.fdopen(handle, "w") as file:
            json.dump(self.content(), file)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, self.path)
        self._saved = time.monotonic()


def _load(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}")
        _ = [shard["file"] for shard in manifest["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a manifest of this program ({error!r}). Remove it and its shards.") from error
    return manifest


def unchanged(path: pathlib.Path, shard: Mapping[str, Any]) -> bool:
    """Whether a file is the shard that a manifest's entry describes."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != shard.get("bytes"):
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == shard.get("sha256")


def write_shard(job: Job, tick: Callable[[], None]) -> dict[str, Any]:
    """Writes one shard under a temporary name and then renames it; `tick` is called after every record.

    Returns:
        its entry for the manifest.
    """
    digest, offsets, position = hashlib.sha256(), [], 0
    handle, temporary = tempfile.mkstemp(prefix=f".{job.name}-", suffix=".tmp", dir=job.folder)
    try:
        with os.fdopen(handle, "wb") as file:
            for item in job.items:
                record = _encode(job.encode, item)
                head = struct.pack("<Q", len(record))
                frame = head + struct.pack("<I", crc32c.masked(head)) + record
                frame += struct.pack("<I", crc32c.masked(record))
                file.write(frame)
                digest.update(frame)
                offsets.append(position)
                position += len(frame)
                tick()
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, pathlib.Path(job.folder) / job.name)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise
    return {
        "file": job.name,
        "records": len(offsets),
        "bytes": position,
        "sha256": digest.hexdigest(),
        "offsets": offsets,
    }


def _encode(encode: Encode, item: Any) -> bytes:
    try:
        return encode(item)
    except (ValueError, OSError) as error:
        told = [str(getattr(item, "name", item)), *getattr(item, "files", ())]
        raise ValueError(f"{', '.join(told)}: {error}") from error


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file under a temporary name and then renames it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        _publish(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def _publish(temporary: str, path: pathlib.Path) -> None:
    os.chmod(temporary, 0o644)  # temporary files are private
    os.replace(temporary, path)


_counter: Any = None  # records written by all processes


def _share(counter: Any) -> None:
    global _counter
    _counter = counter
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot tell its workers to stop; they would wait for work for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _write_and_count(job: Job) -> dict[str, Any]:
    def tick() -> None:
        with _counter.get_lock():
            _counter.value += 1

    return write_shard(job, tick)


def _write_in_processes(jobs: list[Job], num_processes: int, manifest: _Manifest, show: Callable[[int], None]) -> None:
    # Fresh processes: a fork of a process in which TensorFlow runs threads may hang.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with concurrent.futures.ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=_share, initargs=(counter,)
    ) as executor:
        waiting = {executor.submit(_write_and_count, job) for job in jobs}
        try:
            while waiting:
                finished, waiting = concurrent.futures.wait(
                    waiting, timeout=0.3, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in finished:
                    manifest.add(future.result())
                show(counter.value)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
