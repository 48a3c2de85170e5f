"""What validate finds: one test per kind of problem, in records and in raw panoptic annotations."""

import io
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import datasets, example, pipeline, record_index, validate
from deeplab2_kmax.data.convert import own, writer
from deeplab2_kmax.data.validate.problems import KINDS
from deeplab2_kmax.protos import dataset_pb2
from tests import converters, image_trees

COCO = datasets.lookup("coco_panoptic")  # ignore label 0, divisor 256, person 1, thing; sky-other-merged 119
PERSON, STUFF = 1, max(COCO.stuff_ids)


def forget():
    """No flag is left from an earlier run."""
    for name in validate._FLAGS:
        validate._FLAGS[name].unparse()


def run(capsys, *flags):
    """Exit code, the kinds of problems and what is said of them, file and id included."""
    forget()
    code = validate.main(["validate.py", "--json", "--num_processes=1", *map(str, flags)])
    out = capsys.readouterr()
    if code == 2:
        assert not out.out and len(out.err.splitlines()) == 1
        return code, out.err, ""
    found = json.loads(out.out)
    assert found["ok"] is (code == 0) and sum(found["counts"].values()) == len(found["problems"])
    assert set(found["counts"]) <= set(KINDS)
    text = "\n".join(f"{one['file']}, {one['id']}: {one['text']}" for one in found["problems"])
    return code, list(found["counts"]), text


# Records.


def encode(item):
    return item


def image(height=2, width=3, **options):
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(out, "JPEG", **options)
    return out.getvalue()


GOOD = [[PERSON * 256 + 1, PERSON * 256 + 2, 0], [STUFF * 256, STUFF * 256, 0]]


def record(name="a", label=GOOD, **options):
    return example.encode_example(image(), np.array(label, np.int32), filename=name, **options)


def write(folder, records=None, num_shards=2):
    """Shards with their manifest."""
    records = records or [record(name) for name in "abcd"]
    writer.write_split(folder, "train", records, encode, num_shards=num_shards, source={}, quiet=True)
    return sorted(folder.glob("*.tfrecord"))


def check(folder, capsys, *flags):
    return run(capsys, f"--file_pattern={folder / 'train-*.tfrecord'}", "--dataset=coco_panoptic", *flags)


def options(folder):
    return dataset_pb2.DatasetOptions(
        file_pattern=[str(folder / "train-*.tfrecord")], batch_size=1, crop_size=[33, 33], dataset="coco_panoptic"
    )


def test_nothing_is_wrong(tmp_path, capsys):
    write(tmp_path)
    assert check(tmp_path, capsys) == (0, [], "")
    assert run(capsys, f"--manifest={tmp_path / 'train.manifest.json'}", "--dataset=coco_panoptic") == (0, [], "")
    forget()
    assert validate.main(["validate", "--file_pattern", str(tmp_path / "train-*.tfrecord"), "--nojson"]) == 0
    assert "4 images in 2 files: nothing is wrong" in capsys.readouterr().out


def cut_within(path):
    path.write_bytes(path.read_bytes()[:-7])


def cut_at_a_boundary(path):
    first = struct.unpack("<Q", path.read_bytes()[:8])[0] + 16
    path.write_bytes(path.read_bytes()[:first])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-40] ^= 4
    path.write_bytes(data)
    os.utime(path, (1, 1))


def clear(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    "damage, kinds, said",
    [
        (cut_within, ["shard_cut"], "the record ends 7 bytes after the file"),
        (cut_at_a_boundary, ["shard_cut"], "but the manifest says"),
        (flip_a_bit, ["checksum"], "SHA-256"),
        (clear, ["shard_empty"], "no bytes"),
        (remove, ["missing"], "the manifest lists this shard"),
    ],
)
def test_damaged_shards(damage, kinds, said, tmp_path, capsys):
    """Caught by validate, and by training before its first step."""
    bad = write(tmp_path)[1]
    pipeline.build_dataset(options(tmp_path), dataset=COCO, training=True)
    damage(bad)
    code, found, text = check(tmp_path, capsys)
    assert (code, found) == (1, kinds) and said in text and str(bad) in text
    assert run(capsys, f"--manifest={tmp_path / 'train.manifest.json'}")[:2] == (1, kinds)
    with pytest.raises(ValueError, match="00001-of-00002"):
        pipeline.build_dataset(options(tmp_path), dataset=COCO, training=True)


