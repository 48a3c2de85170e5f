"""Raw predictions, read by `evaluation/evaluate.py` and by the scripts of Cityscapes: the numbers of an evaluation."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import datasets
from evaluation import evaluate, metric_set
from tests.evaluation import official
from trainer import raw_predictions

STREET = datasets.lookup("cityscapes_panoptic")


@pytest.fixture
def tools(monkeypatch):
    official.need("cityscapesscripts")
    monkeypatch.setenv("CITYSCAPES_RESULTS", os.environ.get("CITYSCAPES_RESULTS", ""))
    from cityscapesscripts.evaluation import (
        evalInstanceLevelSemanticLabeling,
        evalPanopticSemanticLabeling,
        evalPixelLevelSemanticLabeling,
    )

    return evalPixelLevelSemanticLabeling, evalInstanceLevelSemanticLabeling, evalPanopticSemanticLabeling


def scene(index):
    """Sky, road and three things; in the prediction the road rises over their lower ends, and one is another thing."""
    true = np.full([120, 160], 2 * 1000, np.int32)
    true[60:], true[:20] = 0, 10 * 1000
    for number in range(3):
        left = 10 + 50 * number
        true[30:60, left : left + 30 + index] = (11 if number else 13) * 1000 + number + 1
    pred = true.copy()
    pred[55 - index : 60] = 0
    pred[pred == 11 * 1000 + 3] = 12 * 1000 + 1
    return true, pred


def write_truth(folder, name, panoptic):
    """The files of Cityscapes: label ids, and ids of instances from 0 without those of stuff."""
    classes, instances = np.array(STREET.eval_ids)[panoptic // 1000], panoptic % 1000
    ids = np.where(instances > 0, classes * 1000 + instances - 1, classes)
    for kind, values in (("labelIds", classes.astype(np.uint8)), ("instanceIds", ids.astype(np.uint16))):
        Image.fromarray(values).save(folder / f"{name}_gtFine_{kind}.png")
    Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], -1).astype(np.uint8)).save(folder / f"{name}_pan.png")
    segments = [
        {"id": i, "category_id": i // 1000 if i >= 1000 else i, "area": int((ids == i).sum()), "iscrowd": 0}
        for i in np.unique(ids).tolist()
    ]
    return {"image_id": name, "file_name": f"{name}_pan.png", "segments_info": segments}


def test_the_scripts_give_the_same_numbers(tmp_path, tools, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the instance script leaves its matches.json where it runs
    pixels, instances, panoptics = tools
    truth = tmp_path / "lindau"
    truth.mkdir()
    metrics = metric_set.MetricSet(["panoptic", "semantic", "instance"], STREET, detailed_ap=True)
    annotations, images = [], []
    with raw_predictions.RawPredictions(tmp_path / "vis", STREET, formats=["cityscapes"]) as writer:
        for index in range(2):
            name = f"lindau_{index:06d}_000019"
            true, pred = scene(index)
            scores = np.where(pred // 1000 == 12, np.float32(0.5), np.float32(0.75))
            maps = {
                "panoptic_pred": pred,
                "semantic_pred": pred // 1000,
                "semantic_scores": scores,
                "instance_scores": scores,
            }
            writer.write(f"lindau/{name}_leftImg8bit.png", maps)
            metrics.update_state(
                {"panoptic_raw": true[np.newaxis], "semantic_raw": true[np.newaxis] // 1000, "image_number": [index]},
                {key: value[np.newaxis] for key, value in maps.items()},
            )
            annotations.append(write_truth(truth, name, true))
            images.append({"id": name, "file_name": f"{name}.png"})
    values, vis = metrics.result(), tmp_path / "vis" / "cityscapes"

    pixels.args.quiet, pixels.args.JSONOutput, pixels.args.evalInstLevelScore = True, False, False
    pixels.args.predictionPath, pixels.args.predictionWalk = str(vis / "semantic"), None
    labels = sorted(str(path) for path in truth.glob("*_labelIds.png"))
    found = pixels.evaluateImgLists([pixels.getPrediction(pixels.args, path) for path in labels], labels, pixels.args)
    assert values["evaluation/iou/IoU"] == pytest.approx(found["averageScoreClasses"], rel=1e-12)
    assert 0.5 < values["evaluation/iou/IoU"] < 0.95

    instances.args.quiet, instances.args.JSONOutput = True, False
    instances.args.gtInstancesFile = str(tmp_path / "instances.json")
    instances.args.predictionPath, instances.args.predictionWalk = str(vis / "instance"), None
    ids = sorted(str(path) for path in truth.glob("*_instanceIds.png"))
    predictions = [instances.getPrediction(path, instances.args) for path in ids]
    found = instances.evaluateImgLists(predictions, ids, instances.args)["averages"]
    assert values["evaluation/ap/AP_Mask"] == pytest.approx(found["allAp"], rel=1e-9)
    assert values["evaluation/ap/AP_Mask_@IoU=0.5"] == pytest.approx(found["allAp50%"], rel=1e-9)
    assert 0.1 < values["evaluation/ap/AP_Mask"] < 0.95

    content = json.loads((vis / "panoptic.json").read_text())
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": content["categories"]}))
    found = panoptics.evaluatePanoptic(
        str(path), str(truth), str(vis / "panoptic.json"), str(vis / "panoptic"), str(tmp_path / "result.json")
    )
    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        assert values[f"evaluation/pq/PQ{suffix}"] == pytest.approx(found[group]["pq"], rel=1e-12)
        assert values[f"evaluation/pq/num_classes{suffix}"] == found[group]["n"]


def test_our_own_program_gives_the_same_numbers(tmp_path):
    metrics = metric_set.MetricSet(["panoptic", "step"], STREET)
    for side in (0, 1):
        folder = tmp_path / ("truth", "prediction")[side]
        with raw_predictions.RawPredictions(folder, STREET, formats=["coco", "step"]) as writer:
            for index in range(2):
                writer.write(f"{index:06d}.png", {"panoptic_pred": scene(index)[side]}, sequence="a")
    for true, pred in map(scene, range(2)):
        truth = {"panoptic_raw": true[np.newaxis], "sequence_id": ["a"]}
        metrics.update_state(truth, {"panoptic_pred": pred[np.newaxis]})
    metrics.flush()
    values = metrics.result()
    sides = [tmp_path / side / "coco_panoptic.json" for side in ("truth", "prediction")]
    found = evaluate.evaluate("panoptic", *sides)["summary"]
    assert found["evaluation/pq/PQ"] == pytest.approx(values["evaluation/pq/PQ"], rel=1e-12)
    sides = [tmp_path / side / "step" for side in ("truth", "prediction")]
    found = evaluate.evaluate("step", *sides, file_format="step", dataset="cityscapes_panoptic")["summary"]
    assert found["evaluation/step/STQ"] == pytest.approx(values["evaluation/step/STQ"], rel=1e-12)
    assert 0.4 < values["evaluation/step/STQ"] < 0.9
