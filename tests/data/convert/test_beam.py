"""Shards written by a runner of Apache Beam: errors, resuming, the command line."""

import os
import subprocess
import sys

import pytest

from deeplab2_kmax.data.convert import coco
from tests import converters, image_trees, shared

NAMES = [f"{k:012d}" for k in range(6)]


@pytest.fixture
def beam():
    pytest.importorskip("apache_beam", reason="needs apache-beam: see docs/data.md")


@pytest.fixture
def arguments(tmp_path):
    return [*image_trees.coco(tmp_path / "coco", NAMES), "--num_shards=3"]


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}


def test_without_beam_one_line_says_what_to_install(tmp_path, arguments, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    assert converters.run(coco, *arguments, f"--output_dir={tmp_path / 'out'}", "--runner=DirectRunner") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "pip install" in lines[0] and not (tmp_path / "out").exists()


def test_an_unknown_runner_is_one_line(beam, tmp_path, arguments, capsys):
    assert converters.run(coco, *arguments, f"--output_dir={tmp_path / 'out'}", "--runner=Nobody") == 2
    assert "Beam cannot make the runner 'Nobody'" in capsys.readouterr().err.splitlines()[-1]


def test_a_bad_record_is_one_line_and_the_rest_is_kept(beam, tmp_path, arguments, capsys):
    assert converters.run(coco, *arguments, f"--output_dir={tmp_path / 'local'}") == 0
    expected = converters.digests(tmp_path / "local")
    image = tmp_path / "coco" / "val2017" / f"{NAMES[3]}.jpg"
    good, when = image.read_bytes(), image.stat()
    image.write_bytes(b"x" * len(good))
    os.utime(image, ns=(when.st_atime_ns, when.st_mtime_ns))  # the input's fingerprint stays
    flags = [*arguments, f"--output_dir={tmp_path / 'out'}", "--runner=DirectRunner"]
    assert converters.run(coco, *flags) == 2
    assert NAMES[3] in capsys.readouterr().err.splitlines()[-1]
    before = times(tmp_path / "out")
    assert sorted(before) == [f"val-0000{k}-of-00003.tfrecord" for k in (0, 2)]
    image.write_bytes(good)
    os.utime(image, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert converters.run(coco, *flags) == 0
    assert converters.digests(tmp_path / "out") == expected
    after = times(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert converters.run(coco, *flags) == 0 and times(tmp_path / "out") == after  # nothing is left to do
    assert not (tmp_path / "out" / ".val.beam").exists()


@pytest.mark.slow
def test_workers_of_their_own_processes(beam, tmp_path, arguments):
    assert converters.run(coco, *arguments, f"--output_dir={tmp_path / 'local'}") == 0
    command = [sys.executable, "-m", "deeplab2_kmax.data.convert.coco", *arguments, f"--output_dir={tmp_path / 'out'}"]
    command += ["--runner=DirectRunner"]
    command += ["--beam_options=--direct_running_mode=multi_processing --direct_num_workers=2"]
    run = subprocess.run(command, cwd=shared.ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert converters.digests(tmp_path / "out") == converters.digests(tmp_path / "local")
    manifests = [converters.manifest(tmp_path / name, "val") for name in ("out", "local")]
    assert manifests[0] == manifests[1]
