"""DAVIS -> records: one track per sequence."""

import numpy as np

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import davis
from tests import converters, image_trees, shared

DAVIS = datasets.lookup("davis")


def test_constants_are_those_of_the_descriptor():
    assert DAVIS.thing_ids == (davis.OBJECT,) and DAVIS.label_divisor == davis.LABEL_DIVISOR


def test_records(tmp_path):
    image_trees.davis(tmp_path / "raw")
    arguments = [f"--davis_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}", "--num_shards=2"]
    assert converters.run(davis, *arguments, "--neighbors") == 0
    samples = converters.read(tmp_path / "out", "val", video=True, prev_frame=True, next_frame=True)
    assert [s["image_name"].numpy().decode() for s in samples] == [
        f"{name}_0000{t}.jpg" for name in ("bear", "camel") for t in range(3)
    ]
    assert [s["sequence_id"].numpy() for s in samples] == [b"bear"] * 3 + [b"camel"] * 3
    expected = np.zeros((4, 6), np.int32)
    expected[1:3, 1:3] = 1001
    np.testing.assert_array_equal(samples[1]["label"][..., 0], expected)
    np.testing.assert_array_equal(samples[0]["next_label"][..., 0], expected)
    np.testing.assert_array_equal(samples[2]["prev_label"][..., 0], expected)
    np.testing.assert_array_equal(samples[3]["prev_label"], samples[3]["label"])  # not the other sequence's


def test_some_sequences(tmp_path):
    image_trees.davis(tmp_path / "raw")
    arguments = [f"--davis_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(davis, *arguments, "--sequences=camel") == 0
    assert {s["sequence_id"].numpy() for s in converters.read(tmp_path / "out", "val", video=True)} == {b"camel"}


def test_bad_input_is_one_line(tmp_path, capsys):
    arguments = [f"--davis_root={tmp_path}", f"--output_dir={tmp_path / 'out'}"]

    def error(*more):
        assert converters.run(davis, *arguments, *more) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("davis: ")
        return lines[-1]

    assert "holds no sequences" in error()
    image_trees.davis(tmp_path)
    assert "lacks cow; it holds bear, camel" in error("--sequences=cow")
    converters.save(tmp_path / "Annotations" / "480p" / "camel" / "00001.png", np.full((4, 6), 2))
    assert "00001.png: expected 0 and 255 alone, found 2" in error()
    (tmp_path / "Annotations" / "480p" / "camel" / "00001.png").unlink()
    assert "00001.png is missing" in error()


def test_real_frames(tmp_path):
    sample = shared.path("data", "davis_street")
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = tmp_path / "raw" / kind / "480p" / "car-shadow"
        folder.mkdir(parents=True)
        for t in (0, 20, 39):
            name = f"{t:05d}.{ending}"
            (folder / name).symlink_to(sample / kind / "480p" / "car-shadow" / name)
    assert converters.run(davis, f"--davis_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}") == 0
    batches = converters.batches(tmp_path / "out", "val", "davis", (481, 855))
    assert [b["frame_id"][0].numpy() for b in batches] == [b"00000", b"00020", b"00039"]
    for batch in batches:
        label = batch["panoptic_raw"][0].numpy()
        assert label.shape == (480, 854) and set(np.unique(label)) == {0, 1001}
        assert 0.02 < (label == 1001).mean() < 0.15
