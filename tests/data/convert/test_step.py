"""KITTI-STEP and MOTChallenge-STEP -> records."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import kitti_step, motchallenge_step, step
from tests import converters, video_trees


def arguments(tmp_path, *more):
    return [f"--step_root={tmp_path / 'step'}", f"--output_dir={tmp_path / 'out'}", *more]


@pytest.mark.parametrize("module, name", [(kitti_step, "kitti_step"), (motchallenge_step, "motchallenge_step")])
def test_constants_are_those_of_the_descriptor(module, name):
    row = datasets.lookup(name)
    assert (row.num_classes, row.ignore_label) == (module.NUM_CLASSES, step.IGNORE_LABEL)
    assert row.label_divisor == step.LABEL_DIVISOR


def test_labels_and_names(tmp_path):
    video_trees.step(tmp_path / "step", "train", {"0000": 2, "0001": 1})
    (tmp_path / "step" / "panoptic_maps" / "train" / "0000" / "000001.png").unlink()
    assert converters.run(kitti_step, *arguments(tmp_path)) == 0
    options = {"video": True, "label": False}
    samples = converters.read(tmp_path / "out", "train", **options)
    found = [(s["sequence_id"].numpy(), s["frame_id"].numpy(), s["image_name"].numpy()) for s in samples]
    assert found == [
        (b"0000", b"000000", b"000000.png"),
        (b"0000", b"000001", b"000001.png"),
        (b"0001", b"000000", b"000000.png"),
    ]
    labels = [
        converters.features(tmp_path / "out", "train")[k].get("image/segmentation/class/encoded") for k in range(3)
    ]
    assert labels[1] is None  # a map that is missing
    for label in (labels[0], labels[2]):
        assert np.frombuffer(label, "<i4").reshape(2, 3).tolist() == video_trees.STEP_LABEL


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "images" / "test" / "0000"
    folder.mkdir(parents=True)
    for number in (10, 8, 9):
        (folder / f"{number}.png").touch()
    ((*_, last),) = step.sequences(tmp_path, "test", use_two_frames=True)
    assert last.frame_id == "10" and last.before.image == str(folder / "9.png")


def test_even_shards():
    assert step.even_sizes(20, 10) == [2] * 10
    assert step.even_sizes(11, 10) == [2, 2, 2, 2, 2, 1]  # fewer rather than empty ones
    assert step.even_sizes(3, 10) == [1, 1, 1]


def test_two_frames(tmp_path):
    video_trees.step(tmp_path / "step", "train", {"0000": 3, "0001": 2}, first=4)
    video_trees.step(tmp_path / "step", "val", {"0002": 3, "0006": 2})
    video_trees.step(tmp_path / "step", "test", {"0000": 2}, label=None)
    assert converters.run(kitti_step, *arguments(tmp_path, "--use_two_frames")) == 0
    out = tmp_path / "out"
    samples = converters.read(out, "train", video=True, prev_frame=True)
    assert [(int(s["prev_image"][0, 0, 0]), int(s["image"][0, 0, 0])) for s in samples] == [
        (4, 4), (4, 5), (5, 6), (4, 4), (4, 5),
    ]  # fmt: skip
    assert all(s["prev_label"][..., 0].numpy().tolist() == video_trees.STEP_LABEL for s in samples)
    assert [path.name for path in sorted(out.glob("val-*"))] == [
        "val-00000-of-00002.tfrecord",
        "val-00001-of-00002.tfrecord",
    ]  # one per sequence; training and other splits are even
    assert [len(shard["offsets"]) for shard in converters.manifest(out, "val")["shards"]] == [3, 2]
    assert [len(shard["offsets"]) for shard in converters.manifest(out, "train")["shards"]] == [1] * 5
    assert len(converters.read(out, "test", label=False, video=True, prev_frame=True)) == 2
    # Without it the same files give other records.
    assert converters.run(kitti_step, *arguments(tmp_path)) == 0
    assert "prev_image/encoded" not in converters.features(out, "val")[0]


def test_motchallenge(tmp_path):
    """JPEG images that are numbered from 1, and 7 classes."""
    label = [[3, 4, 255]] * 2, [[0, 7, 0]] * 2
    video_trees.step(tmp_path / "step", "train", {"0002": 2}, ending=".jpg", first=1, label=label)
    assert converters.run(motchallenge_step, *arguments(tmp_path, "--use_two_frames")) == 0
    batches = converters.batches(tmp_path / "out", "train", "motchallenge_step", (3, 5))
    assert [b["frame_id"][0].numpy() for b in batches] == [b"000001", b"000002"]
    assert batches[0]["panoptic_raw"][0].numpy().tolist() == [[3000, 4007, 255000]] * 2


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(module=kitti_step, *more):
        assert converters.run(module, *arguments(tmp_path, *more)) == 2
        lines = capsys.readouterr().err.splitlines()
        return lines[-1]

    root = tmp_path / "step"
    root.mkdir()
    assert "images holds no splits" in error()
    video_trees.step(root, "train", {"0000": 3}, label=None)
    assert "no folder" in error() and "panoptic_maps" in error()
    video_trees.step(root, "train", {"0000": 3})
    (root / "images" / "train" / "0000" / "000001.png").unlink()
    assert "000002.png: the frame before it, 1, is missing" in error(kitti_step, "--use_two_frames")
    assert converters.run(kitti_step, *arguments(tmp_path)) == 0
    assert "000000.png: expected classes 0 to 6 and 255 for void, found 11" in error(motchallenge_step)
    bad = video_trees.channels(video_trees.STEP_CLASSES, np.array(video_trees.STEP_INSTANCES) + 900)
    converters.save(root / "panoptic_maps" / "train" / "0000" / "000000.png", bad)
    assert "expected instances 0 to 999, below the label divisor, found 1200" in error()
    video_trees.step(root, "train", {"0000": 1, "0002": 1})
    assert "sequence 0002 of the split train belongs to val" in error()
    converters.save(root / "images" / "train" / "0000" / "first.png", np.zeros((2, 3, 3)))
    assert "first.png: expected a frame number" in error()
