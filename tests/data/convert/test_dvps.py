"""Cityscapes-DVPS and SemKITTI-DVPS -> records: frames with their next one, labels in three encodings, depth."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import cityscapes_dvps, dvps, semkitti_dvps
from tests import converters, video_trees


def arguments(tmp_path, *more):
    return [f"--dvps_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}", *more]


@pytest.mark.parametrize("module, name", [(cityscapes_dvps, "cityscapes_dvps"), (semkitti_dvps, "semkitti_dvps")])
def test_constants_are_those_of_the_descriptor(module, name):
    row = datasets.lookup(name)
    assert (row.num_classes, row.ignore_label) == (module.NUM_CLASSES, module.IGNORE_LABEL)
    assert row.label_divisor == module.LABEL_DIVISOR and row.has_depth and row.empty_shards


def test_cityscapes_frames_that_have_a_next_one(tmp_path):
    video_trees.cityscapes_dvps(tmp_path / "raw", "train")
    assert converters.run(cityscapes_dvps, *arguments(tmp_path, "--num_shards=5")) == 0
    out = tmp_path / "out"
    assert [shard["records"] for shard in converters.manifest(out, "train")["shards"]] == [1, 1, 0, 0, 0]
    samples = converters.read(out, "train", video=True, next_frame=True, depth=True)
    assert [(s["sequence_id"].numpy(), s["frame_id"].numpy()) for s in samples] == [
        (b"000000", b"000000"),
        (b"000000", b"000001"),
    ]
    assert samples[0]["image_name"].numpy() == b"000000_000000_munster_000168_000019_leftImg8bit.png"
    for t, sample in enumerate(samples):
        assert (int(sample["image"][0, 0, 0]), int(sample["next_image"][0, 0, 0])) == (t, t + 1)
        assert sample["label"][..., 0].numpy().tolist() == video_trees.cityscapes_dvps_label(t)
        assert sample["next_label"][..., 0].numpy().tolist() == video_trees.cityscapes_dvps_label(t + 1)
        assert sample["depth"][..., 0].numpy().tolist() == video_trees.DEPTH
    assert "prev_image/encoded" not in converters.features(out, "train")[0]


def test_as_many_shards_as_deeplab2_has(tmp_path):
    video_trees.cityscapes_dvps(tmp_path / "raw", "val")
    assert converters.run(cityscapes_dvps, *arguments(tmp_path)) == 0
    assert len(list((tmp_path / "out").glob("val-*-of-01000.tfrecord"))) == 1000
    assert len(converters.batches(tmp_path / "out", "val", "cityscapes_dvps", (3, 5))) == 2


def test_the_split_test_has_images_alone(tmp_path):
    video_trees.cityscapes_dvps(tmp_path / "raw", "test", labels=False)
    assert converters.run(cityscapes_dvps, *arguments(tmp_path, "--num_shards=1")) == 0
    (first, _) = converters.features(tmp_path / "out", "test")
    assert {key for key in first if "encoded" in key} == {"image/encoded", "next_image/encoded"}


@pytest.mark.parametrize("published", [True, False])
def test_semkitti_as_published_and_merged(tmp_path, published):
    video_trees.semkitti_dvps(tmp_path / "raw", "val", published=published)
    assert converters.run(semkitti_dvps, *arguments(tmp_path, "--num_shards=2", "--label_format=zlib")) == 0
    samples = converters.read(tmp_path / "out", "val", video=True, next_frame=True, depth=True)
    assert [(s["sequence_id"].numpy(), s["frame_id"].numpy()) for s in samples] == [
        (b"000000", b"000000"),
        (b"000003", b"000009"),
    ]
    for sample in samples:
        assert sample["label"][..., 0].numpy().tolist() == video_trees.SEMKITTI_LABEL
        assert sample["next_label"][..., 0].numpy().tolist() == video_trees.SEMKITTI_LABEL
        assert sample["depth"][..., 0].numpy().tolist() == video_trees.DEPTH


def test_a_changed_instance_file_makes_the_records_anew(tmp_path):
    video_trees.semkitti_dvps(tmp_path / "raw", "val")
    assert converters.run(semkitti_dvps, *arguments(tmp_path, "--num_shards=1")) == 0
    before = converters.digests(tmp_path / "out")
    converters.save16(tmp_path / "raw" / "val" / "000000_000001_gtFine_instance.png", np.full((2, 3), 9))
    assert converters.run(semkitti_dvps, *arguments(tmp_path, "--num_shards=1")) == 0
    assert converters.digests(tmp_path / "out") != before


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(module=cityscapes_dvps, *more):
        assert converters.run(module, *arguments(tmp_path, "--num_shards=1", *more)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    root = tmp_path / "raw"
    root.mkdir()
    assert "holds none of train, val, test" in error()
    video_trees.cityscapes_dvps(root, "train", [(0, 0), (0, 2), (1, 1)])
    assert "holds no two frames whose numbers follow each other" in error()
    video_trees.cityscapes_dvps(root, "train")
    start = root / "train" / "000000_000001_munster_000168_000019"
    start.with_name(start.name + "_depth.png").unlink()
    assert f"there is no {start.name}_depth.png" in error()
    start.with_name(start.name + "_gtFine_instanceTrainIds.png").unlink()
    assert f"there is no {start.name}_gtFine_instanceTrainIds.png" in error()
    assert "_gtFine_class.png with" in error(semkitti_dvps)
    video_trees.cityscapes_dvps(root, "train")
    converters.save16(start.with_name(start.name + "_gtFine_instanceTrainIds.png"), [[19000] * 3] * 2)
    assert "expected classes 0 to 18 and 32 for void, found 19" in error()
    video_trees.cityscapes_dvps(root, "train")
    assert "mode RGB" in error(cityscapes_dvps, "--panoptic_divisor=1000")  # three channels are expected then
    converters.save(root / "train" / "a_leftImg8bit.png", np.zeros((2, 3, 3)))
    assert "expected <sequence>_<frame>*_leftImg8bit.png" in error()


def test_frames_may_have_gaps(tmp_path):
    video_trees.cityscapes_dvps(tmp_path, "train", [(0, 5), (0, 6), (0, 8), (0, 9), (1, 10)])
    assert [frame.frame_id for frame in dvps.sequences(tmp_path, "train")] == ["000005", "000008"]