def test_damage_without_a_manifest(tmp_path, capsys):
    paths = write(tmp_path, num_shards=4, records=[record(name) for name in "abcdefgh"])
    (tmp_path / "train.manifest.json").unlink()
    assert check(tmp_path, capsys)[0] == 0
    cut_within(paths[0])
    flip_a_bit(paths[1])
    paths[2].unlink()
    code, kinds, text = check(tmp_path, capsys)
    assert kinds == ["missing", "shard_cut", "checksum"]
    assert f"{paths[0]}, record 1: the record ends 7 bytes" in text
    assert f"{paths[1]}, record 1: its bytes do not match their checksum" in text


def test_a_changed_length(tmp_path, capsys):
    path = write(tmp_path, num_shards=1)[0]
    (tmp_path / "train.manifest.json").unlink()
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    assert "the length of the record does not match" in check(tmp_path, capsys)[2]


def test_checksums_at_the_start_have_a_limit(tmp_path):
    paths = [str(path) for path in write(tmp_path)]
    assert record_index.verify(paths, limit=1e6) == 2
    assert record_index.verify(paths, limit=10) == record_index.verify(paths, limit=0) == 0
    flip_a_bit(tmp_path / "train-00000-of-00002.tfrecord")
    with pytest.raises(ValueError, match="its bytes are not those that were written"):
        record_index.verify(paths, limit=1e6)


def test_an_unfinished_conversion(tmp_path, capsys):
    write(tmp_path)
    path = tmp_path / "train.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][1].update(records=-1, bytes=-1)
    path.write_text(json.dumps(manifest))
    assert check(tmp_path, capsys)[1] == ["manifest"]


def test_a_manifest_that_is_none(tmp_path, capsys):
    write(tmp_path)
    (tmp_path / "train.manifest.json").write_text('{"format": 1, "shards": [{}]}')
    code, kinds, text = check(tmp_path, capsys)
    assert kinds == ["manifest"] and "not a manifest of shards" in text


@pytest.mark.parametrize("name", ["../secret", "/secret", "sub/x"])
def test_a_manifest_that_leads_out(name, tmp_path, capsys):
    write(tmp_path)
    path = tmp_path / "train.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"].append({**manifest["shards"][0], "file": name})
    path.write_text(json.dumps(manifest))
    code, kinds, text = check(tmp_path, capsys)
    assert kinds == ["outside"] and name in text


def test_a_shard_that_is_a_link_out(tmp_path, capsys):
    paths = write(tmp_path / "records")
    paths[0].rename(tmp_path / "elsewhere")
    paths[0].symlink_to(tmp_path / "elsewhere")
    code, kinds, text = check(tmp_path / "records", capsys)
    assert kinds == ["outside"] and "a link to" in text


@pytest.mark.parametrize(
    "label, kind, said",
    [
        ([[134 * 256, 257, 0]] * 2, "label_range", "2 pixels have id 34304, class 134; coco_panoptic has 0 to 133"),
        ([[-1, 257, 0]] * 2, "label_range", "2 pixels have id -1"),
        ([[256, 257, 0]] * 2, "no_instance", "2 pixels of the thing person have id 256, instance 0"),
        ([[STUFF * 256 + 3, 257, 0]] * 2, "stuff_instance", f"have id {STUFF * 256 + 3}, instance 3"),
        ([[0, 0, 0]] * 2, "empty", "all pixels are void"),
    ],
)
def test_labels(label, kind, said, tmp_path, capsys):
    write(tmp_path, [record("a"), record("b", label)])
    code, kinds, text = check(tmp_path, capsys)
    assert (code, kinds) == (1, [kind]) and said in text
    assert "train-00001-of-00002.tfrecord, record 0 (b)" in text


