"""What every converter promises: help, a manifest, equal bytes however it is run or stopped, no other file touched."""

import hashlib
import importlib
import json
import multiprocessing
import pkgutil
import signal

import pytest

from deeplab2_kmax.data import convert, record_index
from tests import converters, image_trees, killed, video_trees

CASES = {case.name: case for case in (*image_trees.CASES, *video_trees.CASES)}
# One of images, one of videos, one that draws its own; they all resume in the same lines.
KILLED_FAST = ("coco", "kitti_step", "synthetic")
every_converter = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def module(case):
    return importlib.import_module(f"deeplab2_kmax.data.convert.{case.name}")


def state(folder):
    """Every file below a folder with its content's digest."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def converted(case, tmp_path):
    """Flags of the converter and the digests of the shards that it writes."""
    arguments = [*case.make_tree(tmp_path / "raw"), "--num_shards=2"]
    before = state(tmp_path)
    assert converters.run(module(case), *arguments, f"--output_dir={tmp_path / 'out'}") == 0
    after = state(tmp_path)
    assert {name: value for name, value in after.items() if not name.startswith("out/")} == before
    return arguments, converters.digests(tmp_path / "out")


def test_every_converter_has_a_case():
    names = [found.name for found in pkgutil.iter_modules(convert.__path__)]
    modules = {name: importlib.import_module(f"{convert.__name__}.{name}") for name in names}
    assert {name for name, found in modules.items() if hasattr(found, "main") and hasattr(found, "plan")} == set(CASES)


@every_converter
def test_help_says_it_all(case, capsys):
    assert module(case).main([f"{case.name}.py", "--help"]) == 0
    text = capsys.readouterr().out
    assert f"python -m deeplab2_kmax.data.convert.{case.name}" in text and "--output_dir=" in text
    for flag in module(case)._FLAGS:
        assert f"--{flag}" in text or f"--[no]{flag}" in text


@every_converter
def test_shards_agree_with_the_manifest(case, converted, tmp_path):
    out = tmp_path / "out"
    expected = {f".{split}.lock" for split in case.num_records} | set(converted[1]) | set(case.more_files)
    assert set(state(out)) == expected | {f"{split}.manifest.json" for split in case.num_records}
    for split, count in case.num_records.items():
        manifest = json.loads((out / f"{split}.manifest.json").read_text())
        assert manifest["complete"] and manifest["records"] == count == sum(s["records"] for s in manifest["shards"])
        assert manifest["source"]["converter"] == case.name
        for shard in manifest["shards"]:
            data = (out / shard["file"]).read_bytes()
            assert len(data) == shard["bytes"] and hashlib.sha256(data).hexdigest() == shard["sha256"]
        names = record_index.find_files([str(out / f"{split}-*.tfrecord")])
        assert record_index.build(names).num_records == count


@pytest.fixture(scope="module")
def clean_processes():
    """Processes forked from one that has imported the converters but, unlike this one, no TensorFlow."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed"])
    return context


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if n in KILLED_FAST else pytest.mark.slow, id=n) for n, c in CASES.items()]
)
def test_a_killed_run_goes_on_to_the_same_bytes(case, converted, clean_processes, tmp_path):
    arguments, digests = converted
    arguments = [*arguments, f"--output_dir={tmp_path / 'killed'}"]
    process = clean_processes.Process(target=killed.run, args=(case.name, [*arguments, "--num_processes=1"]))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    found = state(tmp_path / "killed")
    assert sum(name.endswith(".tfrecord") for name in found) == 1
    assert sum(name.endswith(".tmp") for name in found) == 1
    with pytest.raises(ValueError, match="missing"):  # readers do not take it for the whole split
        record_index.find_files([str(tmp_path / "killed" / f"{next(iter(case.num_records))}-*.tfrecord")])
    assert converters.run(module(case), *arguments, "--num_processes=2") == 0
    assert converters.digests(tmp_path / "killed") == digests
    assert not [name for name in state(tmp_path / "killed") if name.endswith(".tmp")]


@pytest.mark.slow  # test_beam.py runs one of them
@every_converter
def test_beam_writes_the_same_bytes(case, converted, tmp_path):
    pytest.importorskip("apache_beam", reason="needs apache-beam: see docs/data.md")
    arguments, digests = converted
    folder = tmp_path / "beam"
    assert converters.run(module(case), *arguments, f"--output_dir={folder}", "--runner=DirectRunner") == 0
    assert converters.digests(folder) == digests
    for split in case.num_records:
        manifests = [json.loads((tmp_path / out / f"{split}.manifest.json").read_text()) for out in ("out", "beam")]
        assert manifests[0] == manifests[1]
    assert not [name for name in state(folder) if name.endswith((".job", ".tmp", ".tfrecord.json"))]


@every_converter
def test_bad_flags_are_one_line(case, tmp_path, capsys):
    arguments = case.make_tree(tmp_path / "raw")

    def error(*flags):
        assert converters.run(module(case), *flags) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith(f"{case.name}: ")
        return lines[0]

    assert "--output_dir is missing" in error(*arguments)
    assert "unexpected argument 'more'" in error(*arguments, f"--output_dir={tmp_path / 'out'}", "more")
    assert "num_shards" in error(*arguments, f"--output_dir={tmp_path / 'out'}", "--num_shards=0")
    assert "nonsense" in error(*arguments, f"--output_dir={tmp_path / 'out'}", "--nonsense")
    for k, flag in enumerate(arguments):  # a file or folder that is not there
        if str(tmp_path) in flag:
            missing = [*arguments[:k], f"{flag}_missing", *arguments[k + 1 :]]
            assert "_missing" in error(*missing, f"--output_dir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
