"""The command line: bad input is one line and exit code 2."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny" / "kmax_synthetic.textproto")


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainer" / "train.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        check=False,
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "train: --config_file is missing; see --help"),
        (["--config_file=x", "--mode=tarin", "--model_dir=m"], "value should be one of <train|eval|"),
        (["--confg_file=x"], "Unknown command line flag 'confg_file'"),
        (["x.textproto"], "unexpected argument 'x.textproto'"),
        (["--config_file=no.textproto", "--mode=train", "--model_dir=m"], "no.textproto: the config file does not"),
        ([f"--config_file={TINY}", "--mode=train", "--model_dir=m", "--num_gpus=-1"], "--num_gpus must be at least 0"),
        (
            [f"--config_file={TINY}", "--mode=train", "--model_dir=m", "--override=trainer_options { sed: 1 }"],
            "unknown field 'sed' in TrainerOptions",
        ),
        ([f"--config_file={TINY}", "--mode=train", "--model_dir=m", "--set=DATA"], "expected NAME=value"),
        ([f"--config_file={TINY}", "--mode=train", "--model_dir=m", "--set=DATA=nowhere"], "nowhere/train-*.tfrecord"),
    ],
)
def test_bad_input(tmp_path, arguments, message):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_help_names_every_flag(tmp_path):
    text = run("--help", cwd=tmp_path).stdout
    for flag in ("config_file", "mode", "model_dir", "num_gpus", "master", "override", "set"):
        assert f"--{flag}:" in text
