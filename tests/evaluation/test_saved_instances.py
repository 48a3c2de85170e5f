"""Average precision of masks that overlap: by hand, and as pycocotools and cityscapesscripts have it."""

import contextlib
import importlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from evaluation import evaluate, mask_matching
from tests.evaluation import official

SIZE = (60, 70)
NAMES = {  # those of the summary, in the tool's order
    "AP_Mask": 0,
    "AP_Mask_@IoU=0.5": 1,
    "AP_Mask_@IoU=0.75": 2,
    "AP_Mask_small": 3,
    "AP_Mask_medium": 4,
    "AP_Mask_large": 5,
    "AR_Mask_maxdets=1": 6,
    "AR_Mask_maxdets=10": 7,
    "AR_Mask_maxdets=100": 8,
    "AR_Mask_small": 9,
    "AR_Mask_medium": 10,
    "AR_Mask_large": 11,
}


def box(rng, near=None):
    """A rectangle in the picture: top, left, bottom, right."""
    top, left, height, width = near or (*rng.integers(0, 40, 2), *rng.integers(4, 40, 2))
    if near:
        top, left, height, width = (max(0, each + rng.integers(-2, 3)) for each in near)
    return int(top), int(left), int(max(height, 2)), int(max(width, 2))


def mask_of(found):
    mask = np.zeros(SIZE, np.uint8)
    mask[found[0] : found[0] + found[2], found[1] : found[1] + found[3]] = 1
    return mask


def coco_files(folder, seed, *, num_images=25):
    """Polygons, crowds as run lengths, and results that overlap each other, with equal scores among them."""
    masks = pytest.importorskip("pycocotools.mask", reason="needs the official tool: pip install pycocotools")
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in rng.permutation(1000)[:num_images].tolist():
        images.append({"id": image_id, "height": SIZE[0], "width": SIZE[1]})
        for _ in range(rng.integers(0, 7)):
            found = box(rng)
            category, crowd = int(rng.choice([3, 18, 44])), bool(rng.uniform() < 0.2)
            top, left, height, width = found
            if crowd:
                runs, pixels = [], mask_of(found).reshape(-1, order="F")
                edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [0]])))
                runs = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
                code = {"size": list(SIZE), "counts": [int(each) for each in runs]}
            else:
                right, bottom = left + width - 0.5, top + height
                code = [[left, top, right, top, right, bottom, left, bottom]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": int(crowd),
                    "area": float(mask_of(found).sum() - 1),
                    "segmentation": code,
                }
            )
            for _ in range(rng.integers(0, 4)):
                pixels = mask_of(box(rng, near=found))
                encoded = masks.encode(np.asfortranarray(pixels))
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": int(rng.choice([category, category, 18])),
                        "score": float(rng.integers(1, 40) / 40 if rng.uniform() < 0.5 else rng.uniform()),
                        "segmentation": {"size": list(SIZE), "counts": encoded["counts"].decode()},
                    }
                )
    categories = [{"id": i, "name": f"thing {i}"} for i in (44, 3, 18, 90)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content))
    return paths


@pytest.mark.parametrize("seed", [0, 1])
def test_coco_results_as_pycocotools(seed, tmp_path):
    truth, results = coco_files(tmp_path, seed)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO(str(truth))
        tool = COCOeval(dataset, dataset.loadRes(str(results)), "segm")
        tool.evaluate()
        tool.accumulate()
        tool.summarize()
    found = evaluate.evaluate("instance", truth, results)
    assert found["num_images"] == 25 and 0.05 < tool.stats[0] < 0.9
    values = {name: found["summary"][f"evaluation/ap/{name}"] for name in NAMES}
    assert values == pytest.approx({name: tool.stats[place] for name, place in NAMES.items()}, abs=1e-12)
    per_class = tool.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))  # categories by id
    assert [row.ap for row in found["per_class"]] == pytest.approx(
        [value if value >= 0 else None for value in per_class], abs=1e-12
    )
    assert [row.name for row in found["per_class"]] == ["thing 3", "thing 18", "thing 44", "thing 90"]


