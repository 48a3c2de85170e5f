"""Shards and manifests: what a reader expects, what a second run keeps, what is never touched."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from deeplab2_kmax.data import record_index
from deeplab2_kmax.data.convert import files, writer
from tests import shared

ITEMS = list(range(7))


def encode(item):
    return f"record {item} ".encode() * (item + 1)


def fail_at(item, number):
    if item == number:
        raise ValueError("no such thing")
    return encode(item)


def write(folder, items=ITEMS, function=encode, **options):
    options = {"num_shards": 3, "source": {"size": 1}, "quiet": True, **options}
    return writer.write_split(folder, "train", items, function, **options)


def shards(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".tfrecord")


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in shards(folder)}


def test_shards_hold_equal_runs_in_order(tmp_path):
    manifest = write(tmp_path)
    names = [f"train-{k:05d}-of-00003.tfrecord" for k in range(3)]
    assert [path.name for path in shards(tmp_path)] == names
    found = [[r.numpy() for r in tf.data.TFRecordDataset(str(path))] for path in shards(tmp_path)]
    assert found == [[encode(i) for i in run] for run in ([0, 1, 2], [3, 4, 5], [6])]  # ceil(7 / 3) = 3 each
    assert [shard["records"] for shard in manifest["shards"]] == [3, 3, 1]
    assert manifest["records"] == 7 and manifest["complete"]
    assert manifest["source"] == {"size": 1, "num_items": 7}
    assert json.loads((tmp_path / "train.manifest.json").read_text()) == manifest


def test_offsets_are_those_of_the_records(tmp_path):
    manifest = write(tmp_path)
    paths = [str(path) for path in shards(tmp_path)]
    by_manifest = record_index.build(paths)
    (tmp_path / "train.manifest.json").unlink()
    by_scan = record_index.build(paths)
    assert by_manifest.offsets.tolist() == by_scan.offsets.tolist()
    assert manifest["shards"][0]["offsets"] == [0, 25, 25 + 34]  # a frame adds 16 to 9, then 18 bytes


def test_more_shards_than_items_leaves_empty_ones(tmp_path):
    manifest = write(tmp_path, [0, 1], num_shards=3)
    assert [shard["records"] for shard in manifest["shards"]] == [1, 1, 0]
    assert record_index.build([str(path) for path in shards(tmp_path)]).num_records == 2


def test_a_second_run_keeps_what_is_there(tmp_path):
    first = write(tmp_path)
    before = times(tmp_path)
    assert write(tmp_path) == first
    assert times(tmp_path) == before


def test_changed_lost_and_cut_shards_are_made_anew(tmp_path):
    first = write(tmp_path)
    good = [path.read_bytes() for path in shards(tmp_path)]
    before = times(tmp_path)
    one, two, three = shards(tmp_path)
    one.write_bytes(good[0][:-1] + b"x")  # same size
    two.unlink()
    assert write(tmp_path) == first
    assert [path.read_bytes() for path in shards(tmp_path)] == good
    assert times(tmp_path)[three.name] == before[three.name]


def test_a_failed_run_keeps_its_finished_shards_and_goes_on(tmp_path):
    with pytest.raises(ValueError, match="4.*no such thing"):
        write(tmp_path, function=functools.partial(fail_at, number=4))
    assert [path.name for path in shards(tmp_path)] == ["train-00000-of-00003.tfrecord"]
    assert not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*.tmp"))
    manifest = json.loads((tmp_path / "train.manifest.json").read_text())
    assert not manifest["complete"] and manifest["records"] == 3
    with pytest.raises(ValueError, match="missing"):  # readers do not take it for the whole split
        record_index.find_files([str(tmp_path / "train-*.tfrecord")])
    before = times(tmp_path)
    write(tmp_path)
    assert times(tmp_path)["train-00000-of-00003.tfrecord"] == before["train-00000-of-00003.tfrecord"]
    assert len(shards(tmp_path)) == 3


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    write(tmp_path)
    leftover = tmp_path / ".train-00001-of-00003.tfrecord-abc.tmp"
    other = tmp_path / ".trainval-00001-of-00003.tfrecord-abc.tmp"
    for path in (leftover, other):
        path.write_bytes(b"half")
    write(tmp_path)
    assert not leftover.exists() and other.exists()


def test_another_source_makes_all_anew(tmp_path):
    write(tmp_path, num_shards=5)
    manifest = write(tmp_path, [6, 5, 4], source={"size": 2})
    assert [path.name for path in shards(tmp_path)] == [shard["file"] for shard in manifest["shards"]]
    assert [r.numpy() for r in tf.data.TFRecordDataset(str(shards(tmp_path)[0]))] == [encode(6)]


def test_foreign_shards_are_left_alone(tmp_path):
    foreign = tmp_path / "train-00000-of-00003.tfrecord"
    foreign.write_bytes(b"precious")
    with pytest.raises(ValueError, match="without a manifest"):
        write(tmp_path)
    assert foreign.read_bytes() == b"precious"
    foreign.unlink()
    write(tmp_path)
    foreign = tmp_path / "train-00000-of-00009.tfrecord"
    foreign.write_bytes(b"precious")
    with pytest.raises(ValueError, match="00009"):
        write(tmp_path)
    assert foreign.read_bytes() == b"precious"


def test_nothing_outside_is_written_through_links(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    folder = tmp_path / "records"
    folder.mkdir()
    write(folder)
    target = shards(folder)[0]
    target.unlink()
    os.symlink(outside, target)
    write(folder)
    assert outside.read_text() == "precious" and not target.is_symlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"items": []}, "nothing to write"), ({"num_shards": 0}, "num_shards"), ({"num_shards": 100000}, "num_shards")],
)
def test_bad_requests(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, **options)


@pytest.mark.parametrize("split", ["", "../train", "a-b", "a/b"])
def test_bad_names_of_splits(tmp_path, split):
    with pytest.raises(ValueError, match="split"):
        writer.write_split(tmp_path, split, ITEMS, encode, num_shards=1, source={})
    assert not list(tmp_path.iterdir())


def test_a_broken_manifest_is_told(tmp_path):
    (tmp_path / "train.manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not a manifest"):
        write(tmp_path)


def test_one_program_at_a_time(tmp_path):
    def encode_and_try_again(item):
        with pytest.raises(ValueError, match="Another program"):
            write(tmp_path)
        return encode(item)

    write(tmp_path, function=encode_and_try_again)


def test_an_error_in_another_process_arrives(tmp_path):
    read = functools.partial(files.read_map, channels=1)  # of a module that loads fast
    with pytest.raises(ValueError, match=r"absent\d\.png"):
        write(tmp_path, items=[str(tmp_path / f"absent{k}.png") for k in range(3)], function=read, num_processes=2)


def test_fingerprints_follow_the_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    first = writer.fingerprint([path], tmp_path)
    assert writer.fingerprint([path], tmp_path) == first
    path.write_bytes(b"22")
    assert writer.fingerprint([path], tmp_path) != first


_KILLED = """
import sys, time
from deeplab2_kmax.data.convert import writer
def encode(item):
    time.sleep(0.01 if item < 2 else 600)
    return b"record"
if __name__ == "__main__":
    writer.write_split(sys.argv[1], "train", range(4), encode, num_shards=4, source={}, num_processes=2, quiet=True)
"""


def test_a_killed_run_leaves_no_processes(tmp_path):
    script, folder = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(_KILLED)
    run = subprocess.Popen([sys.executable, str(script), str(folder)], cwd=shared.ROOT, env=_environment())

    def children():
        return [int(pid) for pid in pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]

    _wait(lambda: folder.is_dir() and len(shards(folder)) == 2)
    workers = children()
    assert len(workers) >= 2
    run.kill()
    run.wait()
    _wait(lambda: not any(_runs(pid) for pid in workers))
    writer.write_split(folder, "train", range(4), encode, num_shards=4, source={}, quiet=True)
    assert len(shards(folder)) == 4 and not list(folder.glob(".*.tmp"))


def _environment():
    return {**os.environ, "PYTHONPATH": str(shared.ROOT)}


def _runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")
