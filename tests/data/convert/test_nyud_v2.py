"""NYUD-v2 -> records: classes, depth, normals, from folders and from the published MATLAB files."""

import shutil

import numpy as np
import pytest

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import nyud_v2
from tests import converters, image_trees, shared

NYUD = datasets.lookup("nyud_v2")
LABEL = [[0, 39000, 255000], [4000, 4000, 1000]]
DEPTH = [[0, 256, 640], [2560, 0, 1024]]  # metres * 256, rounded: 9.999 m is 2559.7, a millimetre 0.3
HALF = np.sqrt(0.5)
NORMALS = [[[0, 0, 0], [1, 0, 0], [0, 0, 0]], [[0, 0, -1], [0, 1, 0], [HALF, HALF, 0]]]


def normals(folder, split, index=0):
    features = converters.features(folder, split)[index]
    assert features[example.NORMALS_FORMAT] == b"raw"
    packed = np.frombuffer(features[example.NORMALS], "<i4").reshape(2, 3)
    return example.unpack_normals(packed)


def test_constants_are_those_of_the_descriptor():
    assert (NYUD.ignore_label, NYUD.label_divisor) == (nyud_v2.IGNORE_LABEL, nyud_v2.LABEL_DIVISOR)
    assert NYUD.num_classes == nyud_v2.NUM_CLASSES and NYUD.eval_ids == tuple(range(1, 41))


