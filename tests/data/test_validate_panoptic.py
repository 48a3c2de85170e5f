"""What validate finds in raw panoptic annotations: one test per kind of problem."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import validate
from tests import converters, image_trees, validating


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
    return validating.run(capsys, f"--panoptic_json={path}", f"--image_dir={root / 'val2017'}", *flags)


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
    assert "not a panoptic annotation file" in validating.run(capsys, f"--panoptic_json={tmp_path / 'x.json'}")[1]


def test_the_table_names_file_and_id(raw, capsys):
    root, edit = raw
    for k in range(3):
        edit(segment(k, area=900))
    validating.forget()
    path = root / "annotations" / "panoptic_val2017.json"
    assert validate.main(["validate", f"--panoptic_json={path}", "--examples=2", "--num_processes=1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 images in 1 files: 3 problems"
    assert lines[1] == "       3  area: a segment with another area than the JSON says"
    assert lines[2].endswith("000000000025.png, image 25, segment 70000: 1 pixels, but the JSON says 900")
    assert lines[-1].strip() == "and 1 more"
