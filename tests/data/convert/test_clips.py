"""VIPSeg and VSPW -> records."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import clips, vipseg, vspw
from tests import converters, video_trees

TREES = {
    vipseg: (video_trees.vipseg, video_trees.VIPSEG_LABEL),
    vspw: (video_trees.vspw, video_trees.VSPW_LABEL),
}


def arguments(module, tmp_path, *more):
    name = module.__name__.split(".")[-1]
    return [f"--{name}_root={tmp_path / 'raw'}", f"--output_dir={tmp_path / 'out'}", "--num_shards=3", *more]


def test_constants_are_those_of_the_descriptor():
    row = datasets.lookup("vipseg")
    assert (row.num_classes, row.ignore_label, row.label_divisor) == (clips.NUM_CLASSES, 0, clips.LABEL_DIVISOR)
    assert row.thing_ids == clips.thing_ids() and len(row.thing_ids) == 58 and 61 in row.thing_ids
    assert row.class_names[61] == "person" and 16 not in row.thing_ids
    semantic = datasets.lookup("vspw")
    assert semantic.thing_ids == () and len(semantic.stuff_ids) == 124 and semantic.class_names == row.class_names


@pytest.mark.parametrize("module", TREES)
def test_records(tmp_path, module):
    make, label = TREES[module]
    make(tmp_path / "raw", train=["12_b", "1_a"], test=["9_c"])
    (tmp_path / "raw" / "imgs" / "unlisted").mkdir(parents=True)
    assert converters.run(module, *arguments(module, tmp_path, "--neighbors")) == 0
    samples = converters.read(tmp_path / "out", "train", video=True, prev_frame=True, next_frame=True)
    assert [(s["sequence_id"].numpy(), s["frame_id"].numpy()) for s in samples] == [
        (b"12_b", b"00000000"),
        (b"12_b", b"00000030"),
        (b"1_a", b"00000000"),
        (b"1_a", b"00000030"),
    ]
    assert samples[0]["image_name"].numpy() == b"12_b_00000000.jpg"
    for sample in samples:
        assert sample["label"][..., 0].numpy().tolist() == sample["next_label"][..., 0].numpy().tolist() == label
    assert [int(s["next_image"][0, 0, 0]) for s in samples] == [30] * 4
    assert [int(s["prev_image"][0, 0, 0]) for s in samples] == [0] * 4
    assert len(converters.read(tmp_path / "out", "test", label=False)) == 2
    assert not (tmp_path / "out" / "val.manifest.json").exists()


def test_vspw_is_read_as_classes(tmp_path):
    video_trees.vspw(tmp_path / "raw", val=["a"])
    assert converters.run(vspw, *arguments(vspw, tmp_path)) == 0
    batch = converters.batches(tmp_path / "out", "val", "vspw", (3, 5))[0]
    assert batch["semantic_raw"][0].numpy().tolist() == (np.array(video_trees.VSPW_LABEL) // 1000).tolist()
    assert not batch["is_crowd_raw"].numpy().any()


def test_frames_shrink(tmp_path):
    video_trees.vipseg(tmp_path / "raw", val=["a"])
    large = np.kron(np.array([[6100, 1], [2, 6105]]), np.ones((4, 8), int))  # 8 x 16
    for t in (0, 30):
        converters.save16(tmp_path / "raw" / "panomasks" / "a" / f"{t:08d}.png", large)
        converters.save(tmp_path / "raw" / "imgs" / "a" / f"{t:08d}.jpg", np.full((8, 16, 3), 128))
    assert converters.run(vipseg, *arguments(vipseg, tmp_path, "--short_side=2", "--neighbors")) == 0
    for sample in converters.read(tmp_path / "out", "val", next_frame=True):
        assert sample["image"].shape == sample["next_image"].shape == (2, 4, 3)
        assert sample["label"][..., 0].numpy().tolist() == [[61001, 61001, 1000, 1000], [2000, 2000, 61006, 61006]]
    assert converters.run(vipseg, *arguments(vipseg, tmp_path, "--short_side=100")) == 0
    assert converters.read(tmp_path / "out", "val")[0]["image"].shape == (8, 16, 3)  # nothing is enlarged


def test_bad_input_is_one_line(tmp_path, capsys):
    def error(module, *more):
        assert converters.run(module, *arguments(module, tmp_path, *more)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    root = tmp_path / "raw"
    root.mkdir()
    assert "holds none of train.txt, val.txt, test.txt" in error(vipseg)
    video_trees.vipseg(root, val=["a"])
    converters.save16(root / "panomasks" / "a" / "00000030.png", np.full((2, 4), 12500))
    assert "00000030.png: 12500 stands for class 125, but the last one is 124" in error(vipseg)
    (root / "panomasks" / "a" / "00000030.png").unlink()
    assert "00000030.png is missing" in error(vipseg)
    (root / "val.txt").write_text("../a\n")
    assert "'../a' is no plain name of a video" in error(vipseg)
    (root / "val.txt").write_text("\n")
    assert "val.txt is empty" in error(vspw)
    video_trees.vspw(root, val=["a"])
    converters.save(root / "data" / "a" / "mask" / "00000000.png", np.full((2, 4), 125))
    assert "expected classes 0 to 124 and 255 for void, found 125" in error(vspw)
    (root / "val.txt").write_text("b\n")
    assert "there is no folder" in error(vspw)
