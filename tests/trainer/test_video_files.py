"""Files of predicted videos, read back by those who are to read them."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import datasets
from deeplab2_kmax.serving import images
from deeplab2_kmax.serving.classes import ClassTable
from deeplab2_kmax.serving.point_cloud import Camera
from deeplab2_kmax.serving.prediction import Prediction
from evaluation.saved import dvps, sides
from trainer import animations, video_files

CLASSES = ClassTable("test", ("road", "car"), ((90, 90, 90), (0, 0, 142)), (1,), (0, 3), 255, 1000)


class Late:
    """A predictor that answers a frame later: a car in the left half, its number the red of the first pixel."""

    classes = CLASSES

    def __init__(self, depth=True):
        self.last, self.depth = None, depth

    def reset(self):
        self.last = None

    def __call__(self, path):
        last, self.last = self.last, images.read(path)
        return self.answer(last)

    def finish(self):
        last, self.last = self.last, None
        return self.answer(last)

    def answer(self, image):
        if image is None:
            return None
        panoptic, red = np.zeros(image.shape[:2], np.int32), int(image[0, 0, 0])
        panoptic[:, : image.shape[1] // 2] = 1000 + red
        ones = np.ones(panoptic.shape, np.float32)
        depth = ones * red / 2 if self.depth else None
        return Prediction(image, panoptic, panoptic // 1000, ones, ones, CLASSES, depth, of_video=True)


def clip(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full([24, 40, 3], number, np.uint8)).save(folder / f"im{number}.png")
    return {f"im{number}": folder / f"im{number}.png" for number in numbers}


def run(tmp_path, frames, predictor=None, **options):
    notes, done = [], []
    files = video_files.VideoFiles(tmp_path / "out", video_files.Options(**options))
    with files:
        videos = video_files.split(frames)
        files.check(videos)
        counts = video_files.predict(
            predictor or Late(), videos, files, say=notes.append, done=lambda name, text: done.append(name)
        )
    return counts, notes, done


def test_every_frame_under_its_own_name_in_order(tmp_path):
    frames = {f"a/{name}": path for name, path in clip(tmp_path / "a", (2, 9, 11)).items()}
    frames |= {f"b_c/{name}": path for name, path in clip(tmp_path / "b_c", (40, 41)).items()}
    (tmp_path / "a" / "im9.png").write_bytes(b"broken")
    counts, notes, done = run(tmp_path, frames, camera=Camera(10, 10, 20, 12))
    assert counts == (4, 1) and len(notes) == 1 and "im9.png" in notes[0]
    assert done == ["a/im2", "a/im11", "b_c/im40", "b_c/im41"]

    out = tmp_path / "out"
    assert np.asarray(Image.open(out / "step" / "b_c" / "im41.png"))[0, 0].tolist() == [1, 0, 41]
    assert np.asarray(Image.open(out / "step" / "a" / "im11.png"))[0, [0, 39]].tolist() == [[1, 0, 11], [0, 0, 0]]
    assert sorted(path.name for path in (out / "dvps").glob("a_*")) == sorted(
        f"a_{number}_im{name}_{what}.png" for number, name in (("000000", 2), ("000002", 11))
        for what in ("class", "instance", "depth")
    )  # fmt: skip
    assert np.asarray(Image.open(out / "dvps" / "b-c_000001_im41_depth.png"))[0, 0] == 41 / 2 * 256
    assert np.asarray(Image.open(out / "depth" / "a" / "im2.png")).shape == (24, 40, 3)
    assert (out / "point_cloud" / "b_c" / "im40.ply").stat().st_size > 24 * 40 * 15
    content = json.loads((out / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == done
    assert [one["image_id"] for one in content["annotations"]] == done
    assert content["annotations"][0]["file_name"] == "a/im2.png" and content["categories"][1]["id"] == 3
    with Image.open(out / "a.gif") as moving:
        assert moving.n_frames == 2
    # A track has one colour in all frames, and two tracks have two.
    colors = [tuple(np.asarray(Image.open(out / "overlay" / f"{name}.png"))[3, 3] // 16) for name in done]
    assert len(set(colors)) > 1
    assert len(list(out.rglob(".*"))) == 0


def test_dvps_files_are_what_evaluation_reads(tmp_path):
    dataset = datasets.lookup("cityscapes_dvps")
    run(tmp_path, clip(tmp_path / "in", (3, 4)), formats=["dvps"], animation=None)
    context = sides.Context(dataset, is_truth=False, kinds=frozenset({sides.PANOPTIC, sides.DEPTH}))
    side = dvps.side(tmp_path / "out" / "dvps", context)
    assert list(side.sources) == ["video/000000", "video/000001"]
    maps = side.read(side.sources["video/000001"])
    assert maps[sides.PANOPTIC][0, 0] == dataset.label_divisor + 4 and maps[sides.DEPTH][0, 0] == 2.0
    assert not (tmp_path / "out" / "step").exists() and not (tmp_path / "out" / "panoptic.json").exists()


def test_a_run_that_is_stopped_lists_what_it_has_written(tmp_path):
    class Stopped(Late):
        def __call__(self, path):
            if path.stem == "im7":
                raise KeyboardInterrupt
            return super().__call__(path)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, clip(tmp_path / "in", (3, 5, 7, 9)), Stopped())
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [one["image_id"] for one in content["annotations"]] == ["im3"]
    with Image.open(tmp_path / "out" / "video.gif") as moving:
        assert moving.n_frames == 1


def test_a_track_keeps_its_colour():
    def color(ids):
        panoptic = np.repeat(np.array([ids]), 8, axis=0).repeat(8, axis=1)
        image = np.zeros([*panoptic.shape, 3], np.uint8)
        one = Prediction(image, panoptic, panoptic // 1000, image[..., 0], image[..., 0], CLASSES, of_video=True)
        return one.draw(alpha=1, names=False)[3, 3].tolist()

    assert color([1007, 0]) == color([1007, 1001]) == color([1007, 1009])
    assert color([1007, 0]) != color([1008, 0])


def test_what_cannot_be_written(tmp_path):
    frames = clip(tmp_path / "in", (3, 4))
    with pytest.raises(ValueError, match="a camera is for point clouds, but this model tells no depth"):
        run(tmp_path, frames, Late(depth=False), camera=Camera(1, 1, 0, 0))
    with pytest.raises(ValueError, match="is an input and could be overwritten"):
        run(tmp_path, clip(tmp_path / "out" / "overlay", (1,)))
    with pytest.raises(ValueError, match="two of the videos 'a_b', 'a-b' have one name"):
        run(tmp_path, {"a_b/0": frames["im3"], "a-b/0": frames["im4"]})
    run(tmp_path / "plain", frames, Late(depth=False))
    assert not (tmp_path / "plain" / "out" / "dvps").exists(), "by default only with depth"


@pytest.mark.parametrize("name", ["gif", "apng"])
def test_moving_pictures_hold_every_frame(tmp_path, name):
    path = tmp_path / f"moving{animations.FORMATS[name].ending}"
    writer = animations.FORMATS[name](path, 8)
    # Pillow interlaces GIFs from 16 pixels a side on.
    shown = [np.full([18, 29, 3], 20 * number, np.uint8) for number in range(5)]
    shown[3][2:4, 1:5] = [200, 3, 90]
    for picture in shown:
        writer.add(picture)
    writer.close()
    with Image.open(path) as moving:
        assert moving.n_frames == 5 and moving.info["loop"] == 0
        for number, picture in enumerate(shown):
            moving.seek(number)
            np.testing.assert_array_equal(np.asarray(moving.convert("RGB")), picture)
            assert moving.info["duration"] == (120 if name == "gif" else 125)
    empty = animations.FORMATS[name](tmp_path / "empty", 8)
    empty.close()
    assert not (tmp_path / "empty").exists()


def test_mp4_where_there_is_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    writer = animations.Mp4(tmp_path / "moving.mp4", 8)
    for number in range(6):
        writer.add(np.full([33, 64, 3], [40 * number, 0, 90], np.uint8))
    writer.close()
    video = cv2.VideoCapture(str(tmp_path / "moving.mp4"))
    found = [frame for read, frame in iter(video.read, (False, None)) if read]
    assert len(found) == 6 and found[0].shape == (32, 64, 3)
    assert [round(float(frame[..., 2].mean()) / 40) for frame in found] == [0, 1, 2, 3, 4, 5]


def test_shrinking():
    assert animations.shrink(np.zeros([100, 400, 3], np.uint8), 200).shape == (50, 200, 3)
    assert animations.shrink(np.zeros([100, 40, 3], np.uint8), 200).shape == (100, 40, 3)
