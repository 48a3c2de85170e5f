"""CamVid -> records: classes, stand-ins for instances, frames and their neighbours."""

import numpy as np

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import camvid
from tests import converters, image_trees, shared

CAMVID = datasets.lookup("camvid")

# What CAMVID_IDS become.
EXPECTED = [[8001, 8001, 0, 8000], [8001, 8001, 0, 0], [10001, 0, 255000, 255000]]


def test_constants_are_those_of_the_descriptor():
    assert CAMVID.thing_ids == camvid.THINGS and CAMVID.ignore_label == camvid.IGNORE_LABEL
    assert CAMVID.label_divisor == camvid.LABEL_DIVISOR and CAMVID.num_classes == camvid.UNLABELLED


def test_parts_of_things_are_instances(tmp_path):
    image_trees.camvid(tmp_path)
    path = str(tmp_path / "labels" / "0001TP_000010.png")
    assert camvid.panoptic_label(path, min_pixels=1)[0].tolist() == [8001, 8001, 0, 8002]
    label = camvid.panoptic_label(path, min_pixels=2)
    assert label[:2].tolist() == EXPECTED[:2]  # the speck is crowd
    assert label[2].tolist() == [10000, 0, 255000, 255000]


def test_records_of_videos(tmp_path):
    image_trees.camvid(tmp_path / "raw")
    arguments = [f"--camvid_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}", "--min_pixels=1"]
    assert converters.run(camvid, *arguments, "--neighbors") == 0
    samples = converters.read(tmp_path / "out", "val", video=True, prev_frame=True, next_frame=True)
    videos = [(s["sequence_id"].numpy(), s["frame_id"].numpy(), s["image_name"].numpy()) for s in samples]
    assert videos == [
        (b"0001TP", b"000010", b"0001TP_000010.png"),
        (b"0001TP", b"000020", b"0001TP_000020.png"),
        (b"Seq05", b"000005", b"Seq05_000005.png"),
    ]
    value = [[int(s[f"{key}image"][0, 0, 0]) for key in ("prev_", "", "next_")] for s in samples]
    assert value == [[0, 0, 10], [0, 10, 10], [20, 20, 20]]  # within a video; the ends repeat
    np.testing.assert_array_equal(samples[0]["next_label"], samples[1]["label"])
    np.testing.assert_array_equal(samples[2]["prev_label"], samples[2]["label"])


def test_the_other_layout(tmp_path):
    image_trees.camvid(tmp_path / "raw", names=["a_1"], images="train", labels="trainannot")
    arguments = [f"--camvid_root={tmp_path / 'raw'}", "--split=train", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(camvid, *arguments) == 0
    assert len(converters.read(tmp_path / "out", "train", video=True)) == 1


def test_bad_input_is_one_line(tmp_path, capsys):
    arguments = [f"--camvid_root={tmp_path}", f"--output_dir={tmp_path / 'out'}"]

    def error():
        assert converters.run(camvid, *arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("camvid: ")
        return lines[-1]

    assert "holds neither" in error()
    image_trees.camvid(tmp_path)
    converters.save(tmp_path / "labels" / "Seq05_000005.png", np.full((3, 4), 12))
    assert "Seq05_000005.png: expected classes 0 to 11, found 12" in error()
    (tmp_path / "labels" / "Seq05_000005.png").unlink()
    assert "Seq05_000005.png is missing" in error()


def test_real_frames(tmp_path):
    sample = shared.path("data", "camvid_0016E5")
    # Three of the frames: links keep the test fast.
    for name in ("0016E5_07959", "0016E5_08059", "0016E5_08159"):
        for folder in ("images", "labels"):
            (tmp_path / "raw" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "raw" / folder / f"{name}.png").symlink_to(sample / folder / f"{name}.png")
    assert converters.run(camvid, f"--camvid_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}") == 0
    batches = converters.batches(tmp_path / "out", "val", "camvid", (361, 481))
    assert [b["sequence_id"][0].numpy() for b in batches] == [b"0016E5"] * 3
    for batch, name in zip(batches, ("0016E5_07959", "0016E5_08059", "0016E5_08159")):
        ids = camvid.files.read_map(sample / "labels" / f"{name}.png", channels=1)
        expected = np.where(ids == 11, 255, ids)
        np.testing.assert_array_equal(batch["semantic_raw"][0], expected)
        label = batch["panoptic_raw"][0].numpy()
        assert len(np.unique(label[label % 1000 > 0])) >= 3
