"""The official tools read the same files of label maps and give the same numbers."""

import contextlib
import importlib
import io
import json

import pytest

from evaluation import evaluate
from tests.evaluation import official
from tests.evaluation import saved_files as files

TRUTH, WRONG = files.video(0), files.video(1, change=0.3)


def quiet(call, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


@pytest.mark.parametrize("tool", ["panopticapi", "cityscapesscripts"])
def test_panoptic_json(tool, tmp_path):
    official.need(tool)
    paths = [files.coco_panoptic(tmp_path / name, maps) for name, maps in (("truth", TRUTH), ("predicted", WRONG))]
    module = importlib.import_module(official.PACKAGES[tool].module)
    contents = [json.loads(path.read_text()) for path in paths]
    pairs = list(zip(*(content["annotations"] for content in contents)))
    categories = {category["id"]: category for category in contents[0]["categories"]}
    folders = [str(path.with_suffix("")) for path in paths]
    stat = quiet(module.pq_compute_single_core, 0, pairs, *folders, categories)
    found = evaluate.evaluate("panoptic", *paths, file_format="cityscapes" if tool == "cityscapesscripts" else "coco")
    for isthing, group in ((None, ""), (True, "_things"), (False, "_stuff")):
        expected, _ = stat.pq_average(categories, isthing=isthing)
        values = [found["summary"][f"evaluation/pq/{name}{group}"] for name in ("PQ", "SQ", "RQ", "num_classes")]
        assert values == pytest.approx([expected[key] for key in ("pq", "sq", "rq", "n")], abs=1e-12)
    assert 0.05 < found["summary"]["evaluation/pq/PQ"] < 0.95
    for row, class_id in zip(found["per_class"], categories):
        assert (row.tp, row.fp, row.fn) == (stat[class_id].tp, stat[class_id].fp, stat[class_id].fn)


def test_cityscapes_label_ids(tmp_path):
    official.need("cityscapesscripts")
    tool = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    folders = [
        files.label_ids(tmp_path / "truth", TRUTH),
        files.label_ids(tmp_path / "predicted", WRONG, ending="_pred_labelIds.png"),
    ]
    truth, predicted = (sorted(str(path) for path in folder.rglob("*.png")) for folder in folders)
    args = tool.args
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    expected = quiet(tool.evaluateImgLists, predicted, truth, args)
    found = evaluate.evaluate("semantic", *folders, file_format="cityscapes")
    assert 0.05 < found["summary"]["evaluation/iou/IoU"] < 0.95
    assert found["summary"]["evaluation/iou/IoU"] == pytest.approx(expected["averageScoreClasses"], abs=1e-12)
    for row in found["per_class"]:
        if row.iou is not None:
            assert row.iou == pytest.approx(expected["classScores"][row.name], abs=1e-12)