def test_coco_ground_truth_against_itself(tmp_path):
    masks = pytest.importorskip("pycocotools.mask", reason="needs the official tool: pip install pycocotools")
    truth, _ = coco_files(tmp_path, 3)
    content = json.loads(truth.read_text())
    results = []
    for each in content["annotations"]:
        if not each["iscrowd"]:
            code = masks.merge(masks.frPyObjects(each["segmentation"], *SIZE))
            code = {"size": code["size"], "counts": code["counts"].decode()}
            results.append({**each, "segmentation": code, "score": 0.5})
    (tmp_path / "itself.json").write_text(json.dumps(results))
    assert evaluate.evaluate("instance", truth, tmp_path / "itself.json")["summary"]["evaluation/ap/AP_Mask"] == 1
    (tmp_path / "nothing.json").write_text("[]")
    assert evaluate.evaluate("instance", truth, tmp_path / "nothing.json")["summary"]["evaluation/ap/AP_Mask"] == 0


def test_the_best_mask_that_is_left():
    # Two detections of one mask: the better score takes it. At an IoU of 0.8 seven of ten thresholds (0.5 to 0.8) hold.
    ious = np.array([[0.8, 0.0], [0.9, 0.0], [0.0, 0.3]])
    areas = np.array([2000.0, 2000.0, 50.0])
    scores, crowds = np.array([0.5, 0.4, 0.9]), np.zeros(2, bool)
    order, hits, errors, targets = mask_matching.coco(ious, areas, scores, np.array([2000.0, 10.0]), crowds)
    hits, errors = hits.reshape(3, 4, 10), errors.reshape(3, 4, 10)
    assert order.tolist() == [2, 0, 1] and targets.tolist() == [2, 1, 1, 0]
    assert hits[:, 0].sum(axis=1).tolist() == [0, 7, 2]  # 0.85 and 0.9 are left for the second
    assert errors[:, 0].sum(axis=1).tolist() == [10, 3, 8]
    assert errors[0, 1].all() and not errors[0, 2].any()  # small, so no error among medium ones
    assert not hits[1, 1].any() and not errors[1, 1].any()  # matched to a mask of medium size


def cityscapes_files(folder, seed, *, num_images=4):
    """Instances with crowds and small ones; masks that overlap. Paths of ground truth and of predictions."""
    rng = np.random.default_rng(seed)
    truths, predictions = [], []
    (folder / "truth" / "town").mkdir(parents=True)
    (folder / "predicted" / "masks").mkdir(parents=True)
    for index in range(num_images):
        name = f"town_{index:06d}_000000"
        ids = np.full(SIZE, 7, np.int32)  # road
        found = []
        for number in range(6):
            near = box(rng)
            label = int(rng.choice([24, 26, 29, 30]))  # person, car; caravan and trailer are not scored
            value = label if rng.uniform() < 0.3 else label * 1000 + number
            ids[mask_of(near) > 0] = value
            found.append((label, near))
        ids[mask_of(box(rng)) > 0] = 0
        truths.append(folder / "truth" / "town" / f"{name}_gtFine_instanceIds.png")
        Image.fromarray(ids.astype(np.uint16)).save(truths[-1])
        lines = []
        for label, near in found:
            for _ in range(rng.integers(0, 3)):
                mask = folder / "predicted" / "masks" / f"{name}_{len(lines)}.png"
                Image.fromarray(mask_of(box(rng, near)) * 255).save(mask)
                label = label if label in (24, 26) else 26
                lines.append(f"masks/{mask.name} {label} {rng.integers(1, 20) / 20}\n")
        predictions.append(folder / "predicted" / f"{name}_pred.txt")
        predictions[-1].write_text("".join(lines))
    return truths, predictions


def test_cityscapes_as_cityscapesscripts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the script leaves its matches.json where it runs
    official.need("cityscapesscripts")
    truths, predictions = cityscapes_files(tmp_path, 0)
    tool = importlib.import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    args = tool.args
    args.quiet, args.JSONOutput, args.predictionPath = True, False, str(tmp_path / "predicted")
    args.gtInstancesFile, args.predictionWalk, args.instLabels = str(tmp_path / "instances.json"), None, []
    with contextlib.redirect_stdout(io.StringIO()):
        average = tool.evaluateImgLists([str(p) for p in predictions], [str(p) for p in truths], args)["averages"]
    found = evaluate.evaluate("instance", tmp_path / "truth", tmp_path / "predicted", file_format="cityscapes")
    assert 0.01 < average["allAp"] < 0.95
    assert found["summary"]["evaluation/ap/AP_Mask"] == pytest.approx(average["allAp"], abs=1e-12)
    for row in found["per_class"]:
        if row.ap is not None:
            assert row.ap == pytest.approx(average["classes"][row.name]["ap"], abs=1e-12)
            assert row.ap50 == pytest.approx(average["classes"][row.name]["ap50%"], abs=1e-12)


