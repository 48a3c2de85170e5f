"""What validate finds in records: one test per kind of problem; its flags."""

import pytest

from deeplab2_kmax.data import example, validate
from deeplab2_kmax.data.convert import own
from tests import converters, image_trees, validating


def test_nothing_is_wrong(tmp_path, capsys):
    validating.write(tmp_path)
    assert validating.check(tmp_path, capsys) == (0, [], "")
    assert validating.run(capsys, f"--manifest={tmp_path / 'train.manifest.json'}", "--dataset=coco_panoptic") == (
        0,
        [],
        "",
    )
    validating.forget()
    assert validate.main(["validate", "--file_pattern", str(tmp_path / "train-*.tfrecord"), "--nojson"]) == 0
    assert "4 images in 2 files: nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    "label, kind, said",
    [
        ([[134 * 256, 257, 0]] * 2, "label_range", "2 pixels have id 34304, class 134; coco_panoptic has 0 to 133"),
        ([[-1, 257, 0]] * 2, "label_range", "2 pixels have id -1"),
        ([[256, 257, 0]] * 2, "no_instance", "2 pixels of the thing person have id 256, instance 0"),
        (
            [[validating.STUFF * 256 + 3, 257, 0]] * 2,
            "stuff_instance",
            f"have id {validating.STUFF * 256 + 3}, instance 3",
        ),
        ([[0, 0, 0]] * 2, "empty", "all pixels are void"),
    ],
)
def test_labels(label, kind, said, tmp_path, capsys):
    validating.write(tmp_path, [validating.record("a"), validating.record("b", label)])
    code, kinds, text = validating.check(tmp_path, capsys)
    assert (code, kinds) == (1, [kind]) and said in text
    assert "train-00001-of-00002.tfrecord, record 0 (b)" in text


def test_crowd_may_be_meant(tmp_path, capsys):
    validating.write(tmp_path, [validating.record("a", [[256, 257, 0]] * 2)])
    assert validating.check(tmp_path, capsys, "--allow_crowd")[0] == 0


def changed(**features):
    """A good record with other features."""
    parsed = {**example.parse(validating.record()), **features}
    return example._serialize({key: value for key, value in parsed.items() if value is not None})


@pytest.mark.parametrize(
    "features, kind, said",
    [
        ({example.IMAGE: validating.image(3, 2)}, "sides_swapped", "is 3 x 2, but the record says 2 x 3"),
        ({example.IMAGE: validating.image(3, 3)}, "size", "is 3 x 3, but the record says 2 x 3"),
        ({example.IMAGE: validating.image()[:100]}, "image_unreadable", "image/encoded: "),
        ({example.IMAGE: None}, "record", "image/encoded is missing"),
        ({example.FILENAME: None}, "record", "image/filename is missing"),
        ({example.HEIGHT: None}, "record", "image/height or image/width is missing"),
        ({example.LABEL: None}, "record", "image/segmentation/class/encoded is missing"),
        ({example.LABEL: b"1234"}, "size", "image/segmentation/class/encoded: "),
        ({example.LABEL_FORMAT: b"zlib"}, "image_unreadable", "not a readable map"),
        ({example.LABEL_FORMAT: b"gif"}, "image_unreadable", "unknown format 'gif'"),
        ({example.NEXT_IMAGE: validating.image(3, 2)}, "sides_swapped", "next_image/encoded is 3 x 2"),
        ({example.FILENAME: b"../../a"}, "outside", "'../../a' would lead out of a folder"),
        ({example.FILENAME: b"/a"}, "outside", "'/a' would lead out of a folder"),
    ],
)
def test_features(features, kind, said, tmp_path, capsys):
    validating.write(tmp_path, [changed(**features)])
    code, kinds, text = validating.check(tmp_path, capsys)
    assert (code, kinds) == (1, [kind]) and said in text, text


def test_other_records(tmp_path, capsys):
    validating.write(tmp_path, [b"\xff\xff\xff nonsense", validating.record("x")])
    code, kinds, text = validating.check(tmp_path, capsys)
    assert kinds == ["record"] and "cannot be parsed" in text


def test_huge_images(tmp_path, capsys):
    validating.write(tmp_path)
    code, kinds, text = validating.check(tmp_path, capsys, "--max_megapixels=0.000005")
    assert kinds == ["image_huge"] and "2 x 3 pixels, more than 5e-06 millions" in text


