"""Shards written by a runner of Apache Beam (optional: `pip install apache-beam`), byte by byte those of `writer`.

    python -m deeplab2_kmax.data.convert.coco --coco_root=coco --output_dir=records --runner=DirectRunner

One element of the pipeline is one shard, so --num_shards bounds how many workers can help. The workers need this
package, and the raw data and --output_dir under the same paths: one machine, or a file system that all of them mount.
A run that is stopped goes on where it was: finished shards are noted in `.<split>.beam` below --output_dir.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pickle
import shlex
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from deeplab2_kmax.data.convert import writer

_WATCH_SECONDS = 1.0  # between two looks for finished shards


def executor(runner: str, options: str = "") -> writer.Execute:
    """What `writer.write_split` takes to have a runner write the shards.

    Args:
        runner: a name that Beam knows, such as DirectRunner, FlinkRunner, SparkRunner or DataflowRunner.
        options: the runner's flags, as in a shell.

    Raises:
        ValueError: Beam is not installed or does not know the runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options import pipeline_options
        from apache_beam.runners import runner as runners
    except ImportError as error:
        raise ValueError(f"--runner needs Apache Beam ({error}): pip install apache-beam") from error
    try:
        runners.create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"--runner: Beam cannot make the runner {runner!r} ({error})") from error

    def execute(jobs: Sequence[writer.Job], add: writer.Add) -> None:
        if not jobs:
            return
        split = jobs[0].name.split("-")[0]
        work = pathlib.Path(jobs[0].folder).absolute() / f".{split}.beam"
        waiting = _prepare(work, jobs, add)
        if waiting:
            flags = pipeline_options.PipelineOptions(shlex.split(options), runner=runner)
            pipeline = beam.Pipeline(options=flags)
            shards = pipeline | "Shards" >> beam.Create(waiting) | "Spread" >> beam.Reshuffle()
            _ = shards | "Write" >> beam.Map(_write)
            with _watched(waiting, add) as left:
                try:
                    pipeline.run().wait_until_finish()
                except Exception as error:  # whatever the runner makes of a lost worker or a wrong flag
                    reason = (str(error).strip().splitlines() or [repr(error)])[-1]
                    raise ValueError(f"the runner {runner} failed: {reason}") from error
            for path in left:
                add(_result(path))
        shutil.rmtree(work)

    return execute


@contextlib.contextmanager
def _watched(paths: Sequence[str], add: writer.Add) -> Iterator[list[str]]:
    """Adds shards while they are being finished elsewhere; yields the list of those that are not added yet."""
    left, ended = list(paths), threading.Event()

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            for path in [path for path in left if _note(path).exists()]:
                try:
                    add(_result(path))
                except ValueError:
                    continue  # told at the end
                left.remove(path)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield left
    finally:
        ended.set()
        thread.join()


def _prepare(work: pathlib.Path, jobs: Sequence[writer.Job], add: writer.Add) -> list[str]:
    """Stores the jobs as files, leaves out those that an earlier run has finished, and returns the files."""
    work.mkdir(exist_ok=True)
    waiting = []
    for job in jobs:
        job = job._replace(folder=os.path.abspath(job.folder))
        path = work / f"{job.name}.job"
        try:
            note = json.loads(_note(path).read_text())
            finished = note["source"] == job.source and writer.unchanged(work.parent / job.name, note["shard"])
        except (OSError, KeyError, TypeError, ValueError):
            finished = False
        if finished:
            add(note["shard"])
            continue
        _note(path).unlink(missing_ok=True)
        path.write_bytes(pickle.dumps(job))
        waiting.append(str(path))
    return waiting


def _write(path: str) -> None:
    """Runs in a worker. Bad input is noted, not raised: the runner would try it again and bury the reason."""
    from apache_beam import metrics

    job: writer.Job = pickle.loads(pathlib.Path(path).read_bytes())
    counter = metrics.Metrics.counter("deeplab2_kmax", "records")
    note: dict[str, Any] = {"source": job.source}
    try:
        note["shard"] = writer.write_shard(job, counter.inc)
    except (ValueError, OSError) as error:
        note["error"] = str(error)
    temporary = _note(path).with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(note))
    temporary.replace(_note(path))


def _result(path: str) -> dict[str, Any]:
    try:
        note = json.loads(_note(path).read_text())
    except OSError as error:
        raise ValueError(f"the runner left no result at {path}: do its workers see this folder? ({error})") from error
    if "error" in note:
        raise ValueError(note["error"])
    return note["shard"]


def _note(path: str | os.PathLike[str]) -> pathlib.Path:
    return pathlib.Path(path).with_suffix(".json")
