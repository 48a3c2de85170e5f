"""Predictions for videos: models of video with their state, exported or not, and tracks of models of pictures."""

import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import deeplab2_kmax as dk
from deeplab2_kmax import config as configs
from deeplab2_kmax.serving import classes, export, network, video
from tests import shared, small_video

SIZE = """
eval_dataset_options { crop_size: [33, 65] min_resize_value: [33, 65] max_resize_value: [33, 65] }
"""
DIVISOR = 1000


@pytest.fixture(scope="module")
def config():
    return configs.load(shared.ROOT / "configs/tiny/panoptic_deeplab_synthetic.textproto", [SIZE])


def in_this_process(client, folder, given):
    """Runs a client's program as `export` does, without the seconds that TensorFlow takes to load."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        np.save(f"{scratch}/given.npy", given)
        patch.setattr(sys, "argv", ["-c", str(folder), f"{scratch}/given.npy", f"{scratch}/result.npz"])
        exec(client, {})
        with np.load(f"{scratch}/result.npz") as found:
            return dict(found)


@pytest.fixture(scope="module")
def exports(config, tmp_path_factory):
    """Models that answer at once and a frame later, by `delayed`."""
    folder, found = tmp_path_factory.mktemp("exports"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_in_a_clean_process", in_this_process)
        for delayed in (False, True):
            model = small_video.build(label_divisor=DIVISOR, delayed=delayed)
            patch.setattr(network, "load_model", lambda *args, model=model, **options: model)
            found[delayed] = export.export(config, None, folder / str(delayed), random_weights=True)
    return found


def frames(count, size=(20, 50)):
    """Frames whose first columns are bright, as many as the frame's number, from 1."""
    found = np.zeros([count, *size, 3], np.uint8)
    for number in range(count):
        found[number, :, : number + 1] = 250
    return list(found)


def columns(prediction):
    """How many columns are a thing, and the thing's instance id."""
    row = prediction.panoptic[5]
    return int(np.sum(row >= DIVISOR)), int(row.max() % DIVISOR)


@pytest.mark.parametrize("delayed", [False, True])
def test_every_frame_gets_its_own_answer_in_order(exports, delayed):
    predictor = dk.VideoPredictor(exports[delayed].path)
    assert predictor.delay == int(delayed) and predictor.pictures is None
    for _ in range(2):  # a stream begins anew
        found = list(predictor.stream(frames(6)))
        assert [columns(one)[1] for one in found] == [1, 2, 3, 4, 5, 6]
        # The network's grid is 33 x 65, the frames are 20 x 50: borders move by a pixel at most.
        assert all(abs(columns(one)[0] - number) <= 1 for number, one in enumerate(found, start=1))
        assert [one.image[0, :, 0].argmin() for one in found] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose([one.depth.mean() for one in found], [1, 2, 3, 4, 5, 6])
        assert all(one.depth.shape == (20, 50) for one in found)
    assert list(predictor.stream([])) == []
    with pytest.raises(ValueError, match="one after the other.*got 'clip' alone"):
        next(predictor.stream("clip"))


@pytest.mark.parametrize("delayed", [False, True])
def test_a_video_goes_on_from_a_saved_state(exports, delayed, tmp_path):
    predictor, path = dk.VideoPredictor(exports[delayed].path), tmp_path / "state.npz"
    whole = [one.panoptic for one in predictor.stream(frames(5))]
    for frame in frames(5)[:3]:
        predictor(frame)
    predictor.save(path)
    sizes = [path.stat().st_size]
    other = dk.VideoPredictor(exports[delayed].path)
    other.load(path)
    rest = [one for one in [*(other(frame) for frame in frames(5)[3:]), other.finish()] if one is not None]
    np.testing.assert_array_equal([one.panoptic for one in rest], whole[-len(rest) :])
    assert len(rest) == (3 if delayed else 2)
    for frame in frames(40, size=(20, 50)):
        predictor(frame)
    predictor.save(path)
    assert path.stat().st_size < sizes[0] * 1.5  # it does not grow with the video


