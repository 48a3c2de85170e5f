"""The records of procedural scenes, and the command line of the converters."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import record_index, records
from deeplab2_kmax.data.convert import synthetic, synthetic_scene

SIZE = ["--height=33", "--width=65", "--num_processes=1"]


def run(*arguments):
    synthetic._FLAGS.unparse_flags()
    for name in synthetic._FLAGS:
        synthetic._FLAGS[name].unparse()
    return synthetic.main(["synthetic.py", *map(str, arguments)])


def read(folder, split, **options):
    files = record_index.find_files([str(folder / f"{split}-*.tfrecord")])
    record_index.build(files)  # agrees with the manifest
    return [records.parse_example(data, **options) for data in tf.data.TFRecordDataset(files)]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def test_records_hold_the_scenes(tmp_path):
    assert run(f"--output_dir={tmp_path}", "--num_train=3", "--num_val=2", "--image_format=png", *SIZE) == 0
    train, val = read(tmp_path, "train"), read(tmp_path, "val")
    assert [s["image_name"].numpy() for s in train] == [b"train_000000", b"train_000001", b"train_000002"]
    assert len(val) == 2
    image, panoptic, _ = synthetic_scene.Scene(1, height=33, width=65).render()
    np.testing.assert_array_equal(train[1]["image"], image)
    np.testing.assert_array_equal(train[1]["label"][..., 0], panoptic)
    image, panoptic, _ = synthetic_scene.Scene(synthetic.MAX_SCENES, height=33, width=65).render()
    np.testing.assert_array_equal(val[0]["image"], image)


def test_raw_records_are_those_of_deeplab2(tmp_path):
    assert run(f"--output_dir={tmp_path}", "--num_train=1", "--num_val=0", *SIZE) == 0
    (data,) = tf.data.TFRecordDataset(str(tmp_path / "train-00000-of-00001.tfrecord"))
    features = tf.train.Example.FromString(data.numpy()).features.feature
    assert features["image/format"].bytes_list.value == [b"jpeg"]
    assert features["image/segmentation/class/format"].bytes_list.value == [b"raw"]
    assert len(features["image/segmentation/class/encoded"].bytes_list.value[0]) == 33 * 65 * 4
    assert [features[f"image/{key}"].int64_list.value[0] for key in ("height", "width", "channels")] == [33, 65, 3]
    assert not (tmp_path / "val.manifest.json").exists()


def test_video_records(tmp_path):
    arguments = ["--num_train=2", "--num_val=0", "--video", "--num_frames=3", "--image_format=png"]
    assert run(f"--output_dir={tmp_path}", *arguments, "--label_format=zlib", *SIZE) == 0
    samples = read(tmp_path, "train", video=True, prev_frame=True, next_frame=True, depth=True)
    assert [s["frame_id"].numpy() for s in samples] == [b"000000", b"000001", b"000002"] * 2
    assert samples[4]["sequence_id"].numpy() == b"train_000001"
    scene = synthetic_scene.Scene(1, height=33, width=65)
    before, now, after = (scene.render(t / synthetic_scene.FRAMES_PER_SECOND) for t in range(3))
    for key, (image, panoptic, _) in {"prev_": before, "": now, "next_": after}.items():
        np.testing.assert_array_equal(samples[4][f"{key}image"], image)
        np.testing.assert_array_equal(samples[4][f"{key}label"][..., 0], panoptic)
    np.testing.assert_allclose(samples[4]["depth"][..., 0] / 256, now[2], atol=1 / 256)
    np.testing.assert_array_equal(samples[3]["prev_image"], samples[3]["image"])  # the ends repeat
    np.testing.assert_array_equal(samples[5]["next_label"], samples[5]["label"])


def test_the_same_bytes_however_many_processes(tmp_path):
    arguments = ["--num_train=5", "--num_val=0", "--num_shards=3", "--height=33", "--width=65"]
    assert run(f"--output_dir={tmp_path / 'one'}", *arguments, "--num_processes=1") == 0
    assert run(f"--output_dir={tmp_path / 'two'}", *arguments, "--num_processes=2") == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 3


def test_another_seed_gives_other_scenes(tmp_path):
    for seed in (0, 1):
        run(f"--output_dir={tmp_path / str(seed)}", "--num_train=1", "--num_val=1", f"--seed={seed}", *SIZE)
    found = [*digests(tmp_path / "0").values(), *digests(tmp_path / "1").values()]
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_trian=3"], "num_trian"),
        (["--output_dir=x", "--height=5"], "--height=5"),
        (["--output_dir=x", "more"], "unexpected argument 'more'"),
        (["--num_train=1"], "--output_dir is missing"),
        (["--output_dir=x", "--num_train=0", "--num_val=0"], "nothing to write"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("synthetic: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_names_the_flags(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert "--num_train" in text and "--output_dir" in text and "Procedural" not in text.splitlines()[0]


def test_the_manifest_says_how_the_records_were_made(tmp_path):
    run(f"--output_dir={tmp_path}", "--num_train=1", "--num_val=0", *SIZE)
    source = json.loads((tmp_path / "train.manifest.json").read_text())["source"]
    assert source["height"] == 33 and source["seed"] == 0 and source["generator"] == synthetic.VERSION
