"""What the official tools say about label maps of ours, from the files that they read.

Every tool is a package of its own, of which only pycocotools is one that the tests install; `need` skips a test where
it is absent. The seconds that functions return are those of the tool's counting: what it spends on reading files is
measured with the same calls and taken off.
"""

import contextlib
import importlib
import importlib.metadata
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from evaluation import segments


class Package(NamedTuple):
    """Where a tool comes from."""

    distribution: str  # the name on the package index
    module: str


PACKAGES = {
    "panopticapi": Package("panopticapi-lite", "panopticapi.evaluation"),
    "cityscapesscripts": Package("cityscapesscripts", "cityscapesscripts.evaluation.evalPanopticSemanticLabeling"),
    "pycocotools": Package("pycocotools", "pycocotools.cocoeval"),
    "trackeval": Package("trackeval", "trackeval"),
}


class Data(NamedTuple):
    """Which labels maps of the tests have."""

    labels: segments.Labels
    thing_ids: Sequence[int]
    cityscapes_ids: Mapping[int, int]  # class -> id of a label of Cityscapes

    @property
    def void(self) -> int:
        return self.labels.ignore_label * self.labels.label_divisor

    def arguments(self) -> tuple:
        """Those of a metric of panoptic labels."""
        return (*self.labels, self.thing_ids)


def version(tool: str) -> str:
    """Its distribution and version; empty where it is absent."""
    package = PACKAGES[tool]
    try:
        importlib.import_module(package.module)
        return f"{package.distribution} {importlib.metadata.version(package.distribution)}"
    except ImportError:  # PackageNotFoundError is one
        return ""


def need(tool: str) -> None:
    """Skips the calling test where the tool is absent."""
    if not version(tool):
        pytest.skip(f"needs the official tool: pip install {PACKAGES[tool].distribution}")


def _timed(call: Callable, *arguments) -> tuple[object, float]:
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        result = call(*arguments)
    return result, time.perf_counter() - begin


def write_panoptic(maps: Sequence[np.ndarray], folder: Path, data: Data, *, is_truth: bool) -> list[dict]:
    """Writes COCO panoptic PNGs and returns their annotations; category ids are classes + 1."""
    folder.mkdir(parents=True)
    annotations = []
    for index, labels in enumerate(maps):
        present, numbers = np.unique(labels, return_inverse=True)
        classes, instances = present // data.labels.label_divisor, present % data.labels.label_divisor
        ids = np.where(classes == data.labels.ignore_label, 0, 1 + np.arange(len(present)))
        numbers = ids[numbers].reshape(labels.shape)
        picture = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{index}.png")
        segments_info = [
            {
                "id": int(number),
                "category_id": int(class_id) + 1,
                "iscrowd": int(is_truth and class_id in data.thing_ids and instance == 0),
                "area": int((numbers == number).sum()),
            }
            for number, class_id, instance in zip(ids, classes, instances)
            if number
        ]
        annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": segments_info})
    return annotations


def panoptic_counts(tool: str, images: Sequence, folder: Path, data: Data) -> tuple[dict[str, np.ndarray], float]:
    """`tp, fp, fn, iou` [C] of pairs of label maps by panopticapi or cityscapesscripts; seconds."""
    module = importlib.import_module(PACKAGES[tool].module)
    true = write_panoptic([each[0] for each in images], folder / "true", data, is_truth=True)
    pred = write_panoptic([each[1] for each in images], folder / "pred", data, is_truth=False)
    classes = range(data.labels.num_classes)
    categories = {i + 1: {"id": i + 1, "isthing": int(i in data.thing_ids)} for i in classes}

    def read() -> None:
        for side in ("true", "pred"):
            for each in true:
                np.array(Image.open(folder / side / each["file_name"]), dtype=np.uint32)

    _, reading = _timed(read)
    stat, seconds = _timed(
        module.pq_compute_single_core, 0, list(zip(true, pred)), str(folder / "true"), str(folder / "pred"), categories
    )
    counts = {key: np.array([getattr(stat[i + 1], key) for i in classes]) for key in ("tp", "fp", "fn", "iou")}
    return counts, max(seconds - reading, 0.0)