def test_folders(tmp_path):
    arguments = [*image_trees.nyud_v2(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(nyud_v2, *arguments) == 0
    for split, names in (("train", [b"00003", b"00001"]), ("test", [b"00002", b"00004"])):  # in the list's order
        samples = converters.read(tmp_path / "out", split, depth=True)
        assert [s["image_name"].numpy() for s in samples] == names
        for sample in samples:
            assert sample["label"][..., 0].numpy().tolist() == LABEL
            assert sample["depth"][..., 0].numpy().tolist() == DEPTH
        # Colours have 8 bits: half a degree.
        np.testing.assert_allclose(normals(tmp_path / "out", split), NORMALS, atol=0.006)
        parsed = converters.read(tmp_path / "out", split, normals=True)[0]["normals"]
        np.testing.assert_allclose(parsed, normals(tmp_path / "out", split), atol=1e-6)


def test_another_unit_of_depth_and_no_normals(tmp_path):
    arguments = [*image_trees.nyud_v2(tmp_path / "raw", normals=False), f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(nyud_v2, *arguments, "--depth_scale=500") == 0
    depth = converters.read(tmp_path / "out", "test", depth=True)[0]["depth"][..., 0].numpy()
    assert depth.tolist() == [[0, 512, 1280], [5119, 1, 2048]]
    assert example.NORMALS not in converters.features(tmp_path / "out", "test")[0]


# Two labels of three: 1 is class 40, 2 is class 5, 3 is class 2; 0 is void.
CLASS_MAP = [[40, 5, 2]]


def make_mat(root, **changes):
    """Three images of 2 x 3 pixels in the layout of MATLAB: columns first."""
    h5py, scipy_io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    root.mkdir()
    images = np.arange(3 * 2 * 3 * 3, dtype=np.uint8).reshape(3, 2, 3, 3)
    labels = np.array([[[0, 1, 2], [3, 3, 0]]] * 3, np.uint16)
    depths = np.array([[[0, 1, 2.5], [9.999, np.nan, 4]]] * 3, np.float32)
    arrays = {"images": np.transpose(images, (0, 3, 2, 1)), "labels": labels, "depths": depths}
    arrays.update(labels=np.transpose(labels, (0, 2, 1)), depths=np.transpose(depths, (0, 2, 1)))
    arrays.update(changes)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    scipy_io.savemat(root / "splits.mat", {"trainNdxs": [[3], [1]], "testNdxs": [[2]]})
    scipy_io.savemat(root / "classMapping40.mat", {"mapClass": CLASS_MAP})
    for k in (1, 2, 3):
        converters.save(root / "normals" / f"{k:05d}.png", image_trees.NYUD_NORMALS)
    files = {"labeled": "nyu_depth_v2_labeled", "splits": "splits", "class_map": "classMapping40"}
    return images, [f"--{flag}_mat={root / name}.mat" for flag, name in files.items()]


def test_published_files(tmp_path):
    images, arguments = make_mat(tmp_path / "raw")
    arguments += [f"--normals_dir={tmp_path / 'raw' / 'normals'}", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(nyud_v2, *arguments, "--num_processes=2", "--num_shards=2") == 0
    for split, numbers in (("train", [1, 3]), ("test", [2])):
        samples = converters.read(tmp_path / "out", split, depth=True)
        assert [s["image_name"].numpy().decode() for s in samples] == [f"{k:05d}" for k in numbers]
        for sample, number in zip(samples, numbers):
            np.testing.assert_array_equal(sample["image"], images[number - 1])
            assert sample["label"][..., 0].numpy().tolist() == [[255000, 39000, 4000], [1000, 1000, 255000]]
            assert sample["depth"][..., 0].numpy().tolist() == [[0, 256, 640], [2560, 0, 1024]]
        np.testing.assert_allclose(normals(tmp_path / "out", split), NORMALS, atol=0.006)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full((3, 3, 2), 4, np.uint16)}, "maps 3 labels, but there is label 4"),
        ({"depths": np.zeros((3, 2, 3), np.float32)}, "shapes that do not fit"),
        ({"images": np.zeros((2, 3, 3, 2), np.uint8)}, "shapes that do not fit"),
    ],
)
def test_bad_published_files_are_one_line(tmp_path, capsys, changes, message):
    _, arguments = make_mat(tmp_path / "raw", **changes)
    assert converters.run(nyud_v2, *arguments, f"--output_dir={tmp_path / 'out'}") == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_bad_input_is_one_line(tmp_path, capsys):
    arguments = [*image_trees.nyud_v2(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]

    def error(*flags):
        assert converters.run(nyud_v2, *(flags or arguments)) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "two ways to name the data" in error(f"--output_dir={tmp_path / 'out'}")
    assert "--splits_mat is missing" in error(f"--labeled_mat={__file__}", arguments[-1])
    flags = [f"--{name}={__file__}" for name in ("labeled_mat", "splits_mat", "class_map_mat")]
    assert "expected a MATLAB 7.3 file" in error(*flags, arguments[-1])
    converters.save(tmp_path / "raw" / "labels" / "00002.png", np.full((2, 3), 41))
    assert "00002.png: expected classes 0 to 40, found 41" in error()
    (tmp_path / "raw" / "normals" / "00002.png").unlink()
    assert "00002.png" in error()
    (tmp_path / "raw" / "test.txt").write_text("../secret\n")
    assert "there is no image" in error()
    (tmp_path / "raw" / "test.txt").write_text("00001\n00001\n")
    assert "listed twice" in error()


def test_real_depth(tmp_path):
    """A real picture with dense depth, as if it were of this data set: units and missing values."""
    sample = shared.path("data", "middlebury_motorcycle")
    with np.load(sample / "motorcycle_disp.npz") as arrays:
        disparity = arrays["arr_0"]
    metres = np.where(np.isfinite(disparity), 994.978 * 0.193001 / (disparity + 31.086), 0)
    (tmp_path / "images").mkdir()
    shutil.copy(sample / "motorcycle_left.png", tmp_path / "images" / "motorcycle.png")
    converters.save(tmp_path / "labels" / "motorcycle.png", np.ones(metres.shape))
    converters.save16(tmp_path / "depths" / "motorcycle.png", np.rint(metres * 1000))
    (tmp_path / "test.txt").write_text("motorcycle\n")
    arguments = [f"--nyud_root={tmp_path}", f"--output_dir={tmp_path / 'out'}", "--label_format=png32"]
    assert converters.run(nyud_v2, *arguments) == 0
    depth = converters.read(tmp_path / "out", "test", depth=True)[0]["depth"][..., 0].numpy()
    assert depth.shape == (500, 741) and (depth == 0).sum() == 27226
    np.testing.assert_allclose(depth / 256, metres, atol=0.0005 + 1 / 512)  # millimetres in, 1/256 m out
    assert 2.10 < depth[depth > 0].min() / 256 < depth.max() / 256 < 5.03


def test_packed_normals():
    vectors = np.array([[[0, 0, 0], [1, 0, 0], [0, -1, 0], [0.6, 0, 0.8]]], np.float32)
    packed = example.pack_normals(vectors)
    middle = 512
    assert packed.tolist() == [
        [
            0,
            1023 | middle << 10 | middle << 20,
            middle | 1 << 10 | middle << 20,
            (307 + 512) | middle << 10 | (409 + 512) << 20,  # 0.6 * 511 = 306.6, 0.8 * 511 = 408.8
        ]
    ]
    np.testing.assert_allclose(example.unpack_normals(packed), vectors, atol=1e-3)
    with pytest.raises(ValueError, match="length 1"):
        example.pack_normals(np.full((2, 2, 3), 0.5))
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        example.pack_normals(np.zeros((2, 2)))
