"""The command line of the export: bad usage. What it writes is tested with serving."""

import subprocess
import sys

import pytest

from tests import shared

CONFIG = f"--config_file={shared.ROOT / 'configs' / 'tiny' / 'kmax_synthetic.textproto'}"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "--config_file is missing"),
        ([CONFIG], "--export_path is missing"),
        ([CONFIG, "--export_path=out"], "--checkpoint_path is missing"),
        (["--experiment_option_path=nothing.textproto", "--output_path=out", "--random_weights"], "nothing.textproto"),
        ([CONFIG, "--export_path=out", "--checkpoint_path=nowhere/ckpt-1"], "nowhere/ckpt-1"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, complaint, tmp_path):
    program = shared.ROOT / "trainer" / "export_model.py"
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    ours = [line for line in done.stderr.splitlines() if line.startswith("export_model: ")]
    assert len(ours) == 1 and complaint in ours[0]
    assert not (tmp_path / "out").exists()
