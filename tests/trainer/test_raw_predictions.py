"""Raw label files, in every format."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import datasets
from trainer import raw_formats, raw_predictions

DATASET = dataclasses.replace(datasets.lookup("synthetic_panoptic"), label_divisor=100000, eval_ids=(10, 11, 12))
STREET = datasets.lookup("cityscapes_panoptic")
CAR, ROAD = 13, 0


def write(folder, panoptic, *, name="a/b.jpg", convert_ids=False, dataset=DATASET, sequence="", **options):
    panoptic = np.array([[panoptic]], np.int32)
    maps = {"panoptic_pred": panoptic, "semantic_pred": panoptic // dataset.label_divisor}
    with raw_predictions.RawPredictions(folder, dataset, convert_ids=convert_ids, **options) as writer:
        writer.write(name, maps, sequence=sequence)


def read(path):
    return np.array(Image.open(path))


def test_three_channels_and_sequence(tmp_path):
    write(tmp_path, 2 * DATASET.label_divisor + 300, panoptic_format="three_channel_png", sequence="0007")
    assert read(tmp_path / "raw_panoptic" / "0007" / "b.png")[0, 0].tolist() == [2, 1, 44]


def test_array(tmp_path):
    write(tmp_path, 2 * DATASET.label_divisor + 300, panoptic_format="two_channel_numpy_array")
    assert np.load(tmp_path / "raw_panoptic" / "b.npy")[0, 0].tolist() == [2, 300, 0]


def test_evaluation_ids(tmp_path):
    write(tmp_path, 1 * DATASET.label_divisor + 3, convert_ids=True)
    assert read(tmp_path / "raw_panoptic" / "b.png")[0, 0].tolist() == [11, 3, 0]
    assert read(tmp_path / "raw_semantic" / "b.png")[0, 0] == 11
    write(tmp_path, 255 * DATASET.label_divisor, convert_ids=True)  # not in the table
    assert read(tmp_path / "raw_semantic" / "b.png")[0, 0] == 0


def street():
    """A road with two cars, and void; scores 0.5 and 0.8 on the second car."""
    panoptic = np.full([3, 4], ROAD * 1000, np.int32)
    panoptic[0, :2], panoptic[1, :2], panoptic[2, 3] = CAR * 1000 + 1, CAR * 1000 + 300, 255 * 1000
    scores = np.ones([3, 4], np.float32)
    scores[1, 0], scores[1, 1] = 0.4, 0.6
    return {
        "panoptic_pred": panoptic,
        "semantic_pred": np.where(panoptic // 1000 == 255, 1, panoptic // 1000),
        "semantic_scores": scores,
        "instance_scores": np.where(scores < 1, np.float32(0.8), np.float32(1.0)),
    }


def test_coco(tmp_path):
    coco = datasets.lookup("coco_panoptic")
    label = np.array([[0, 256 + 1, 256 + 2, 100 * 256]], np.int32)  # void, two persons, stuff
    writer = raw_predictions.RawPredictions(tmp_path, coco, formats=["coco"])
    for _ in range(2):  # an evaluation later, nothing is left of the one before
        with writer:
            writer.write("val2017/000000000139.jpg", {"panoptic_pred": label})
    content = json.loads((tmp_path / "coco_panoptic.json").read_text())
    assert content["images"] == [{"id": 139, "file_name": "000000000139", "height": 1, "width": 4}]
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == 139 and annotation["file_name"] == "000000000139.png"
    found = [(segment["id"], segment["category_id"], segment["area"]) for segment in annotation["segments_info"]]
    assert found == [(1, coco.eval_ids[1], 1), (2, coco.eval_ids[1], 1), (3, coco.eval_ids[100], 1)]
    pixels = read(tmp_path / "coco_panoptic" / "000000000139.png")
    assert pixels[0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]
    assert len(content["categories"]) == 133


def test_cityscapes(tmp_path):
    with raw_predictions.RawPredictions(tmp_path, STREET, formats=["cityscapes"]) as writer:
        writer.write("lindau_000001_000019_leftImg8bit.png", street())
    folder, name = tmp_path / "cityscapes", "lindau_000001_000019"
    semantic = read(folder / "semantic" / f"{name}_labelIds.png")
    assert semantic[0].tolist() == [26, 26, 7, 7] and semantic[2, 3] == 8
    lines = [line.split() for line in (folder / "instance" / f"{name}.txt").read_text().splitlines()]
    assert [line[1:] for line in lines] == [["26", "1.000000"], ["26", "0.400000"]]  # 0.5 * 0.8
    mask = read(folder / "instance" / lines[1][0])
    assert mask.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    content = json.loads((folder / "panoptic.json").read_text())
    (annotation,) = content["annotations"]
    assert annotation["image_id"] == name
    assert [segment["category_id"] for segment in annotation["segments_info"]] == [7, 26, 26]
    assert read(folder / "panoptic" / annotation["file_name"])[2, 3].tolist() == [0, 0, 0]


def test_deeplab2_files_of_cityscapes(tmp_path):
    maps = {**street(), "depth_pred": np.full([3, 4], 2.5, np.float32)}
    maps["concat_next_panoptic_pred"] = maps["panoptic_pred"]
    with raw_predictions.RawPredictions(tmp_path, STREET, panoptic_format="three_channel_png") as writer:
        writer.write("x.png", maps, sequence="a/b")
    assert read(tmp_path / "raw_depth/a/b/x.png").tolist() == np.full([3, 4], 640).tolist()
    np.testing.assert_array_equal(
        read(tmp_path / "raw_panoptic/a/b/x_next.png"), read(tmp_path / "raw_panoptic/a/b/x.png")
    )
    text = tmp_path / "raw_instance/a/b/x.txt"
    mask, *_ = text.read_text().split()
    assert mask.endswith("instance_masks/a/b/x_class_26_instance_1.png")
    assert read(text.parent / mask).sum() == 2


def test_step_keeps_the_classes_of_training(tmp_path):
    kitti = datasets.lookup("kitti_step")
    write(tmp_path, 13 * 1000 + 300, dataset=kitti, name="000003.png", sequence="0002", formats=["step"])
    assert read(tmp_path / "step" / "0002" / "000003.png")[0, 0].tolist() == [13, 1, 44]


def test_dvps(tmp_path):
    """Names of the data sets stay; others get their sequence in front."""
    city = datasets.lookup("cityscapes_dvps")
    names = {"000001_000007_hanover_000000_000712_leftImg8bit.png": "000001_000007_hanover_000000_000712"}
    names["000012.png"] = "night-1_000012"
    with raw_predictions.RawPredictions(tmp_path, city, formats=["dvps"]) as writer:
        for name in names:
            depth = np.full([1, 1, 1], 2.5, np.float32)
            writer.write(
                name, {"panoptic_pred": np.array([[13 * 1000 + 300]]), "depth_pred": depth}, sequence="night_1"
            )
        with pytest.raises(ValueError, match="called <sequence>_<number of the frame>, found neither"):
            writer.write("dawn.png", {"panoptic_pred": np.array([[0]])}, sequence="night_1")
    assert sorted(path.name for path in (tmp_path / "dvps").iterdir()) == sorted(
        f"{stem}_{what}.png" for stem in names.values() for what in ("class", "instance", "depth")
    )
    found = [read(tmp_path / "dvps" / f"night-1_000012_{what}.png")[0, 0] for what in ("class", "instance", "depth")]
    assert found == [13, 300, 640]


def test_depth_beyond_the_format(tmp_path):
    assert raw_formats._depth(np.array([[0.0, 1000.0, -1.0]])).tolist() == [[0, 65535, 0]]


@pytest.mark.parametrize(
    "panoptic, options, message",
    [
        (256, {}, "two_channel_png holds instance ids up to 255, found 256"),
        (65536, {"panoptic_format": "three_channel_png"}, "up to 65535, found 65536"),
        (65536, {"formats": ["step"]}, "up to 65535, found 65536"),
        (256 * 100000, {}, "classes 0 to 255"),
        (0, {"panoptic_format": "two_chanel_png"}, "Did you mean: two_channel_png"),
        (0, {"formats": ["coca"]}, "Unknown raw_formats 'coca'. Did you mean: coco"),
        (0, {"formats": ["cityscapes"]}, "Cityscapes files need semantic_scores, which the model does not predict"),
        (0, {"sequence": "../.."}, "cannot be the name of a file"),
        (0, {"sequence": "/etc"}, "cannot be the name of a file"),
        (0, {"name": ""}, "cannot be the name of a file"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, panoptic, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, panoptic, **options)


def test_images_of_one_name(tmp_path):
    maps = {"panoptic_pred": np.zeros([1, 1], np.int32)}
    with raw_predictions.RawPredictions(tmp_path, DATASET, formats=["step"]) as writer:
        writer.write("a/1.png", maps)
        with pytest.raises(ValueError, match="Two images are called '1'"):
            writer.write("b/1.png", maps)


def test_nothing_is_listed_after_an_error(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        raw_predictions.RawPredictions(tmp_path, DATASET, formats=["coco"], convert_ids=False),
    ):
        raise KeyboardInterrupt
    assert not (tmp_path / "coco_panoptic.json").exists()
