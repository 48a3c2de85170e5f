import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from evaluation import error_analysis, evaluation_report, metric_set
from tests import shared
from tests.evaluation.small_errors import DATASET, VOID
from tests.evaluation.test_report import Page

RESULT = {"evaluation/pq/PQ": 0.425, "evaluation/pq/PQ_things": 0.25, "evaluation/pq/PQ_stuff": 0.6, "other/loss": 1.25}
ROWS = [
    metric_set.ClassRow(i, name, i in DATASET.thing_ids, DATASET.colors[i], pq=0.1 * i, tp=i, fp=1, fn=0)
    for i, name in enumerate(DATASET.class_names)
]


def analysis(dataset=DATASET, *, video=False):
    """Two images (or frames): all right, and a car that is called a truck, with a pixel of grass missing."""
    found = error_analysis.Analysis(dataset)
    divisor = dataset.label_divisor
    true = np.array([[2 * divisor + 1 % divisor] * 4 + [0] * 4 + [divisor]]).repeat(3, axis=0)
    wrong = np.array([[3 * divisor + 1 % divisor] * 4 + [0] * 4 + [255 * divisor]]).repeat(3, axis=0)
    for frame, pred in enumerate((true, wrong)):
        found.add(
            f"frame {frame}.png",
            true,
            pred,
            load_image=lambda: np.zeros((3, 9, 3), np.uint8),
            sequence="street <7>" if video else "",
            frame=frame,
        )
    return found


def write(tmp_path, **options):
    options = {"title": "A & B", "task": "panoptic", "result": RESULT, "rows": ROWS, **options}
    path = evaluation_report.write(tmp_path / "new" / "report.html", **options)
    text = path.read_text()
    assert "http" not in text and "<script" not in text  # nothing is loaded from elsewhere
    return Page(text)


def headlines(page):
    known = (
        "Where quality is lost",
        "Per class",
        "Confusion between classes",
        "Worst images",
        "Best images",
        "Tracks",
        "All values",
        "About this evaluation",
    )
    return [text for text in page.texts if text in known]


def test_everything_is_there(tmp_path):
    page = write(tmp_path, analysis=analysis(), facts={"Prediction": "folder"})
    assert headlines(page) == [
        "Where quality is lost",
        "Per class",
        "Confusion between classes",
        "Worst images",
        "Best images",
        "All values",
        "About this evaluation",
    ]
    for expected in ("A & B", "panoptic, 2 images", "42.5", "things 25.0, stuff 60.0", "other/loss", "1.25", "folder"):
        assert expected in page.texts, expected
    # In the second image the car and the grass are lost, the road is right: of four classes car, truck and grass lose.
    assert "frame 1.png, PQ 25.0" in page.texts and "frame 0.png, PQ 100.0" in page.texts
    assert len(page.pictures) == 2 * 4 and all(source.startswith("data:image/") for source in page.pictures)
    table = page.texts.index("segments of the wrong class")
    assert page.texts[table:].count("car → truck") == 1
    # The breakdown adds up: PQ is (1 + 2/3 + 2/3 + 0) / 4, a missed grass takes 1/12, the wrong car (1/3 + 1) / 4.
    keys = [text for text in page.texts if text.startswith(("PQ ", "wrong class ", "missed ")) and text[-1].isdigit()]
    assert keys == ["PQ 58.3", "wrong class 33.3", "missed 8.3"]


def test_video(tmp_path):
    page = write(tmp_path, task="video_panoptic", analysis=analysis(video=True))
    assert "Tracks" in headlines(page)
    assert any("Every frame counts as an image of its own here" in text for text in page.texts)
    assert "1 switches in 1 sequences." in page.texts
    assert "street <7>: 1 objects, 1 switches, followed by one id in 50.0 % of their frames" in page.texts
    assert "car 1, frame 1: truck 1" in page.texts


def test_classes_of_a_metric_without_classes(tmp_path):
    # STQ has no values per class: those of the analysis stand in. Cars: 1 matched, 1 missed, D = 1.5.
    rows = [row._replace(pq=None, tp=None, fp=None, fn=None) for row in ROWS]
    texts = write(tmp_path, task="step", rows=rows, analysis=analysis(video=True)).texts
    assert "PQ is that of single images." in texts
    table = texts[texts.index("where PQ is lost") :]
    assert [table[table.index(name, 1) + 2] for name in ("road", "grass", "car", "truck")] == [
        "100.0",
        "66.7",
        "66.7",
        "0.0",
    ]


def test_plain_classes(tmp_path):
    dataset = dataclasses.replace(DATASET, label_divisor=1)
    page = write(tmp_path, task="semantic", result={"evaluation/iou/IoU": 0.5}, analysis=analysis(dataset))
    assert "semantic, 2 images" in page.texts
    assert "given another class " in page.texts and "segments of the wrong class" not in page.texts
    assert "frame 1.png, mean IoU 25.0" in page.texts


@pytest.mark.parametrize("empty", [None, error_analysis.Analysis(DATASET)])
def test_without_maps(tmp_path, empty):
    result = {"evaluation/depth/AbsErrorRel": 0.125, "evaluation/depth/rmse": 2.5}
    page = write(tmp_path, task="depth", result=result, rows=[], analysis=empty)
    assert headlines(page) == ["All values"]
    assert "12.5" in page.texts and "2.50 m" in page.texts


def test_all_void(tmp_path):
    found = error_analysis.Analysis(DATASET)
    found.add("a", np.full((2, 2), VOID), np.zeros((2, 2), int))
    page = write(tmp_path, result={"evaluation/pq/PQ": float("nan")}, rows=[], analysis=found)
    assert headlines(page) == ["All values"] and "-" in page.texts


def test_classes_without_a_row_stay_out(tmp_path):
    page = write(tmp_path, rows=ROWS[:2], analysis=analysis())
    after = page.texts[page.texts.index("Confusion between classes") : page.texts.index("Worst images")]
    assert not [text for text in after if "car" in text or "truck" in text]


def test_many_classes_show_the_most_confused(tmp_path):
    number = 50
    dataset = dataclasses.replace(
        DATASET, num_classes=number, thing_ids=(), class_names=tuple(f"c{i}" for i in range(number)),
        colors=((9, 9, 9),) * number, eval_ids=tuple(range(number)),
    )  # fmt: skip
    found = error_analysis.Analysis(dataset)
    true = np.arange(number)[np.newaxis] * 10
    pred = true.copy()
    pred[0, 7] = true[0, 41]
    found.add("a", true, pred)
    rows = [metric_set.ClassRow(i, f"c{i}", False, (9, 9, 9)) for i in range(number)]
    page = write(tmp_path, rows=rows, analysis=found)
    assert "The 30 classes that are confused most, of 50." in page.texts
    assert "c7 as c41: 100.00 %" in page.texts


def test_needs_no_tensorflow():
    program = "import sys; from evaluation import evaluation_report; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=shared.ROOT)
