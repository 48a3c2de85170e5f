"""WOD-PVPS -> records of one camera and of several."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import wod_pvps
from tests import converters, video_trees

CAMERAS, SIZES = video_trees.WOD_CAMERAS, video_trees.WOD_SIZES
label, depth = video_trees.wod_label, video_trees.wod_depth


def arguments(tmp_path, dataset, *more):
    return [
        f"--wod_root={tmp_path / 'raw'}",
        f"--output_dir={tmp_path / 'out'}",
        f"--cameras={','.join(CAMERAS)}",
        f"--dataset={dataset}",
        *more,
    ]


def raw(features, key, size):
    return np.frombuffer(features[key], "<i4").reshape(size).tolist()


def test_constants_are_those_of_the_descriptors():
    for name in wod_pvps.DATASETS:
        row = datasets.lookup(name)
        assert (row.num_classes, row.ignore_label) == (wod_pvps.NUM_CLASSES, wod_pvps.IGNORE_LABEL)
        assert row.label_divisor == wod_pvps.LABEL_DIVISOR and row.has_depth == ("depth" in name)
        assert row.camera_names == (wod_pvps.CAMERAS if name.endswith("multicam") else ())


def test_one_camera(tmp_path):
    video_trees.wod_pvps(tmp_path / "raw")
    assert converters.run(wod_pvps, *arguments(tmp_path, "wod_pvps_image_panoptic_seg")) == 0
    samples = converters.read(tmp_path / "out", "val", video=True, num_cameras=True)
    assert [s["sequence_id"].numpy() for s in samples[::3]] == [
        b"s1_front",
        b"s1_panorama",
        b"s2_front",
        b"s2_panorama",
    ]
    assert [s["frame_id"].numpy() for s in samples[:3]] == [b"1000", b"1001", b"1002"]
    assert samples[1]["image_name"].numpy() == b"s1_front_1001.png"
    assert samples[5]["label"][..., 0].numpy().tolist() == label("panorama", 2)
    assert samples[5]["num_cameras"][..., 0].numpy().tolist() == video_trees.WOD_NUM_CAMERAS
    assert samples[1]["num_cameras"].numpy().tolist() == np.ones((2, 3, 1)).tolist()  # no panorama
    features = converters.features(tmp_path / "out", "val")[0]
    assert not [key for key in features if "next" in key or "prev" in key or "depth" in key or "front" in key]


def test_one_camera_with_depth_and_the_next_frame(tmp_path):
    video_trees.wod_pvps(tmp_path / "raw")
    assert converters.run(wod_pvps, *arguments(tmp_path, "wod_pvps_depth_video_panoptic_seg")) == 0
    samples = converters.read(tmp_path / "out", "val", video=True, next_frame=True, depth=True)
    assert [s["frame_id"].numpy() for s in samples] == [b"1000", b"1001"] * 4  # the last has no next one
    assert samples[1]["next_label"][..., 0].numpy().tolist() == label("front", 2)
    assert int(samples[1]["next_image"][0, 0, 0]) == 20
    assert samples[3]["depth"][..., 0].numpy().tolist() == depth("panorama", 1).tolist()


def test_several_cameras(tmp_path):
    video_trees.wod_pvps(tmp_path / "raw")
    assert converters.run(wod_pvps, *arguments(tmp_path, "wod_pvps_depth_video_panoptic_seg_multicam")) == 0
    found = converters.features(tmp_path / "out", "val")
    assert [(f["video/sequence_id"], f["video/frame_id"]) for f in found] == [
        (b"s1", b"1000"),
        (b"s1", b"1001"),
        (b"s2", b"1000"),
        (b"s2", b"1001"),
    ]
    features = found[1]
    assert set(features) == {
        *("image/filename", "image/format", "image/channels", "video/sequence_id", "video/frame_id"),
        *(f"{kind}/format" for kind in ("image/segmentation/class", "next_image/segmentation/class", "image/depth")),
        *("image/num_cameras/format", "image/num_cameras/encoded/panorama"),
        *(
            f"{key}/{camera}"
            for camera in CAMERAS
            for key in (
                "image/encoded",
                "next_image/encoded",
                "image/height",
                "image/width",
                "image/segmentation/class/encoded",
                "next_image/segmentation/class/encoded",
                "image/depth/encoded",
            )
        ),
    }
    for camera, size in SIZES.items():
        assert (features[f"image/height/{camera}"], features[f"image/width/{camera}"]) == size
        assert raw(features, f"image/segmentation/class/encoded/{camera}", size) == label(camera, 1)
        assert raw(features, f"next_image/segmentation/class/encoded/{camera}", size) == label(camera, 2)
        assert raw(features, f"image/depth/encoded/{camera}", size) == depth(camera, 1).tolist()
    assert features["image/filename"] == b"s1_1001"
    for k, camera in enumerate(CAMERAS):
        sample = converters.read(
            tmp_path / "out",
            "val",
            video=True,
            next_frame=True,
            depth=True,
            num_cameras=True,
            cameras=CAMERAS,
            camera=k,
        )[1]
        expected = video_trees.WOD_NUM_CAMERAS if camera == "panorama" else np.ones(SIZES[camera]).tolist()
        assert sample["num_cameras"][..., 0].numpy().tolist() == expected
        assert sample["image"].shape == (*SIZES[camera], 3) and int(sample["next_image"][0, 0, 0]) == 20
        assert sample["next_label"][..., 0].numpy().tolist() == label(camera, 2)
        assert sample["depth"][..., 0].numpy().tolist() == depth(camera, 1).tolist()


def test_several_cameras_without_video(tmp_path):
    video_trees.wod_pvps(tmp_path / "raw", split="test", labels=False)
    assert converters.run(wod_pvps, *arguments(tmp_path, "wod_pvps_image_panoptic_seg_multicam")) == 0
    found = converters.features(tmp_path / "out", "test")
    assert len(found) == 6
    assert {key for key in found[0] if "encoded" in key} == {f"image/encoded/{camera}" for camera in CAMERAS}


@pytest.mark.parametrize("dataset", ["wod_pvps_image_panoptic_seg", "wod_pvps_image_panoptic_seg_multicam"])
def test_another_dataset_makes_the_records_anew(tmp_path, dataset):
    video_trees.wod_pvps(tmp_path / "raw", cameras=["front"])
    one = arguments(tmp_path, "wod_pvps_image_panoptic_seg", "--cameras=front")
    assert converters.run(wod_pvps, *one) == 0
    before = converters.digests(tmp_path / "out")
    assert converters.run(wod_pvps, *arguments(tmp_path, dataset, "--cameras=front")) == 0
    assert (converters.digests(tmp_path / "out") == before) == (not dataset.endswith("multicam"))


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(*more, dataset="wod_pvps_depth_video_panoptic_seg_multicam"):
        assert converters.run(wod_pvps, *arguments(tmp_path, dataset, *more)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    root = tmp_path / "raw"
    root.mkdir()
    assert "holds no splits" in error()
    assert "--cameras: 'rear' is none of side_left" in error("--cameras=front,rear")
    video_trees.wod_pvps(root, num_frames=1)
    assert "no frame has a next one" in error()
    video_trees.wod_pvps(root, sequences=["s1"])
    assert "no frame" not in error("--cameras=front_left")
    video_trees.wod_pvps(root)
    (root / "depth" / "val" / "s1" / "front" / "1001.png").unlink()
    assert "1001.png is missing" in error()
    (root / "panoptic_maps" / "val" / "s1" / "front" / "1001.png").unlink()
    assert "1001.png is missing" in error()
    video_trees.wod_pvps(root)
    converters.save(root / "images" / "val" / "s1" / "front" / "1001.png", np.zeros((3, 3, 3)))
    assert "s1_1000, camera front: next_image/encoded is 3x3 but the image is 2x3" in error()
    video_trees.wod_pvps(root)
    counts = root / "num_cameras" / "val" / "s1" / "panorama" / "1001.png"
    converters.save(counts, np.zeros((1, 4)))
    assert "1001.png: expected 1 to 5 cameras, found 0 to 0" in error()
    counts.unlink()
    assert "1001.png is missing" in error()
    video_trees.wod_pvps(root)
    (root / "images" / "val" / "s2" / "panorama" / "1001.png").unlink()
    assert "s2: the cameras front and panorama do not both have the frame 1001" in error()
