"""The command line for pictures: what it finds, writes, skips and refuses."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from deeplab2_kmax.serving import images, predictor, video
from deeplab2_kmax.serving.classes import ClassTable
from deeplab2_kmax.serving.prediction import Prediction
from tests import shared
from trainer import predict

CLASSES = ClassTable("test", ("void", "car"), ((0, 0, 0), (0, 0, 142)), (1,), (0, 3), 0, 256)


class LeftHalf:
    """A predictor that sees a car in the left half of every picture."""

    classes = CLASSES

    def __call__(self, path):
        image = images.read(path, pixel_limit=5000)
        panoptic = np.zeros(image.shape[:2], np.int32)
        panoptic[:, : image.shape[1] // 2] = 257
        ones = np.ones(panoptic.shape, np.float32)
        return Prediction(image, panoptic, panoptic // 256, ones, ones, CLASSES)


def picture(path: pathlib.Path, size=(10, 20)) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return path


def test_folder_with_broken_and_huge_pictures(tmp_path, capsys):
    folder = tmp_path / "in"
    picture(folder / "000000000139.png")
    picture(folder / "city" / "frame.png", (10, 10))
    picture(folder / "huge.png", (100, 100))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "notes.txt").write_text("no picture")
    found = predict.find_pictures([str(folder)])
    assert list(found) == ["000000000139", "broken", "city/frame", "huge"]

    assert predict.predict(LeftHalf(), found, tmp_path / "out") == (2, 2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")]
    assert len(errors) == 2 and "broken.jpg" in errors[0] and "megapixels" in errors[1]

    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == [139, "city/frame"]
    first, second = content["annotations"]
    assert first["segments_info"][0]["category_id"] == 3
    assert (first["segments_info"][0]["area"], first["segments_info"][0]["bbox"]) == (100, [0, 0, 10, 10])
    png = np.asarray(Image.open(tmp_path / "out" / "panoptic" / second["file_name"]))
    np.testing.assert_array_equal(png[0, :, 0], [1] * 5 + [0] * 5)
    assert (tmp_path / "out" / "overlay" / "city" / "frame.png").is_file()
    assert content["categories"] == [{"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]}]


def test_a_run_that_is_stopped_lists_what_it_has_written(tmp_path):
    class Stopped(LeftHalf):
        def __call__(self, path):
            if path.stem == "b":
                raise KeyboardInterrupt
            return super().__call__(path)

    found = {name: picture(tmp_path / f"{name}.png") for name in "abc"}
    with pytest.raises(KeyboardInterrupt):
        predict.predict(Stopped(), found, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == ["a"]


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        picture(tmp_path / f"frame{number}.png")
    picture(tmp_path / "frame1.jpg")
    assert list(predict.find_pictures([str(tmp_path / "*.png")])) == ["frame1", "frame9", "frame10"]
    assert list(predict.find_pictures([str(tmp_path)])) == ["frame1", "frame1_png", "frame9", "frame10"]
    one = str(tmp_path / "frame9.png")
    assert list(predict.find_pictures([one, str(tmp_path / "frame9*"), one])) == ["frame9"]
    with pytest.raises(ValueError, match="there is no picture there"):
        predict.find_pictures([str(tmp_path / "*.bmp")])


def test_several_folders_keep_their_names(tmp_path):
    folders = [tmp_path / "a" / "left", tmp_path / "b" / "left", tmp_path / "right"]
    for folder in folders:
        picture(folder / "0.png")

    found = predict.find_pictures([str(folder) for folder in folders])

    assert list(found) == ["left/0", "left_2/0", "right/0"]
    assert [path.parent for path in found.values()] == folders


def test_inputs_are_never_overwritten(tmp_path):
    inside = picture(tmp_path / "overlay" / "a.png")
    before = inside.read_bytes()
    with pytest.raises(ValueError, match="is an input and would be overwritten"):
        predict.predict(LeftHalf(), predict.find_pictures([str(inside)]), tmp_path)
    assert inside.read_bytes() == before


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "--input is missing"),
        (["--input=x.png"], "--output is missing"),
        (["--input=x.png", "--output=out"], "either --model, or --config_file"),
        (["--input=x.png", "--output=out", "--config_file=y"], "--checkpoint_path is missing"),
        (["--input=nothing*.png", "--output=out", "--model=m"], "there is no picture there"),
        (["--model=m", "a.png"], "unexpected argument 'a.png'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, complaint, tmp_path):
    program = shared.ROOT / "trainer" / "predict.py"
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


class Model:
    """A VideoPredictor of a model of video."""

    pictures = None

    def __init__(self, *arguments, **options):
        self.arguments = arguments


class Pictures:
    """A Predictor."""

    def __init__(self, *arguments, **options):
        self.arguments = arguments


class PicturesAsVideo(Model):
    """One that knows pictures and makes tracks of them."""

    pictures = Pictures()


@pytest.mark.parametrize(
    "kind, arguments, expected",
    [
        (Model, [], (Model, True)),
        (Model, ["--novideo"], (Pictures, False)),
        (PicturesAsVideo, [], (Pictures, False)),
        (PicturesAsVideo, ["--video", "--fps=5", "--camera=1,1,1,1"], (PicturesAsVideo, True)),
        (PicturesAsVideo, ["--formats=step"], "--formats is for videos: add --video, or leave it out"),
        (Model, ["--novideo", "--fps=5"], "--fps is for videos"),
        (Model, ["--formats=step,vps"], "--formats: expected any of coco, step, dvps, got 'vps'"),
        (Model, ["--camera=1,2"], "expected a camera fx,fy,cx,cy in pixels, got '1,2'"),
    ],
)
def test_videos_by_the_model_or_by_flag(monkeypatch, kind, arguments, expected):
    monkeypatch.setattr(predictor, "Predictor", Pictures)
    monkeypatch.setattr(video, "VideoPredictor", kind)

    def run():
        predict._check_flags(["predict"])
        return predict._predictor()

    with flagsaver.flagsaver():
        flags.FLAGS(["predict", "--model=m", "--input=x.png", "--output=out", *arguments])
        if isinstance(expected, str):
            with pytest.raises(ValueError, match=re.escape(expected)):
                run()
        else:
            found, is_video = run()
            assert (type(found), is_video) == expected
