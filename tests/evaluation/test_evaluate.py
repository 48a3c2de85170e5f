import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from evaluation import evaluate
from tests import shared

CATEGORIES = [
    {"id": 7, "name": "person", "isthing": 1, "color": [220, 20, 60]},
    {"id": 90, "name": "grass", "isthing": 0, "color": [0, 128, 0]},
]


def write(folder, images, *, categories=CATEGORIES):
    """A COCO panoptic set: image id -> (segment ids [H, W], [(segment id, category, crowd), ...]); returns its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations = []
    for image_id, (ids, segments) in images.items():
        ids = np.asarray(ids)
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"{image_id}.png")
        infos = [
            {"id": i, "category_id": category, "iscrowd": crowd, "area": int((ids == i).sum())}
            for i, category, crowd in segments
        ]
        annotations.append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": infos})
    content = {"annotations": annotations} | ({"categories": categories} if categories else {})
    path = folder.with_suffix(".json")
    path.write_text(json.dumps(content))
    return path


def test_by_hand(tmp_path):
    truth = {
        # One person of 4 pixels, grass; ids above 65535; a void pixel.
        1: ([[70000] * 4 + [2] * 3 + [0]], [(70000, 7, 0), (2, 90, 0)]),
        # A crowd excuses the wrong person, and no other class.
        2: ([[5, 5, 5, 5, 6, 6]], [(5, 7, 1), (6, 90, 0)]),
    }
    predicted = {
        1: ([[300] * 3 + [9] * 5], [(300, 7, 0), (9, 90, 0)]),
        2: ([[1, 1, 1, 2, 3, 3]], [(1, 7, 0), (2, 90, 0), (3, 90, 0)]),
        99: ([[1]], [(1, 1234, 0)]),  # not in the ground truth: not looked at
    }
    truth, predicted = write(tmp_path / "truth", truth), write(tmp_path / "predicted", predicted, categories=None)
    found = evaluate.evaluate("panoptic", truth, predicted)
    person, grass = found["per_class"]
    assert found["num_images"] == 2
    assert (person.name, person.tp, person.fp, person.fn, person.sq) == ("person", 1, 0, 0, 0.75)
    assert (grass.name, grass.tp, grass.fp, grass.fn) == ("grass", 2, 1, 0)
    assert grass.sq == pytest.approx((3 / 4 + 1) / 2)
    assert found["summary"]["evaluation/pq/PQ_things"] == 0.75
    semantic = evaluate.evaluate("semantic", truth, predicted)
    assert semantic["per_class"][0].iou == pytest.approx(6 / 8)
    assert semantic["summary"]["evaluation/iou/num_classes"] == 2


def test_only_the_last_crowd_of_a_category_excuses(tmp_path):
    truth = {1: ([[1] * 6 + [2] * 2 + [3] * 2], [(1, 7, 1), (2, 7, 1), (3, 90, 0)])}
    first = {1: ([[1] * 6 + [3] * 4], [(1, 7, 0), (3, 90, 0)])}
    last = {1: ([[3] * 6 + [1] * 2 + [2] * 2], [(1, 7, 0), (3, 90, 0), (2, 90, 0)])}
    truth = write(tmp_path / "truth", truth)
    for name, predicted, false_positives in (("first", first, 1), ("last", last, 0)):
        person, _ = evaluate.evaluate("panoptic", truth, write(tmp_path / name, predicted))["per_class"]
        assert (person.tp, person.fp, person.fn) == (0, false_positives, 0)


def test_parity_case_as_files(tmp_path):
    manifest, expected = shared.case("pq_panopticapi")
    config = manifest["config"]
    divisor = config["label_divisor"]
    things = config["thing_classes"]
    categories = [{"id": i, "name": str(i), "isthing": int(i in things)} for i in range(1, config["num_classes"])]

    def images(kind):
        maps = [expected[f"{kind}_{i:03d}"] for i in range(config["num_images"])]
        found = {}
        for index, ids in enumerate(maps):
            segments = [i for i in np.unique(ids).tolist() if i // divisor != config["ignore_label"]]
            crowd = {i for i in segments if kind == "gt" and i % divisor == 0 and i // divisor in things}
            found[index] = (ids, [(i, i // divisor, int(i in crowd)) for i in segments])
        return found

    truth = write(tmp_path / "truth", images("gt"), categories=categories)
    predicted = write(tmp_path / "predicted", images("pred"))
    found = evaluate.evaluate("panoptic", truth, predicted)
    for key in ("tp", "fp", "fn"):
        assert [getattr(row, key) for row in found["per_class"]] == expected[key][1:].tolist()
    groups = [
        [found["summary"][f"evaluation/pq/{k}{g}"] for k in ("PQ", "SQ", "RQ")] for g in ("", "_things", "_stuff")
    ]
    np.testing.assert_allclose(groups, expected["summary"][:, :3], rtol=1e-12)


def test_real_ground_truth_against_itself():
    path = shared.path("data", "coco_panoptic_sample", "panoptic_examples.json")
    found = evaluate.evaluate("panoptic", path, path)
    assert found["summary"]["evaluation/pq/PQ"] == 1 and found["summary"]["evaluation/pq/FP"] == 0
    assert found["summary"]["evaluation/pq/num_classes"] == 8
    assert evaluate.evaluate("semantic", path, path)["summary"]["evaluation/iou/IoU"] == 1


def test_class_folders(tmp_path):
    for name, classes in (("truth", [[0, 0, 1, 255]]), ("predicted", [[0, 1, 1, 1]])):
        (tmp_path / name / "city").mkdir(parents=True)
        Image.fromarray(np.array(classes, np.uint8)).save(tmp_path / name / "city" / "a.png")
    found = evaluate.evaluate(
        "semantic", tmp_path / "truth", tmp_path / "predicted", file_format="png", dataset="cityscapes_panoptic"
    )
    assert found["summary"]["evaluation/iou/IoU"] == 0.5
    assert (found["per_class"][0].name, found["per_class"][0].iou) == ("road", 0.5)


GOOD = {1: ([[1, 2]], [(1, 7, 0), (2, 90, 0)])}


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (GOOD, {1: ([[1, 2]], [(1, 7, 0)])}, "the PNG has segment 2, which is not in the JSON"),
        (GOOD, {1: ([[1, 1]], [(1, 7, 0), (2, 90, 0)])}, "the JSON file has segment 2, which is not in the PNG"),
        (GOOD, {1: ([[1, 2]], [(1, 7, 0), (2, 8, 0)])}, "segment 2 has the unknown category 8"),
        (GOOD, {2: GOOD[1]}, "no prediction for 1 image.*example 1"),
        (GOOD, {1: ([[1], [2]], GOOD[1][1])}, "expected a PNG of 2x1 as the ground truth, got 1x2"),
        ({1: ([[1, 2]], [(1, 7, 0), (2, 90, 1)])}, GOOD, "segment 2 is a crowd of stuff"),
    ],
)
def test_bad_files(tmp_path, truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate("panoptic", write(tmp_path / "truth", truth), write(tmp_path / "predicted", predicted))


def test_bad_folders_and_arguments(tmp_path):
    good = write(tmp_path / "truth", GOOD)
    with pytest.raises(ValueError, match="Unknown task 'panoptik'"):
        evaluate.evaluate("panoptik", good, good)
    with pytest.raises(ValueError, match="Format 'coco' holds panoptic and semantic maps, but the task depth needs"):
        evaluate.evaluate("depth", good, good, file_format="coco")
    with pytest.raises(ValueError, match="expected one JSON file in the folder, found 0"):
        evaluate.evaluate("panoptic", tmp_path / "truth", good)
    with pytest.raises(ValueError, match="no list 'categories'"):
        evaluate.evaluate("panoptic", write(tmp_path / "bare", GOOD, categories=None), good)
    with pytest.raises(ValueError, match=r"There is no file or folder .*nothing.json \(the prediction\)"):
        evaluate.evaluate("panoptic", good, tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="A folder of images is for the report"):
        evaluate.evaluate("panoptic", good, good, images=tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json: cannot be read as JSON"):
        evaluate.evaluate("panoptic", good, tmp_path / "broken.json")
    with pytest.raises(ValueError, match="holds semantic maps, but the task panoptic needs panoptic maps"):
        evaluate.evaluate("panoptic", tmp_path, tmp_path, file_format="png")
    with pytest.raises(ValueError, match="needs the name of the data set"):
        evaluate.evaluate("semantic", tmp_path, tmp_path, file_format="png")
    (tmp_path / "truth" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="1.png: cannot be read as an image"):
        evaluate.evaluate("panoptic", good, good)


def program(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    script = shared.ROOT / "evaluation" / "evaluate.py"
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=environment)


def test_program(tmp_path):
    truth = write(tmp_path / "truth", GOOD)
    output = tmp_path / "new" / "result.json"
    done = program("--task=panoptic", f"--groundtruth={truth}", f"--prediction={truth}", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "person" in done.stdout and "100.00" in done.stdout
    found = json.loads(output.read_text())
    assert found["summary"]["evaluation/pq/PQ"] == 1.0 and found["per_class"][1]["name"] == "grass"


def test_program_says_in_one_line_what_is_wrong(tmp_path):
    done = program("--task=panoptik", f"--groundtruth={tmp_path}", f"--prediction={tmp_path}")
    assert done.returncode == 2 and "evaluate: flag --task=panoptik" in done.stderr
