import html.parser
import json
import subprocess
import sys

import numpy as np
import pytest

from evaluation import charts, report
from tests import shared

ROWS = [
    {"name": "road", "thing": False, "color": (128, 64, 128), "pq": 0.5, "sq": 0.75, "tp": 2, "fp": 1, "fn": 0},
    {"name": "car <1>", "thing": True, "color": (0, 0, 142), "pq": 0.9, "sq": 0.9, "tp": 9, "fp": 0, "fn": 0},
    {"name": "train", "thing": True, "color": (0, 80, 100), "pq": None, "sq": None, "tp": 0, "fp": 0, "fn": 0},
]
PICTURE = np.zeros((12, 20, 3), np.uint8)


class Page(html.parser.HTMLParser):
    """Checks that tags close in order; collects texts and picture sources."""

    VOID = {"meta", "img", "link", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.pictures = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def write(tmp_path, **content):
    path = report.write_report(tmp_path / "run" / "report.html", title="A & B", **content)
    text = path.read_text()
    assert text.startswith("<!DOCTYPE html>")
    return Page(text), text


def test_everything_is_there(tmp_path):
    page, text = write(
        tmp_path,
        subtitle="tiny",
        summary=[report.Figure("PQ", "50.0 %", "things 40")],
        curves=[charts.Chart("Total loss", {"training": [(0, 3.0), (10, 2.0)]})],
        per_class_rows=ROWS,
        samples=[report.Sample("scene 1", {"input": PICTURE, "ground truth": PICTURE, "prediction": PICTURE})],
        clusters=[report.ClusterMaps("scene 1", PICTURE, [np.arange(15).reshape(3, 5)] * 6)],
        unseen=[report.Sample("photo.jpg", {"photo": PICTURE, "prediction": PICTURE})],
        facts={"Config": "a.textproto"},
        notes=["It is small."],
    )
    for expected in (
        "A & B",
        "50.0 %",
        "Total loss",
        "car <1>",
        "layer 6: 15 clusters in use",
        "photo.jpg",
        "It is small.",
    ):
        assert expected in page.texts
    assert len(page.pictures) == 3 + 7 + 2
    assert all(source.startswith("data:image/") for source in page.pictures)
    # Nothing is loaded from elsewhere.
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text
    # The table sorts by PQ; what did not occur stands below.
    table = page.texts.index("Kind")
    names = ["car <1>", "road", "train"]
    assert sorted(names, key=lambda name: page.texts.index(name, table)) == names
    assert page.texts.index("train", table) == page.texts.index("Do not occur:", table) + 1


def test_empty_sections_are_left_out(tmp_path):
    page, _ = write(tmp_path)
    assert [text for text in page.texts if text.strip()][-1] == "A & B"
    assert "Training" not in page.texts and "Per class" not in page.texts


def test_bad_picture(tmp_path):
    with pytest.raises(ValueError, match=r"'input': expected \[H, W, 3\] uint8, got \(4, 4\) float64"):
        write(tmp_path, samples=[report.Sample("scene", {"input": np.zeros((4, 4))})])


def test_curves_from_the_metrics_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 0, "kind": "train", "losses/train_total_loss": 4.0, "losses/train_semantic_loss": 1.0},
        {"step": 10, "kind": "train", "losses/train_total_loss": 3.0, "losses/train_aux_0semantic_loss": 1.0},
        {"step": 10, "kind": "eval", "evaluation/pq/PQ": 0.5, "learning_rate": 0.1},
        {"step": 10, "kind": "train", "losses/train_total_loss": 2.0},  # again, after a resumption
    ]
    path.write_text(
        "\n".join(json.dumps(line) for line in lines) + '\n{"step": 20, "los\n{"step": 20, "learning_rate": null}'
    )
    records = report.read_metrics(path)
    assert report.curve(records, "losses/train_total_loss") == [(0, 4.0), (10, 2.0)]
    drawn = {chart.title: chart for chart in report.training_charts(records)}
    assert set(drawn) == {"Total loss", "Panoptic quality, percent", "Loss terms", "Learning rate"}
    assert drawn["Loss terms"].series == {"semantic": [(0, 1.0)]}
    path.write_text("nonsense\n{}\n")
    with pytest.raises(ValueError, match="line 1: expected a JSON object, got 'nonsense'"):
        report.read_metrics(path)
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="with a 'step'"):
        report.read_metrics(path)


def test_needs_no_tensorflow():
    program = "import sys; from evaluation import report; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=shared.ROOT)