def test_cityscapes_by_hand(tmp_path):
    folder = tmp_path / "truth"
    folder.mkdir()
    ids = np.full(SIZE, 7, np.int32)
    ids[:20, :20] = 26000
    ids[30:35, :10] = 26001  # too small to be a target
    ids[40:, 40:] = 26  # a crowd
    Image.fromarray(ids.astype(np.uint16)).save(folder / "town_000000_000000_gtFine_instanceIds.png")
    masks = {"car": (0, 0, 20, 20), "again": (0, 0, 20, 19), "crowd": (42, 42, 15, 20), "false": (0, 40, 20, 20)}
    for name, found in masks.items():
        Image.fromarray(mask_of(found)).save(folder / f"{name}.png")
    text = folder / "town_000000_000000.txt"
    text.write_text("car.png 26 0.9\ncrowd.png 26 1.0\n")
    found = evaluate.evaluate("instance", folder, folder, file_format="cityscapes")
    assert found["summary"]["evaluation/ap/AP_Mask"] == 1 and found["summary"]["evaluation/ap/num_classes"] == 1
    # One error of a higher score than the hit: precision 0.5 at recall 1, and 0 at recall 0 after the point (0, 1).
    text.write_text("car.png 26 0.5\nfalse.png 26 0.9\n")
    halved = evaluate.evaluate("instance", folder, folder, file_format="cityscapes")["summary"]
    assert halved["evaluation/ap/AP_Mask"] == pytest.approx(0.25)
    text.write_text("car.png 26 0.5\nagain.png 26 0.9\n")  # the IoU of 0.95 is not above 0.95
    doubled = evaluate.evaluate("instance", folder, folder, file_format="cityscapes")["summary"]
    assert 0.9 < doubled["evaluation/ap/AP_Mask"] < 1
    for line, message in (
        ("car.png 26\n", "line 1: expected <mask file> <label id> <score>"),
        ("car.png 26 nan\n", "line 1: expected <mask file> <label id> <score>"),
        ("../car.png 26 1\n", "lies outside of"),
        ("none.png 26 1\n", "none.png: cannot be read as an image"),
    ):
        text.write_text(line)
        with pytest.raises(ValueError, match=message):
            evaluate.evaluate("instance", folder, folder, file_format="cityscapes")


def test_bad_coco_files(tmp_path):
    truth, results = coco_files(tmp_path, 0, num_images=2)
    content = json.loads(results.read_text())
    cases = (
        ({**content[0], "image_id": -1}, "image -1 is not in the ground truth"),
        ({**content[0], "category_id": 5}, "unknown category 5"),
        ({**content[0], "segmentation": {"size": [1, 1], "counts": "01"}}, "expected a mask of 60x70, got .1, 1."),
        ({**content[0], "score": "high"}, "expected a number as score, got 'high'"),
        ({"image_id": 1, "category_id": 3, "bbox": []}, "expected annotations with 'segmentation'"),
    )
    for each, message in cases:
        results.write_text(json.dumps([each]))
        with pytest.raises(ValueError, match=message):
            evaluate.evaluate("instance", truth, results)
    broken = json.loads(truth.read_text())
    del broken["images"][0]["height"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="expected images with the numbers id, height, width"):
        evaluate.evaluate("instance", tmp_path / "broken.json", results)
    with pytest.raises(ValueError, match="expected a list of COCO results"):
        evaluate.evaluate("instance", truth, truth)
    with pytest.raises(ValueError, match="The task instance has no use for categories"):
        evaluate.evaluate("instance", truth, results, categories=truth)
    with pytest.raises(ValueError, match="tell their classes: leave out the data set"):
        evaluate.evaluate("instance", truth, results, dataset="cityscapes_panoptic")
    with pytest.raises(ValueError, match="kitti_step is not scored by the rules of Cityscapes"):
        evaluate.evaluate("instance", tmp_path, tmp_path, file_format="cityscapes", dataset="kitti_step")
    with pytest.raises(ValueError, match="needs one of the formats coco, cityscapes"):
        evaluate.evaluate("instance", truth, results, file_format="step")