def test_crowd_may_be_meant(tmp_path, capsys):
    write(tmp_path, [record("a", [[256, 257, 0]] * 2)])
    assert check(tmp_path, capsys, "--allow_crowd")[0] == 0


def changed(**features):
    """A good record with other features."""
    parsed = {**example.parse(record()), **features}
    return example._serialize({key: value for key, value in parsed.items() if value is not None})


@pytest.mark.parametrize(
    "features, kind, said",
    [
        ({example.IMAGE: image(3, 2)}, "sides_swapped", "is 3 x 2, but the record says 2 x 3"),
        ({example.IMAGE: image(3, 3)}, "size", "is 3 x 3, but the record says 2 x 3"),
        ({example.IMAGE: image()[:100]}, "image_unreadable", "image/encoded: "),
        ({example.IMAGE: None}, "record", "image/encoded is missing"),
        ({example.FILENAME: None}, "record", "image/filename is missing"),
        ({example.HEIGHT: None}, "record", "image/height or image/width is missing"),
        ({example.LABEL: None}, "record", "image/segmentation/class/encoded is missing"),
        ({example.LABEL: b"1234"}, "size", "image/segmentation/class/encoded: "),
        ({example.LABEL_FORMAT: b"zlib"}, "image_unreadable", "not a readable map"),
        ({example.LABEL_FORMAT: b"gif"}, "image_unreadable", "unknown format 'gif'"),
        ({example.NEXT_IMAGE: image(3, 2)}, "sides_swapped", "next_image/encoded is 3 x 2"),
        ({example.FILENAME: b"../../a"}, "outside", "'../../a' would lead out of a folder"),
        ({example.FILENAME: b"/a"}, "outside", "'/a' would lead out of a folder"),
    ],
)
def test_features(features, kind, said, tmp_path, capsys):
    write(tmp_path, [changed(**features)])
    code, kinds, text = check(tmp_path, capsys)
    assert (code, kinds) == (1, [kind]) and said in text, text


def test_other_records(tmp_path, capsys):
    write(tmp_path, [b"\xff\xff\xff nonsense", record("x")])
    code, kinds, text = check(tmp_path, capsys)
    assert kinds == ["record"] and "cannot be parsed" in text


def test_huge_images(tmp_path, capsys):
    write(tmp_path)
    code, kinds, text = check(tmp_path, capsys, "--max_megapixels=0.000005")
    assert kinds == ["image_huge"] and "2 x 3 pixels, more than 5e-06 millions" in text


def test_one_name_twice(tmp_path, capsys):
    write(tmp_path, [record("a"), record("b"), record("a")], num_shards=3)
    code, kinds, text = check(tmp_path, capsys)
    assert kinds == ["duplicate_id"] and "train-00002-of-00003.tfrecord, record 0" in text


def test_records_without_labels(tmp_path, capsys):
    write(tmp_path, [example.encode_example(image(), filename="a")])
    assert check(tmp_path, capsys)[1] == ["record"]
    assert check(tmp_path, capsys, "--nolabels")[0] == 0


def test_parse_is_the_inverse_of_encode():
    parsed = example.parse(record("a", sequence_id="7"))
    assert parsed[example.FILENAME] == b"a" and parsed[example.HEIGHT] == 2 and parsed[example.SEQUENCE_ID] == b"7"
    for map_format in example.MAP_FORMATS:
        parsed = example.parse(record("a", label_format=map_format))
        assert example.decode_map(parsed[example.LABEL], map_format, (2, 3)).tolist() == GOOD
    for bad in (b"\x0a", b"\x0a\x05ab", b"\x0b", b"\x80" * 12, b"\x08\x01\x0a\x02\x08\x01"):
        with pytest.raises(ValueError):
            example.parse(bad)


