"""Segments, drawings and COCO files of a prediction that is small enough to count by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.serving.classes import ClassTable
from deeplab2_kmax.serving.prediction import Prediction

CLASSES = ClassTable(
    dataset="test",
    names=("road", "car", "sky"),
    colors=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
    thing_ids=(1,),
    category_ids=(7, 26, 23),
    ignore_label=255,
    label_divisor=1000,
)
VOID = 255000


@pytest.fixture
def prediction() -> Prediction:
    panoptic = np.array([[0, 0, VOID, 1001], [0, 1002, 1002, 1001]], np.int32)
    semantic_scores = np.array([[0.5, 0.7, 0.9, 1.0], [0.6, 0.4, 0.4, 0.5]], np.float32)
    return Prediction(
        image=np.full((2, 4, 3), 100, np.uint8),
        panoptic=panoptic,
        semantic=panoptic // 1000,
        semantic_scores=semantic_scores,
        instance_scores=np.full((2, 4), 0.5, np.float32),
        classes=CLASSES,
    )


def test_segments(prediction):
    expected = [
        {"id": 0, "class_id": 0, "category_id": 7, "name": "road", "isthing": False, "area": 3, "bbox": [0, 0, 2, 2]},
        {"id": 1001, "class_id": 1, "category_id": 26, "name": "car", "isthing": True, "area": 2, "bbox": [3, 0, 1, 2]},
        {"id": 1002, "class_id": 1, "category_id": 26, "name": "car", "isthing": True, "area": 2, "bbox": [1, 1, 2, 1]},
    ]
    scores = [segment.pop("score") for segment in map(dict, prediction.segments)]
    assert [{k: v for k, v in s.items() if k != "score"} for s in prediction.segments] == expected
    np.testing.assert_allclose(scores, [0.6 * 0.5, 0.75 * 0.5, 0.4 * 0.5], rtol=1e-6)


def test_coco_files(prediction, tmp_path):
    paths = prediction.save(tmp_path / "out", "street")
    np.testing.assert_array_equal(np.asarray(Image.open(paths["panoptic"]))[..., 0], [[1, 1, 0, 2], [1, 3, 3, 2]])
    content = json.loads(paths["json"].read_text())
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == "street"
    assert annotation["file_name"] == "street_panoptic.png"
    assert [(s["id"], s["category_id"], s["area"]) for s in annotation["segments_info"]] == [
        (1, 7, 3),
        (2, 26, 2),
        (3, 26, 2),
    ]
    assert [c["id"] for c in content["categories"]] == [7, 26, 23]
    assert content["images"] == [{"id": "street", "file_name": "street", "height": 2, "width": 4}]
    assert Image.open(paths["overlay"]).size == (4, 2)


def test_an_empty_prediction(prediction, tmp_path):
    empty = Prediction(**{**prediction.__dict__, "panoptic": np.full((2, 4), VOID, np.int32)})
    assert empty.segments == []
    assert not empty.coco_ids().any()
    np.testing.assert_array_equal(empty.draw(), empty.image)


def test_void_that_is_class_zero_is_not_drawn(prediction):
    table = ClassTable(**{**CLASSES.__dict__, "ignore_label": 0, "names": ("void", "car", "sky")})
    panoptic = np.where(prediction.panoptic == VOID, 2000, prediction.panoptic)
    given = Prediction(**{**prediction.__dict__, "classes": table, "panoptic": panoptic})
    assert [s["name"] for s in given.segments] == ["car", "car", "sky"]
    np.testing.assert_array_equal(given.draw(names=False)[0, 0], (100, 100, 100))
