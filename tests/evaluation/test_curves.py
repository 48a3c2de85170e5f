import json
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from evaluation import charts, curves
from tests import shared

SVG = "{http://www.w3.org/2000/svg}"


def test_charts_stand_side_by_side_with_their_last_values(tmp_path):
    loss = charts.Chart("Total loss", {"training": [(0, 3.0), (10, 2.0)], "a < b": [(10, 2.5)]})
    quality = charts.Chart("PQ", {"PQ": [(10, 0.125)]}, percent=True)

    path = curves.write(tmp_path / "docs" / "curves.svg", [loss, quality, loss])

    root = xml.etree.ElementTree.parse(path).getroot()
    places = [(float(each.get("x")), float(each.get("y"))) for each in root.findall(f"{SVG}svg")]
    width, height = charts.SIZE
    assert places[0] == (0, places[1][1])
    assert places[1][0] == width
    assert places[2][0] == 0
    assert places[2][1] > places[0][1] + height
    assert float(root.get("width")) == 2 * width
    texts = [each.text for each in root.findall(f"{SVG}text")]
    assert texts[:5] == ["Total loss", "training 2", "a < b 2.5", "PQ", "PQ 12.5"]


def test_no_chart(tmp_path):
    with pytest.raises(ValueError, match="no curves"):
        curves.write(tmp_path / "curves.svg", [])


def run(*arguments):
    program = [sys.executable, str(shared.ROOT / "evaluation/curves.py"), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True)


def test_program(tmp_path):
    lines = [
        {"step": 10, "mode": "train", "losses/train_total_loss": 2.0},
        {"step": 10, "mode": "eval", "evaluation/step/STQ": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    output = tmp_path / "run.svg"

    done = run(f"--run={tmp_path}", f"--output={output}", "--without=Total loss")

    assert done.returncode == 0, done.stderr
    titles = [each.text for each in xml.etree.ElementTree.parse(output).iter() if each.get("class") == "title"]
    assert titles == ["Video quality, percent"]
    for arguments, message in (
        ((f"--run={tmp_path / 'nowhere'}", f"--output={output}"), "expected the folder of a run"),
        ((f"--run={tmp_path}", "--output=x.png"), "ends in .svg"),
        ((f"--run={tmp_path}", f"--output={output}", "--without=Loss"), "Did you mean: Total loss?"),
        ((f"--run={tmp_path}", f"--ouput={output}"), "curves: Unknown command line flag 'ouput'"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