def test_a_config(tmp_path, capsys):
    tree = image_trees.own(tmp_path / "raw")
    assert converters.run(own, *tree, f"--output_dir={tmp_path / 'out'}") == 0
    capsys.readouterr()
    assert run(capsys, f"--config_file={tmp_path / 'out' / 'config.textproto'}")[0] == 0
    flip_a_bit(next((tmp_path / "out").glob("*.tfrecord")))
    assert run(capsys, f"--config_file={tmp_path / 'out' / 'config.textproto'}")[:2] == (1, ["checksum"])


def test_bad_flags(tmp_path, capsys):
    assert "name what to check" in run(capsys)[1]
    assert "no file matches" in run(capsys, f"--file_pattern={tmp_path}/x-*")[1]
    assert "there is no file" in run(capsys, f"--manifest={tmp_path}/x")[1]
    assert "Unknown dataset 'x'" in run(capsys, f"--file_pattern={tmp_path}", "--dataset=x")[1]
    assert "belong to --config_file" in run(capsys, "--set=A=1")[1]
    assert "does not exist" in run(capsys, f"--config_file={tmp_path}/x.textproto")[1]
    assert "there is no file" in run(capsys, f"--panoptic_json={tmp_path}/x.json")[1]
    assert "Unknown command line flag" in run(capsys, "--nonsense")[1]
    assert validate.main(["validate", "--help"]) == 0
    assert "python -m deeplab2_kmax.data.validate" in capsys.readouterr().out


# Raw annotations.


@pytest.fixture
def raw(tmp_path):
    """Two images; `edit` changes the JSON."""
    image_trees.coco(tmp_path, names=("000000000009", "000000000025"), split="val")
    path = tmp_path / "annotations" / "panoptic_val2017.json"

    def edit(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    kinds = ((1, 1), (18, 1), (187, 0))
    edit(lambda c: c.update(categories=[{"id": k, "name": str(k), "isthing": thing} for k, thing in kinds]))
    return tmp_path, edit


def check_raw(root, capsys, *flags):
    path = root / "annotations" / "panoptic_val2017.json"
    return run(capsys, f"--panoptic_json={path}", f"--image_dir={root / 'val2017'}", *flags)


def test_good_annotations(raw, capsys):
    assert check_raw(raw[0], capsys) == (0, [], "")


def segment(k, **changes):
    return lambda content: content["annotations"][0]["segments_info"][k].update(changes)


def annotation(**changes):
    return lambda content: content["annotations"][0].update(changes)


def listed(**changes):
    return lambda content: content["images"][0].update(changes)


@pytest.mark.parametrize(
    "change, kinds, said",
    [
        (segment(0, category_id=99), ["label_range"], "segment 70000: category 99 is not in the list"),
        (segment(0, id=0), ["no_instance", "ids_differ"], "segment 0: a segment of category 1 has the id 0"),
        (segment(0, id=None), ["no_instance", "ids_differ"], "has the id None"),
        (segment(3, id=70000), ["two_classes", "ids_differ"], "70000: listed twice, with the categories 1 and 18"),
        (segment(1, id=70000), ["duplicate_id", "ids_differ"], "listed twice, with the categories 1 and 1"),
        (segment(0, id=12), ["ids_differ"], "segment 12: in the JSON, but not in the PNG"),
        (segment(0, id=12), ["ids_differ"], "segment 70000: 1 pixels of the PNG, but not in the JSON"),
        (segment(0, area=9), ["area"], "segment 70000: 1 pixels, but the JSON says 9"),
        (segment(0, id=2**24), ["malformed", "ids_differ"], "has the id 16777216"),
        (segment(0, category_id="x"), ["malformed", "ids_differ"], "segments_info[0]: no category_id"),
        (annotation(segments_info=[]), ["ids_differ", "empty"], "no segments"),
        (annotation(segments_info=None), ["malformed", "ids_differ", "empty"], "no segments_info"),
        (annotation(image_id=9), ["missing", "duplicate_id"], "image 9: annotated twice"),
        (annotation(image_id=77), ["missing"], "image 77: annotated, but not in `images`"),
        (annotation(file_name="../../x.png"), ["outside"], "'../../x.png' leads out of"),
        (annotation(file_name="/etc/x.png"), ["outside"], "'/etc/x.png' leads out of"),
        (annotation(file_name="x.png"), ["missing"], "there is no such file"),
        (annotation(file_name=3), ["missing", "malformed"], "annotations[0]: no file_name"),
        (listed(file_name="../x.jpg"), ["outside"], "'../x.jpg' leads out of"),
        (listed(file_name="x.jpg"), ["missing"], "val2017/x.jpg, image 9: there is no such file"),
        (listed(id=25), ["missing", "duplicate_id"], "image 25: listed twice"),
        (listed(file_name="000000000025.jpg"), ["duplicate_id"], "is that of image 9"),
        (listed(height=5, width=2), ["sides_swapped"], "stored as 2 x 5, but the JSON says 5 x 2"),
        (listed(height=7), ["size"], "stored as 2 x 5, but the JSON says 7 x 5"),
    ],
)  # fmt: skip
def test_annotations(change, kinds, said, raw, capsys):
    root, edit = raw
    edit(change)
    code, found, text = check_raw(root, capsys)
    assert code == 1 and found == kinds and said in text, text


def test_categories_may_come_from_a_data_set(raw, capsys):
    root, edit = raw
    edit(lambda content: content.pop("categories"))
    assert "has no categories: name the data set" in check_raw(root, capsys)[1]
    assert check_raw(root, capsys, "--dataset=coco_panoptic")[0] == 0


@pytest.mark.parametrize(
    "folder, suffix, size, kinds",
    [
        ("annotations/panoptic_val2017", ".png", None, ["image_unreadable"]),
        ("annotations/panoptic_val2017", ".png", (5, 2), ["sides_swapped", "area", "empty"]),
        ("val2017", ".jpg", None, ["image_unreadable"]),
        ("val2017", ".jpg", (5, 2), ["sides_swapped"]),
        ("val2017", ".jpg", (3, 3), ["size"]),
    ],
)
def test_files(folder, suffix, size, kinds, raw, capsys):
    root, _ = raw
    path = root / folder / f"000000000009{suffix}"
    if size is None:
        path.write_bytes(path.read_bytes()[:60])
    else:
        converters.save(path, np.zeros((*size, 3)))
    code, found, text = check_raw(root, capsys)
    assert code == 1 and set(found) - {"ids_differ"} == set(kinds) - {"area"} and "image 9" in text, text


def test_sides_swapped_by_exif(raw, capsys):
    root, edit = raw
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((5, 2, 3), np.uint8)).save(root / "val2017" / "000000000009.jpg", exif=exif)
    code, kinds, text = check_raw(root, capsys)
    assert kinds == ["sides_swapped"] and "its EXIF orientation is 6" in text


