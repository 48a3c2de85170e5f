"""Pseudo-labels: records of frames whose labels can be told by hand."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab2_kmax import config as configs
from deeplab2_kmax.data import datasets, example, pipeline, records
from deeplab2_kmax.data.convert import writer
from deeplab2_kmax.serving import classes, pseudo_labels
from deeplab2_kmax.serving.prediction import Prediction
from tests import shared

TABLE = classes.ClassTable.of(datasets.lookup("synthetic_dvps"))
DATA = {"DATA": "nowhere"}


def predict(image: np.ndarray) -> Prediction:
    """Red is road, green is the first car, everything else is void."""
    red, green = image[..., 0] > 128, image[..., 1] > 128
    panoptic = np.where(red, 0, np.where(green, 6001, TABLE.void_id)).astype(np.int32)
    ones = np.ones(panoptic.shape, np.float32)
    return Prediction(image, panoptic, panoptic // 1000, ones, ones, TABLE)


def picture(*columns: str, rotated: bool = False) -> bytes:
    """A PNG with 33 rows whose columns, each 11 wide, have these colours."""
    image = Image.new("RGB", (11 * len(columns), 33))
    for number, color in enumerate(columns):
        image.paste(color, (11 * number, 0, 11 * number + 11, 33))
    exif = Image.Exif()
    if rotated:
        exif[0x0112] = 6  # Orientation: a quarter turn
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


@pytest.fixture
def clip(tmp_path):
    """Two pictures of a clip, the second of which EXIF wants turned."""
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "clip_000001.png").write_bytes(picture("red", "lime", "blue"))
    (folder / "clip_000002.png").write_bytes(picture("lime", "lime", "red", rotated=True))
    return folder


def write(frames, folder, **options):
    labeller = pseudo_labels.Labeller(predict, source="a test", **options)
    manifest = writer.write_split(folder, "train", frames, labeller.encode, num_shards=1, source={}, quiet=True)
    return labeller, manifest


def read(folder):
    raw = list(tf.data.TFRecordDataset(sorted(map(str, folder.glob("train-*.tfrecord")))).as_numpy_iterator())
    return raw, [records.parse_example(one, video=True, label_divisor=1000) for one in raw]


def test_pictures_become_records_with_what_was_predicted(clip, tmp_path):
    frames = pseudo_labels.find_frames([f"{clip}/*.png"])
    labeller, manifest = write(frames, tmp_path / "out")
    raw, parsed = read(tmp_path / "out")
    expected = [[0] * 11 + [6001] * 11 + [255000] * 11, [6001] * 22 + [0] * 11]
    for one, row in zip(parsed, expected):
        np.testing.assert_array_equal(tf.squeeze(one["label"]), np.tile(row, (33, 1)))
    assert [one["image_name"].numpy() for one in parsed] == [b"clip_000001.png", b"clip_000002.png"]
    assert [one["sequence_id"].numpy() for one in parsed] == [b"clip"] * 2
    assert [example.parse(one)[example.FRAME_ID] for one in raw] == [b"000001", b"000002"]
    assert {example.parse(one)[example.SOURCE] for one in raw} == {b"a test"}
    assert manifest["records"] == 2
    # Of the first frame a third is void; it has two segments, as the second.
    assert labeller.summary() == "2 labelled now, 2.0 segments each, 16.7 % void"


def test_records_keep_their_names_and_lose_their_labels(tmp_path):
    content = example.encode_example(
        picture("red", "lime"), np.full([33, 22], 3000), filename="a.png", sequence_id="s", frame_id="7"
    )
    writer.write_split(tmp_path / "in", "x", [0, 1], lambda _: content, num_shards=1, source={}, quiet=True)
    frames = pseudo_labels.find_frames([f"{tmp_path}/in/*.tfrecord"])
    assert len(frames) == 2 and frames[0].offset == 0 < frames[1].offset
    write(frames, tmp_path / "out")
    features = [example.parse(one) for one in read(tmp_path / "out")[0]]
    assert [(f[example.FILENAME], f[example.SEQUENCE_ID], f[example.FRAME_ID]) for f in features] == [
        (b"a.png", b"s", b"7")
    ] * 2
    label = example.decode_map(features[1][example.LABEL], "zlib", (33, 22))
    np.testing.assert_array_equal(label, np.tile([0] * 11 + [6001] * 11, (33, 1)))

    path = tmp_path / "in" / "x-00000-of-00001.tfrecord"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="byte 0.*x-00000.*damaged"):
        write(frames, tmp_path / "other")


def test_frames_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        pseudo_labels.find_frames([f"{tmp_path}/*.png"])
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="a.txt is neither a picture"):
        pseudo_labels.find_frames([f"{tmp_path}/*"])
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="b.png is not a readable image"):
        pseudo_labels.find_frames([f"{tmp_path}/*.png"])
    with pytest.raises(ValueError, match="there are no frames"):
        pseudo_labels.find_frames([])


def test_a_teacher_averages_passes_and_a_mask_transformer_cannot():
    config = configs.load(shared.ROOT / "configs/tiny/panoptic_deeplab_synthetic.textproto", variables=DATA)
    made = pseudo_labels.teacher(config, scales=(0.5, 1.0), mirrored=True)
    assert list(made.evaluator_options.eval_scales) == [0.5, 1.0] and made.evaluator_options.add_flipped_images
    assert not config.evaluator_options.eval_scales
    with pytest.raises(ValueError, match="positive"):
        pseudo_labels.teacher(config, scales=(0.0,))
    masks = configs.load(shared.ROOT / "configs/tiny/kmax_synthetic.textproto", variables=DATA)
    with pytest.raises(ValueError, match="--scales=1 --nomirrored"):
        pseudo_labels.teacher(masks)
    assert pseudo_labels.teacher(masks, scales=(1.0,), mirrored=False) == masks


def test_finished_shards_are_kept_while_teacher_and_frames_are_the_same(clip, tmp_path, monkeypatch):
    from deeplab2_kmax.serving import predictor

    built = []

    def from_config(config, checkpoint):
        built.append(checkpoint)
        return predict

    monkeypatch.setattr(predictor.Predictor, "from_config", from_config)
    config = configs.load(shared.ROOT / "configs/tiny/panoptic_deeplab_synthetic.textproto", variables=DATA)
    weight = tf.Variable(1.0)
    prefix = tf.train.Checkpoint(weight=weight).write(str(tmp_path / "ckpt"))
    frames = pseudo_labels.find_frames([f"{clip}/*.png"])

    def make(config=config):
        return pseudo_labels.make(config, prefix, frames, tmp_path / "out", source="t", quiet=True)

    first, summary = make()
    assert built == [prefix] and summary.startswith("2 labelled now")
    assert make() == (first, "all of them there already") and len(built) == 1
    make(pseudo_labels.teacher(config, scales=(0.5,)))
    assert len(built) == 2
    tf.train.Checkpoint(weight=tf.Variable(2.0)).write(prefix)
    make(pseudo_labels.teacher(config, scales=(0.5,)))
    assert len(built) == 3
    with pytest.raises(ValueError, match="There is no checkpoint"):
        pseudo_labels.make(config, str(tmp_path / "none"), frames, tmp_path / "out", source="t", quiet=True)


def test_a_mixture_of_human_and_pseudo_labels_is_read(clip, tmp_path):
    write(pseudo_labels.find_frames([f"{clip}/*.png"]), tmp_path / "pseudo")
    human = example.encode_example(picture("blue"), np.full([33, 11], 5000), filename="h.png", sequence_id="h")
    writer.write_split(tmp_path / "human", "train", [0], lambda _: human, num_shards=1, source={}, quiet=True)
    config = configs.load(shared.ROOT / "configs/tiny/panoptic_deeplab_synthetic.textproto", variables=DATA)
    data = config.train_dataset_options
    data.dataset, data.batch_size = "synthetic_dvps", 20
    data.crop_size[:], data.min_resize_value[:], data.max_resize_value[:] = [33, 33], [33], [33]
    data.ClearField("augmentations")
    from trainer import naive_student

    data.file_pattern[:] = [f"{tmp_path}/human/*.tfrecord"]
    mixed = naive_student.student_config(config, f"{tmp_path}/pseudo/*.tfrecord", human_share=0.5)
    batches = pipeline.build_dataset(
        mixed.train_dataset_options, dataset=datasets.lookup("synthetic_dvps"), training=True, seed=0
    )
    ids = [name.decode().split(":")[-1] for name in next(iter(batches))["sample_id"].numpy()]
    assert {"h.png"} < set(ids) <= {"h.png", "clip_000001.png", "clip_000002.png"}


def test_bad_flags_are_one_line(capsys):
    assert pseudo_labels.main(["pseudo_labels", "--output_dir=x"]) == 2
    assert capsys.readouterr().err == "pseudo_labels: --config_file is missing; see --help\n"
    with pytest.raises(ValueError, match="--scales: expected numbers"):
        pseudo_labels.numbers(["one"], "scales")
    assert json.dumps(pseudo_labels.numbers(["0.5", "1"], "scales")) == "[0.5, 1.0]"