def detections_of(y_pred, semantic, instance, data: Data):
    """Label, mask and score of every predicted thing, in the order of first appearance."""
    labels, first = np.unique(y_pred, return_index=True)
    for label in labels[np.argsort(first)]:
        if label // data.labels.label_divisor in data.thing_ids:
            mask = y_pred == label
            score = np.float32(semantic[mask].mean(dtype=np.float64))
            yield label, mask, score * np.float32(instance[mask].mean(dtype=np.float64))


def coco_ap(images: Sequence, data: Data) -> tuple[dict[str, np.ndarray], float]:
    """`stats, precision, recall` of pycocotools; seconds include the coding of masks. Images hold four maps each."""
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    divisor = data.labels.label_divisor

    def encoded(mask: np.ndarray) -> dict:
        return masks.encode(np.asfortranarray(mask.astype(np.uint8)))

    def evaluate() -> COCOeval:
        truth: dict = {"images": [], "annotations": [], "categories": [{"id": c + 1} for c in data.thing_ids]}
        predicted = []
        for index, (y_true, *prediction) in enumerate(images, start=1):
            truth["images"].append({"id": index, "height": y_true.shape[0], "width": y_true.shape[1]})
            for label in np.unique(y_true):
                if label // divisor in data.thing_ids:
                    mask = y_true == label
                    annotation = {"id": len(truth["annotations"]) + 1, "image_id": index, "area": int(mask.sum())}
                    annotation.update(category_id=int(label // divisor) + 1, iscrowd=int(label % divisor == 0))
                    truth["annotations"].append({**annotation, "segmentation": encoded(mask)})
            for label, mask, score in detections_of(*prediction, data):
                found = {"image_id": index, "category_id": int(label // divisor) + 1, "score": float(score)}
                predicted.append({**found, "segmentation": encoded(mask)})
        dataset = COCO()
        dataset.dataset = truth
        dataset.createIndex()
        tool = COCOeval(dataset, dataset.loadRes(predicted), "segm")
        tool.evaluate()
        tool.accumulate()
        tool.summarize()
        return tool

    tool, seconds = _timed(evaluate)
    found = {name: tool.eval[name][..., -1] for name in ("precision", "recall")}
    return {"stats": tool.stats, **found}, seconds


def _cityscapes_ids(labels: np.ndarray, data: Data) -> np.ndarray:
    """Panoptic labels as `instanceIds` of Cityscapes; void is 0."""
    raw = np.zeros(labels.shape, np.int32)
    for class_id, raw_id in data.cityscapes_ids.items():
        own = labels // data.labels.label_divisor == class_id
        instances = labels[own] % data.labels.label_divisor
        is_instance = (class_id in data.thing_ids) & (instances > 0)
        raw[own] = np.where(is_instance, raw_id * 1000 + instances - 1, raw_id)
    return raw


def cityscapes_ap(images: Sequence, folder: Path, data: Data) -> tuple[np.ndarray, float]:
    """AP per thing and IoU of cityscapesscripts, [things, 10]; seconds. Images hold four maps each."""
    tool = importlib.import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    folder.mkdir(parents=True, exist_ok=True)
    truth, predicted, masks = [], [], []
    for index, (y_true, *prediction) in enumerate(images):
        truth.append(str(folder / f"gt_{index}.png"))
        Image.fromarray(_cityscapes_ids(y_true, data).astype(np.uint16)).save(truth[-1])
        lines = []
        for label, mask, score in detections_of(*prediction, data):
            masks.append(folder / f"mask_{index}_{label}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(masks[-1])
            raw_id = data.cityscapes_ids[label // data.labels.label_divisor]
            lines.append(f"{masks[-1].name} {raw_id} {float(score)!r}\n")
        predicted.append(str(folder / f"pred_{index}.txt"))
        (folder / f"pred_{index}.txt").write_text("".join(lines))
    args = tool.args
    args.quiet, args.JSONOutput, args.predictionPath = True, False, str(folder)
    args.gtInstancesFile = str(folder / "instances.json")
    args.instLabels = []
    tool.setInstanceLabels(args)

    def evaluate() -> np.ndarray:
        matches = tool.matchGtWithPreds(predicted, truth, tool.getGtInstances(truth, args), args)
        return tool.evaluateMatches(json.loads(json.dumps(matches)), args)

    def read() -> None:
        for path in (*truth, *truth, *masks):  # the tool reads the ground truth twice
            np.array(Image.open(path))

    _, reading = _timed(read)
    values, seconds = _timed(evaluate)
    names = {label.id: label.name for label in tool.labels}
    order = [args.instLabels.index(names[data.cityscapes_ids[i]]) for i in data.thing_ids]
    # The first of the distance settings has no limit.
    return np.asarray(values)[0][order], max(seconds - reading, 0.0)


def cityscapes_iou(images: Sequence, folder: Path, data: Data) -> tuple[dict[str, np.ndarray], float]:
    """`iou` and, of things, `iiou` per class [C] of cityscapesscripts; seconds. Predictions are those of classes."""
    tool = importlib.import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    folder.mkdir(parents=True, exist_ok=True)
    truth, predicted = [], []
    for index, (y_true, y_pred, *_) in enumerate(images):
        raw = _cityscapes_ids(y_true, data)
        truth.append(str(folder / f"{index}_labelIds.png"))
        predicted.append(str(folder / f"{index}_pred.png"))
        Image.fromarray(raw.astype(np.uint16)).save(folder / f"{index}_instanceIds.png")
        Image.fromarray(np.where(raw >= 1000, raw // 1000, raw).astype(np.uint8)).save(truth[-1])
        raw = _cityscapes_ids(y_pred, data)
        Image.fromarray(np.where(raw >= 1000, raw // 1000, raw).astype(np.uint8)).save(predicted[-1])
    args = tool.args
    args.quiet, args.JSONOutput = True, False

    def read() -> None:
        for path in (*truth, *predicted, *[each.replace("labelIds", "instanceIds") for each in truth]):
            np.array(Image.open(path))

    _, reading = _timed(read)
    found, seconds = _timed(tool.evaluateImgLists, predicted, truth, args)
    names = {label.id: label.name for label in tool.labels}
    ordered = [names[data.cityscapes_ids[i]] for i in range(data.labels.num_classes)]
    values = {
        "iou": np.array([found["classScores"][name] for name in ordered]),
        "iiou": np.array([found["classInstScores"][name] for name in ordered]),
    }
    return values, max(seconds - reading, 0.0)


def mots(videos: Sequence, folder: Path, data: Data) -> tuple[dict[int, dict[str, float]], float]:
    """What TrackEval gives for classes 0 (car) and 1 (pedestrian) of pairs of videos [2, T, H, W]; seconds."""
    import trackeval
    from pycocotools import mask as masks

    divisor = data.labels.label_divisor

    def lines(frames: np.ndarray, is_truth: bool):
        """`time id class height width run-length code`; id and class 10000 and 10 for what is ignored."""
        for at, labels in enumerate(frames):
            found = {}
            tracked = np.isin(labels // divisor, list(data.thing_ids))
            if is_truth:
                found["10000 10"] = (labels // divisor == data.labels.ignore_label) | (
                    tracked & (labels % divisor == 0)
                )
            for label in np.unique(labels[tracked]):
                if label % divisor or not is_truth:
                    class_id = label // divisor + 1
                    found[f"{class_id * 1000 + label % divisor} {class_id}"] = labels == label
            for head, mask in found.items():
                if mask.any():
                    code = masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
                    yield f"{at} {head} {mask.shape[0]} {mask.shape[1]} {code}"

    names = {f"{index:04d}": len(maps[0]) for index, maps in enumerate(videos)}
    folders = folder / "truth" / "label_02", folder / "found" / "ours" / "data"
    for side, parent in enumerate(folders):
        parent.mkdir(parents=True)
        for name, maps in zip(names, videos):
            (parent / f"{name}.txt").write_text("\n".join(lines(maps[side], side == 0)) + "\n")
    options = {"GT_FOLDER": str(folder / "truth"), "TRACKERS_FOLDER": str(folder / "found"), "SEQ_INFO": names}

    def evaluate() -> dict[int, dict[str, float]]:
        dataset = trackeval.datasets.KittiMOTS({**options, "PRINT_CONFIG": False})
        clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False})
        found = {}
        for class_id, name in enumerate(("car", "pedestrian")):
            sequences = {}
            for sequence in names:
                raw = dataset.get_raw_seq_data("ours", sequence)
                sequences[sequence] = clear.eval_sequence(dataset.get_preprocessed_seq_data(raw, name))
            found[class_id] = clear.combine_sequences(sequences)
        return found

    return _timed(evaluate)