def test_huge_files(raw, capsys):
    code, kinds, text = check_raw(raw[0], capsys, "--max_megapixels=0.000009")
    assert kinds == ["image_huge"] and "2 x 5 pixels" in text


@pytest.mark.parametrize("folder, suffix", [("annotations/panoptic_val2017", ".png"), ("val2017", ".jpg")])
def test_links_out(folder, suffix, raw, capsys):
    root, _ = raw
    path = root / folder / f"000000000009{suffix}"
    path.rename(root / "secret")
    path.symlink_to(root / "secret")
    code, kinds, text = check_raw(root, capsys)
    assert kinds == ["outside"] and "is a link that leads out of" in text


def test_no_json(tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "x").mkdir()
    assert "not a panoptic annotation file" in run(capsys, f"--panoptic_json={tmp_path / 'x.json'}")[1]


def test_the_table_names_file_and_id(raw, capsys):
    root, edit = raw
    for k in range(3):
        edit(segment(k, area=900))
    forget()
    path = root / "annotations" / "panoptic_val2017.json"
    assert validate.main(["validate", f"--panoptic_json={path}", "--examples=2", "--num_processes=1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 images in 1 files: 3 problems"
    assert lines[1] == "       3  area: a segment with another area than the JSON says"
    assert lines[2].endswith("000000000025.png, image 25, segment 70000: 1 pixels, but the JSON says 900")
    assert lines[-1].strip() == "and 1 more"
