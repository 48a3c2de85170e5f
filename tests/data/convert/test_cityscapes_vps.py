"""Cityscapes-VPS -> records: annotated frames of videos, instances that last."""

import json

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import cityscapes_vps, files
from tests import converters, shared, video_trees

VPS = datasets.lookup("cityscapes_vps")
CATEGORIES = video_trees.VPS_CATEGORIES
ROAD, PERSON, CAR = video_trees.ROAD, video_trees.PERSON, video_trees.CAR


def arguments(tmp_path, *more):
    return [f"--vps_root={tmp_path / 'vps'}", f"--output_dir={tmp_path / 'out'}", *more]


def test_constants_are_those_of_the_descriptor():
    assert (VPS.ignore_label, VPS.label_divisor) == (cityscapes_vps.IGNORE_LABEL, cityscapes_vps.LABEL_DIVISOR)


@pytest.mark.parametrize("categories", [CATEGORIES, None])
def test_instances_last_through_a_video(tmp_path, categories):
    video_trees.cityscapes_vps(tmp_path / "vps", categories=categories)
    assert converters.run(cityscapes_vps, *arguments(tmp_path, "--neighbors")) == 0
    samples = converters.read(tmp_path / "out", "val", video=True, prev_frame=True, next_frame=True)
    assert [(s["sequence_id"].numpy(), s["frame_id"].numpy()) for s in samples] == [
        (b"0005", b"0000"),
        (b"0005", b"0005"),
        (b"0010", b"0000"),
    ]
    assert samples[1]["image_name"].numpy() == f"{video_trees.vps_key('0005', 5)}_newImg8bit.png".encode()
    labels = [s["label"][..., 0].numpy().tolist() for s in samples]
    assert labels == [[row] for clip in video_trees.VPS_LABELS.values() for row in clip]
    assert samples[0]["next_label"][..., 0].numpy().tolist() == labels[1]
    assert samples[1]["prev_label"][..., 0].numpy().tolist() == labels[0]
    assert samples[2]["prev_label"][..., 0].numpy().tolist() == labels[2]  # not the other video's
    assert [int(s["next_image"][0, 0, 0]) for s in samples] == [10, 10, 0]


def test_categories_go_by_name(tmp_path):
    # Names with other separators, and ids in another order.
    names = {row["name"]: row["id"] for row in CATEGORIES}
    swapped = [{"id": CAR, "name": "person"}, {"id": PERSON, "name": "car"}, {"id": ROAD, "name": "traffic_light"}]
    video_trees.cityscapes_vps(tmp_path / "vps", categories=swapped)
    assert converters.run(cityscapes_vps, *arguments(tmp_path)) == 0
    label = converters.read(tmp_path / "out", "val")[2]["label"][..., 0].numpy()
    assert label.tolist() == [[11001, 11001, 13001, names["traffic light"] * 1000]]


def test_other_places_crowd_and_a_test_split(tmp_path):
    root = tmp_path / "vps"
    video_trees.cityscapes_vps(root, split="train", kind="im", iscrowd=1, category_id=CAR)
    converters.save(root / "test" / "img_all" / f"{video_trees.vps_key('0400', 1)}_newImg8bit.png", np.zeros((1, 4, 3)))
    assert converters.run(cityscapes_vps, *arguments(tmp_path)) == 0
    assert set(np.unique(converters.read(tmp_path / "out", "train")[0]["label"])) == {255000}
    assert len(converters.read(tmp_path / "out", "test", label=False)) == 1
    more = [
        "--split=mine",
        f"--image_dir={root / 'train' / 'img'}",
        f"--panoptic_json={root / 'panoptic_im_train_city_vps.json'}",
        f"--panoptic_dir={root / 'train' / 'panoptic_video'}",
        f"--output_dir={tmp_path / 'out'}",
        "--notreat_crowd_as_ignore",
    ]
    assert converters.run(cityscapes_vps, *more) == 0
    assert set(np.unique(converters.read(tmp_path / "out", "mine")[0]["label"])) == {CAR * 1000, 255000}


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(*more):
        assert converters.run(cityscapes_vps, *arguments(tmp_path, *more)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    root = tmp_path / "vps"
    root.mkdir()
    assert "holds no images of train, val or test" in error()
    video_trees.cityscapes_vps(root, area=9)
    assert "pixels, but the JSON says 9" in error()
    video_trees.cityscapes_vps(root, categories=[{"id": 1, "name": "sofa"}])
    assert "'sofa' is none of Cityscapes' 19 classes" in error()
    video_trees.cityscapes_vps(root, categories=CATEGORIES[:12])
    assert "unknown category 13" in error()
    video_trees.cityscapes_vps(root)
    (root / "val" / "img" / f"{video_trees.vps_key('0010', 0)}_newImg8bit.png").unlink()
    assert (
        f"1 annotated frames are not in {root / 'val' / 'img'}, the first is {video_trees.vps_key('0010', 0)}"
        in error()
    )
    (root / "panoptic_gt_val_city_vps.json").unlink()
    assert "name the file by --panoptic_json" in error()
    converters.save(root / "val" / "img" / "b.png", np.zeros((1, 4, 3)))
    video_trees.cityscapes_vps(root)
    assert "expected names like" in error()


def test_a_real_annotation(tmp_path):
    """Cityscapes' format is the same; the expected ids come with the sample."""
    sample = shared.path("data", "reference_testdata", "data")
    name = "0001_0000_dummy_000000_000000"
    content = json.loads((sample / "gtFine" / "cityscapes_panoptic_dummy_trainId.json").read_text())
    (annotation,) = content["annotations"]
    png = sample / "gtFine" / "cityscapes_panoptic_dummy_trainId" / annotation["file_name"]
    for path, target in (
        (tmp_path / "vps" / "val" / "img" / f"{name}_newImg8bit.png", sample / "leftImg8bit"),
        (tmp_path / "vps" / "val" / "panoptic_video" / f"{name}_final_mask.png", png),
    ):
        path.parent.mkdir(parents=True)
        path.symlink_to(target / "dummy_000000_000000_leftImg8bit.png" if target.is_dir() else target)
    content = {"annotations": [{**annotation, "file_name": f"{name}_final_mask.png"}]}
    (tmp_path / "vps" / "panoptic_im_val_city_vps.json").write_text(json.dumps(content))
    assert converters.run(cityscapes_vps, *arguments(tmp_path, "--notreat_crowd_as_ignore")) == 0
    (batch,) = converters.batches(tmp_path / "out", "val", "cityscapes_vps", (801, 801))
    expected = files.read_map(sample / "dummy_gt_for_vps.png", channels=3).astype(np.int32) @ [1, 256, 65536]
    np.testing.assert_array_equal(batch["panoptic_raw"][0], expected)