def test_one_name_twice(tmp_path, capsys):
    validating.write(tmp_path, [validating.record("a"), validating.record("b"), validating.record("a")], num_shards=3)
    code, kinds, text = validating.check(tmp_path, capsys)
    assert kinds == ["duplicate_id"] and "train-00002-of-00003.tfrecord, record 0" in text


def test_frames_of_two_videos_may_have_one_name(tmp_path, capsys):
    videos = [validating.record("000000.png", sequence_id=name) for name in ("0001", "0002")]
    validating.write(tmp_path, videos)
    assert validating.check(tmp_path, capsys)[0] == 0
    validating.write(tmp_path / "again", [videos[0]] * 2)
    assert validating.check(tmp_path / "again", capsys)[1] == ["duplicate_id"]


CAMVID = [[8001, 9001, 10001], [5000, 255000, 0]]  # things 8 to 10


@pytest.mark.parametrize(
    "labels, source, said",
    [
        # The manifest knows best, even where COCO, whose divisor is 256, has a class for every id.
        ([validating.GOOD] * 2, {"converter": "kitti_step"}, "their manifest names kitti_step: is --dataset"),
        (
            [validating.GOOD] * 2,
            {"converter": "wod_pvps", "dataset": "wod_pvps_image_panoptic_seg"},
            "names wod_pvps_i",
        ),
        ([validating.GOOD] * 2, {"converter": "coco"}, None),
        ([validating.GOOD] * 2, {"converter": "coconut"}, None),  # the same classes
        # Without a word from it, labels say it.
        ([CAMVID, CAMVID], {}, "2 of 2 records have labels that coco_panoptic does not; they would fit camvid: is"),
        ([CAMVID, validating.GOOD, validating.GOOD], {}, None),  # a mistake in one record
    ],
)
def test_records_of_another_data_set(labels, source, said, tmp_path, capsys):
    validating.write(tmp_path, [validating.record(str(k), label) for k, label in enumerate(labels)], source=source)
    _, kinds, text = validating.check(tmp_path, capsys)
    assert ("wrong_dataset" in kinds) is (said is not None) and (said or "") in text


def test_records_without_labels(tmp_path, capsys):
    validating.write(tmp_path, [example.encode_example(validating.image(), filename="a")])
    assert validating.check(tmp_path, capsys)[1] == ["record"]
    assert validating.check(tmp_path, capsys, "--nolabels")[0] == 0


def test_parse_is_the_inverse_of_encode():
    parsed = example.parse(validating.record("a", sequence_id="7"))
    assert parsed[example.FILENAME] == b"a" and parsed[example.HEIGHT] == 2 and parsed[example.SEQUENCE_ID] == b"7"
    for map_format in example.MAP_FORMATS:
        parsed = example.parse(validating.record("a", label_format=map_format))
        assert example.decode_map(parsed[example.LABEL], map_format, (2, 3)).tolist() == validating.GOOD
    for bad in (b"\x0a", b"\x0a\x05ab", b"\x0b", b"\x80" * 12, b"\x08\x01\x0a\x02\x08\x01"):
        with pytest.raises(ValueError):
            example.parse(bad)


def test_a_config(tmp_path, capsys):
    tree = image_trees.own(tmp_path / "raw")
    assert converters.run(own, *tree, f"--output_dir={tmp_path / 'out'}") == 0
    capsys.readouterr()
    assert validating.run(capsys, f"--config_file={tmp_path / 'out' / 'config.textproto'}")[0] == 0
    validating.flip_a_bit(next((tmp_path / "out").glob("*.tfrecord")))
    assert validating.run(capsys, f"--config_file={tmp_path / 'out' / 'config.textproto'}")[:2] == (1, ["checksum"])


def test_bad_flags(tmp_path, capsys):
    assert "name what to check" in validating.run(capsys)[1]
    assert "no file matches" in validating.run(capsys, f"--file_pattern={tmp_path}/x-*")[1]
    assert "there is no file" in validating.run(capsys, f"--manifest={tmp_path}/x")[1]
    assert "Unknown dataset 'x'" in validating.run(capsys, f"--file_pattern={tmp_path}", "--dataset=x")[1]
    assert "belong to --config_file" in validating.run(capsys, "--set=A=1")[1]
    assert "does not exist" in validating.run(capsys, f"--config_file={tmp_path}/x.textproto")[1]
    assert "there is no file" in validating.run(capsys, f"--panoptic_json={tmp_path}/x.json")[1]
    assert "Unknown command line flag" in validating.run(capsys, "--nonsense")[1]
    assert validate.main(["validate", "--help"]) == 0
    assert "python -m deeplab2_kmax.data.validate" in capsys.readouterr().out