def test_what_an_export_of_a_video_model_says_and_does(exports):
    text = str(exports[True])
    assert "panoptic_pred: 100.00 % of the pixels are the same" in text
    assert "depth_pred: largest difference 0," in text
    loaded = tf.saved_model.load(str(exports[True].path))
    assert sorted(loaded.signatures) == ["finish", "serving_default", "start", "step"]
    assert sorted(loaded.signatures["start"]()) == ["state_00", "state_01", "state_02"]
    assert classes.read(exports[True].path)[1]["video_delay"] == 1
    assert "finish" not in tf.saved_model.load(str(exports[False].path)).signatures
    for one in exports.values():  # as a model of pictures
        assert columns(dk.Predictor(one.path)(frames(3)[2]))[1] == 1


@pytest.mark.slow
def test_an_export_of_a_video_model_runs_in_a_clean_process(config, monkeypatch, tmp_path):
    model = small_video.build(label_divisor=DIVISOR, delayed=True)
    monkeypatch.setattr(network, "load_model", lambda *args, **options: model)
    text = str(export.export(config, None, tmp_path / "model", random_weights=True))
    assert "panoptic_pred: 100.00 % of the pixels are the same" in text


def test_a_model_of_video_without_an_export(config, exports, monkeypatch):
    model = small_video.build(label_divisor=DIVISOR, delayed=True)
    monkeypatch.setattr(network, "load_model", lambda *args, **options: model)
    found = dk.VideoPredictor.from_config(config, "unused").stream(frames(3))
    expected = dk.VideoPredictor(exports[True].path).stream(frames(3))
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one.panoptic, other.panoptic)
    with pytest.raises(ValueError, match="Counting is a model of video, whose export takes frames one by one"):
        export.export(config, None, "unused", random_weights=True, batched=True)


class Pictures:
    """A predictor of pictures that numbers the bright parts of a row from the right."""

    classes = classes.ClassTable("test", ("stuff", "thing"), ((0, 0, 0), (9, 9, 9)), (1,), (0, 1), 255, DIVISOR)

    def __call__(self, image):
        row = image[0, :, 0] > 128
        number = np.cumsum((row & ~np.append(row[1:], False))[::-1])[::-1] * row
        panoptic = np.broadcast_to(np.where(row, DIVISOR + number, 0), image.shape[:2]).astype(np.int32)
        ones = np.ones(panoptic.shape, np.float32)
        return video.Prediction(image, panoptic, panoptic // DIVISOR, ones, ones, self.classes)


def test_models_of_pictures_get_tracks(tmp_path):
    """Two things move right; then a third comes in from the left, which takes no other's id."""
    predictor = video.VideoPredictor.__new__(video.VideoPredictor)
    predictor._set(video._Tracked(Pictures()), Pictures.classes, 10_000)
    film = np.zeros([4, 4, 40, 3], np.uint8)
    for number in range(4):
        film[number, :, 10 + number : 16 + number] = film[number, :, 20 + number : 26 + number] = 255
    film[3, :, :5] = 255
    found = [one.panoptic[0] % DIVISOR for one in predictor.stream(film[:3])]
    assert [(row[14], row[24]) for row in found] == [(2, 1)] * 3
    predictor.stream([])
    for frame in film[:3]:
        predictor(frame)
    predictor.save(tmp_path / "state.npz")
    predictor.reset()
    predictor.load(tmp_path / "state.npz")
    last = predictor(film[3]).panoptic[0] % DIVISOR
    assert (last[2], last[14], last[24]) == (3, 2, 1)
    assert predictor.finish() is None


def test_frames_and_states_that_do_not_fit(exports, tmp_path):
    predictor, path = dk.VideoPredictor(exports[True].path), tmp_path / "state.npz"
    predictor(frames(1)[0])
    with pytest.raises(ValueError, match="expected a frame of 50x20 as those before, found 50x21"):
        predictor(frames(1, size=(21, 50))[0])
    with pytest.raises(ValueError, match="the frame is too bright"):  # an assertion within the model
        predictor(np.full([20, 50, 3], 255, np.uint8))
    predictor(frames(2)[1])  # what did not fit has left no trace
    assert columns(predictor.finish())[1] == 2
    predictor.save(path)
    tracked = video.VideoPredictor.__new__(video.VideoPredictor)
    tracked._set(video._Tracked(Pictures()), Pictures.classes, 10_000)
    with pytest.raises(ValueError, match="the state is of a model of video, this is tracks by overlap"):
        tracked.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="expected a file that VideoPredictor.save wrote"):
        predictor.load(path)
    with pytest.raises(ValueError, match="leave the data set out"):
        dk.VideoPredictor(exports[True].path, dataset="coco_panoptic")
