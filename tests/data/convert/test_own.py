"""Bring your own data: every format by labels one can check by hand, the files beside the records, and mistakes."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax import architectures, config
from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import own
from deeplab2_kmax.data.convert.own import classes, experiment, page, regions
from tests import converters, image_trees, shared

VOID = 255000
PICTURE = image_trees.picture


def convert(tmp_path, *flags, split="train"):
    """Exit code 0, the labels of a split by image name, and the data set."""
    out = tmp_path / "out"
    assert converters.run(own, *flags, f"--output_dir={out}") == 0
    labels = {}
    for features in converters.features(out, split):
        size = features[example.HEIGHT], features[example.WIDTH]
        labels[features[example.FILENAME].decode()] = example.decode_map(features[example.LABEL], "raw", size).tolist()
    return labels, datasets.lookup(str(out / "classes.json"))


def error(capsys, *flags):
    assert converters.run(own, *flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("own: ")
    return lines[0]


def photos(root, names=("a", "b"), height=2, width=5):
    for k, name in enumerate(names):
        converters.save(root / f"{name}.jpg", PICTURE(80 + k, height, width))
    return [f"--images={root}", "--val_share=0"]


def square(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def coco_panoptic(root, **changes):
    image_trees.coco(root, names=("000000000009", "000000000025"), **changes)
    path = root / "annotations" / "panoptic_val2017.json"
    content = json.loads(path.read_text())
    content["categories"] = [
        {"id": 187, "name": "sky", "isthing": 0, "color": [1, 2, 3]},
        {"id": 1, "name": "person", "isthing": 1},
        {"id": 18, "name": "dog", "isthing": 1},
    ]
    path.write_text(json.dumps(content))
    return [f"--images={root / 'val2017'}", f"--annotations={path}", "--val_share=0"]


def test_coco_panoptic(tmp_path):
    labels, dataset = convert(tmp_path, *coco_panoptic(tmp_path / "raw"))
    expected = image_trees.panoptic_label(0, 1, 2, divisor=1000, ignore=255)
    assert labels == {"000000000009": expected, "000000000025": expected}
    assert dataset.class_names == ("person", "dog", "sky") and dataset.thing_ids == (0, 1)
    assert dataset.eval_ids == (1, 18, 187) and dataset.colors[2] == (1, 2, 3)
    assert (dataset.name, dataset.ignore_label, dataset.label_divisor) == ("own", 255, 1000)


def coco_instances(root, **changes):
    """Image a: a big cat, a dog on top of it, a crowd; image b: nothing."""
    flags = photos(root / "photos")
    rows = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[1, 0, 2, 0, 2, 2, 1, 2]], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [[0, 0, 4, 0, 4, 2, 0, 2]], "iscrowd": 0},
        # Columns of two pixels: the last one.
        {"id": 3, "image_id": 7, "category_id": 3, "segmentation": {"size": [2, 5], "counts": [8, 2]}, "iscrowd": 1},
    ]
    rows[0].update(changes)
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 2, "width": 5},
            {"id": 8, "file_name": "b.jpg", "height": 2, "width": 5},
        ],
        "annotations": rows,
        "categories": [{"id": 3, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return [*flags, f"--annotations={root / 'instances.json'}"]


def test_coco_instances(tmp_path):
    labels, dataset = convert(tmp_path, *coco_instances(tmp_path / "raw"))
    row = [2001, 1001, 2001, 2001, VOID]  # the smaller one lies on top; crowd is void
    assert labels == {"a": [row, row], "b": [[0] * 5] * 2}  # what no outline covers is background
    assert dataset.class_names == ("background", "dog", "cat") and dataset.thing_ids == (1, 2)


def test_background_may_be_void(tmp_path):
    labels, dataset = convert(tmp_path, *coco_instances(tmp_path / "raw"), "--background=void")
    assert labels["b"] == [[VOID] * 5] * 2 and dataset.class_names == ("dog", "cat")


def test_classes_choose_and_order_by_name(tmp_path, capsys):
    flags = coco_instances(tmp_path / "raw")
    assert "the class 5 is not in the list of classes" in error(
        capsys, *flags, "--classes=dog", f"--output_dir={tmp_path}"
    )
    labels, dataset = convert(tmp_path, *flags, "--classes=cat,dog")
    assert dataset.class_names == ("background", "cat", "dog") and labels["a"][0][0] == 1001


def semantic_png(root):
    for name in ("a", "b"):
        converters.save(root / "maps" / f"{name}_mask.png", [[0, 0, 2, 255, 2], [7, 7, 0, 0, 0]])
    return [*photos(root / "photos"), f"--annotations={root / 'maps'}", "--annotation_suffix=_mask"]


def test_semantic_png(tmp_path):
    labels, dataset = convert(tmp_path, *semantic_png(tmp_path / "raw"))
    assert labels["a"] == [[0, 0, 1000, VOID, 1000], [2000, 2000, 0, 0, 0]]
    assert dataset.class_names == ("class_0", "class_2", "class_7") and dataset.thing_ids == ()
    assert dataset.eval_ids == (0, 2, 7)


def test_semantic_png_with_names(tmp_path, capsys):
    flags = [*semantic_png(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    text = error(capsys, *flags, "--classes=road,car,sky")
    assert "a_mask.png: 2 pixels have the value 7, which is no class; expected 0, 1, 2" in text
    assert "(and 1 more)" in text and "--skip_bad" in text
    labels, dataset = convert(tmp_path, *flags, "--classes=road,car,sky", "--void_values=255,7")
    assert labels["a"] == [[0, 0, 2000, VOID, 2000], [VOID, VOID, 0, 0, 0]]
    assert dataset.class_names == ("road", "car", "sky")


def test_semantic_png_in_colours(tmp_path, capsys):
    flags = photos(tmp_path / "photos", ("a",), 1, 3)
    converters.save(tmp_path / "maps" / "a.png", [[[9, 9, 9], [0, 0, 255], [9, 9, 9]]])
    flags += [f"--annotations={tmp_path / 'maps'}"]
    assert "a.png has colours: expected one channel" in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    rows = [{"id": 0, "name": "blue", "color": [0, 0, 255]}, {"id": 1, "name": "grey", "color": [9, 9, 9]}]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    labels, dataset = convert(tmp_path, *flags, f"--classes={tmp_path / 'classes.json'}")
    assert labels == {"a": [[1000, 0, 1000]]} and dataset.colors == ((0, 0, 255), (9, 9, 9))


def test_instance_png_alone(tmp_path):
    flags = photos(tmp_path / "photos", ("a",))
    converters.save16(tmp_path / "maps" / "a.png", [[0, 0, 300, 300, 7], [0, 255, 255, 0, 7]])
    labels, dataset = convert(tmp_path, *flags, f"--annotations={tmp_path / 'maps'}", "--format=instance_png")
    assert labels["a"] == [[0, 0, 1003, 1003, 1001], [0, 1002, 1002, 0, 1001]]
    assert dataset.class_names == ("background", "object") and dataset.thing_ids == (1,)


def test_instance_png_with_a_divisor(tmp_path):
    flags = photos(tmp_path / "photos", ("a",))
    converters.save16(tmp_path / "maps" / "a.png", [[7, 7, 26001, 26000, 255], [7, 26, 26, 24003, 24003]])
    flags += [f"--annotations={tmp_path / 'maps'}", "--instance_divisor=1000", "--things=24-33"]
    labels, dataset = convert(tmp_path, *flags, "--stuff=class_7")
    # A thing without an instance is void.
    assert labels["a"] == [[0, 0, 2002, 2001, VOID], [0, VOID, VOID, 1001, 1001]]
    assert dataset.eval_ids == (7, 24, 26) and dataset.thing_ids == (1, 2)


def test_instance_png_with_class_maps(tmp_path):
    flags = photos(tmp_path / "photos", ("a",))
    converters.save(tmp_path / "classes" / "a.png", [[3, 3, 3, 9, 9], [3, 3, 3, 9, 255]])
    converters.save(tmp_path / "maps" / "a.png", [[1, 1, 2, 0, 0], [1, 0, 2, 5, 5]])
    flags += [f"--annotations={tmp_path / 'maps'}", f"--semantic_dir={tmp_path / 'classes'}", "--stuff=9"]
    labels, _ = convert(tmp_path, *flags)
    assert labels["a"] == [[1, 1, 2, 1000, 1000], [1, VOID, 2, 1000, VOID]]


def test_running_numbers_over_a_class_map(tmp_path):
    """The number of an instance may be that of its class: then the numbers have a gap there."""
    flags = photos(tmp_path / "photos", ("a", "b"), 3, 4)
    converters.save(tmp_path / "classes" / "a.png", [[1, 1, 1, 9], [1, 1, 1, 9], [1, 9, 9, 9]])
    converters.save(tmp_path / "maps" / "a.png", [[0, 1, 2, 9], [0, 1, 2, 9], [0, 9, 9, 9]])  # 1 is an instance
    converters.save(tmp_path / "classes" / "b.png", [[1, 1, 1, 9], [1, 1, 1, 9], [1, 9, 9, 1]])
    converters.save(tmp_path / "maps" / "b.png", [[0, 0, 1, 9], [0, 0, 0, 9], [1, 9, 9, 1]])  # 1 is the class
    flags += [f"--annotations={tmp_path / 'maps'}", f"--semantic_dir={tmp_path / 'classes'}", "--stuff=9"]
    labels, _ = convert(tmp_path, *flags, "--no_instance=class")
    assert labels["a"] == [[1, 2, 3, 1000], [1, 2, 3, 1000], [1, 1000, 1000, 1000]]
    assert labels["b"] == [[1, 1, VOID, 1000], [1, 1, 1, 1000], [VOID, 1000, 1000, VOID]]


def labelme(root, shapes, name="a", **changes):
    content = {"imagePath": f"{name}.jpg", "imageHeight": 4, "imageWidth": 6, "shapes": shapes, **changes}
    (root / "notes").mkdir(parents=True, exist_ok=True)
    (root / "notes" / f"{name}.json").write_text(json.dumps(content))
    return [*photos(root / "photos", ("a",), 4, 6), f"--annotations={root / 'notes'}"]


def test_labelme(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(mask, "PNG")
    encoded = base64.b64encode(mask.getvalue()).decode()
    shapes = [
        {"label": "car", "points": square(0, 0, 2, 2), "shape_type": "polygon", "group_id": 4},
        {"label": "car", "points": [[3, 0], [4, 2]], "shape_type": "rectangle", "group_id": 4},
        {"label": "bus", "points": square(0, 3, 6, 4), "shape_type": "polygon", "group_id": None},
        {"label": "bus", "points": [[4, 1], [5, 2]], "shape_type": "mask", "mask": encoded},
        {"label": "car", "points": [[0, 0], [5, 3]], "shape_type": "line"},
    ]  # fmt: skip
    labels, dataset = convert(tmp_path, *labelme(tmp_path / "raw", shapes))
    assert dataset.class_names == ("background", "bus", "car")
    assert labels["a"] == [
        [2001, 2001, 0, 2001, 0, 0],
        [2001, 2001, 0, 2001, 1002, 0],
        [0, 0, 0, 0, 1002, 1002],
        [1001] * 6,
    ]
    assert "shape 4 (car) is left out: it is a line" in (tmp_path / "out" / "report.html").read_text()


def test_labelme_stuff_leaves_the_rest_void(tmp_path):
    shapes = [{"label": "road", "points": square(0, 2, 6, 4)}, {"label": "car", "points": square(1, 1, 3, 3)}]
    labels, dataset = convert(tmp_path, *labelme(tmp_path / "raw", shapes), "--stuff=road")
    assert dataset.class_names == ("car", "road") and dataset.thing_ids == (0,)
    assert labels["a"][0] == [VOID] * 6 and labels["a"][2] == [1000, 1, 1, 1000, 1000, 1000]


def yolo(root, text="1 0 0 0.4 0 0.4 1 0 1\n\n0 0.8 0 1 0 1 0.5 0.8 0.5\n"):
    (root / "labels").mkdir(parents=True)
    (root / "labels" / "a.txt").write_text(text)
    (root / "data.yaml").write_text("path: x\nnames:\n  0: cat  # a comment\n  1: 'dog'\nnc: 2\n")
    return [*photos(root / "photos"), f"--annotations={root / 'labels'}"]


def test_yolo_seg(tmp_path):
    labels, dataset = convert(tmp_path, *yolo(tmp_path / "raw"))
    assert dataset.class_names == ("background", "cat", "dog")
    assert labels == {"a": [[2001, 2001, 0, 0, 1001], [2001, 2001, 0, 0, 0]], "b": [[0] * 5] * 2}


def test_yolo_mistakes(tmp_path, capsys):
    for k, (line, said) in enumerate(
        {
            "0 0.1 0.1 0.2 0.2": "line 1: a box",
            "0 1 2": "line 1: expected three points",
            "x 0 0 1 0 1 1": "line 1: expected a class and points, got 'x 0 0 1 0 1 1'",
            "0 0 0 7 0 7 7": "from 0 to 1, not 7",
            "3 0 0 1 0 1 1": "the class 3 is not in the list",
        }.items()
    ):
        flags = yolo(tmp_path / str(k), line)
        assert said in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")


def cvat(root, shapes, head=""):
    labels = "<label><name>cat</name><color>#0a0b0c</color></label><label><name>dog</name></label>"
    (root / "photos").mkdir(parents=True)
    text = f"""<?xml version="1.0"?>{head}<annotations><meta><task><labels>{labels}</labels></task></meta>
      <image id="0" name="sub/a.jpg" width="5" height="2">{shapes}</image></annotations>"""
    (root / "annotations.xml").write_text(text)
    return [*photos(root / "photos", ("sub/a",)), f"--annotations={root / 'annotations.xml'}"]


def test_cvat(tmp_path):
    shapes = """
      <polygon label="cat" points="0,0;5,0;5,2;0,2" z_order="0"/>
      <box label="dog" xtl="0" ytl="0" xbr="4" ybr="1" z_order="1"/>
      <mask label="cat" rle="1, 2, 1" left="3" top="0" width="2" height="2" z_order="2"/>
      <points label="cat" points="0,0"/>"""
    labels, dataset = convert(tmp_path, *cvat(tmp_path / "raw", shapes))
    assert dataset.class_names == ("background", "cat", "dog") and dataset.colors[1] == (10, 11, 12)
    assert labels == {"sub/a": [[2001, 2001, 2001, 2001, 1002], [1001, 1001, 1001, 1002, 1001]]}


def test_cvat_reads_no_definitions(tmp_path, capsys):
    flags = cvat(tmp_path / "raw", "", head='<!DOCTYPE a [<!ENTITY b "c">]>')
    assert "definitions of its own" in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")


def voc(root, objects=True):
    photos(root / "JPEGImages", ("a", "b", "c"))  # c has no maps
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 750 + [224, 224, 192]
    for name in ("a", "b"):
        image = Image.fromarray(np.array([[0, 15, 15, 255, 15], [0, 0, 1, 1, 1]], np.uint8), "P")
        image.putpalette(palette)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image.save(root / "SegmentationClass" / f"{name}.png")
        if objects:
            converters.save(root / "SegmentationObject" / f"{name}.png", [[0, 1, 1, 255, 2], [0, 0, 3, 3, 3]])
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, name in (("train", "a"), ("val", "b")):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{name}\n")
    return [f"--annotations={root}"]


def test_voc(tmp_path):
    labels, dataset = convert(tmp_path, *voc(tmp_path / "raw"))
    assert labels == {"a": [[0, 15001, 15001, VOID, 15002], [0, 0, 1001, 1001, 1001]]}
    assert dataset.num_classes == 21 and dataset.class_names[15] == "person" and 0 not in dataset.thing_ids
    assert list(convert(tmp_path, *voc(tmp_path / "again"), split="val")[0]) == ["b"]


def test_voc_without_objects(tmp_path):
    labels, dataset = convert(tmp_path, *voc(tmp_path / "raw", objects=False))
    assert labels["a"][0] == [0, 15000, 15000, VOID, 15000] and dataset.thing_ids == ()


def test_voc_of_cvat(tmp_path):
    """Coloured maps and their list of classes."""
    root = tmp_path / "raw"
    flags = [*photos(root / "JPEGImages", ("a",), 1, 4), f"--annotations={root}"]
    converters.save(root / "SegmentationClass" / "a.png", [[[0, 0, 0], [9, 0, 0], [9, 0, 0], [0, 9, 0]]])
    converters.save(root / "SegmentationObject" / "a.png", [[[0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]]])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:9,0,0::\ndog:0,9,0::\n"
    )
    labels, dataset = convert(tmp_path, *flags)
    assert labels == {"a": [[0, 1001, 1002, 2001]]} and dataset.class_names == ("background", "cat", "dog")


# What the shared tests and these have in common is one command; the formats are told apart by what is there.
TREES = {
    "coco_panoptic": coco_panoptic,
    "coco_instances": coco_instances,
    "semantic_png": semantic_png,
    "yolo_seg": yolo,
    "voc": voc,
    "cvat": lambda root: cvat(root, ""),
    "labelme": lambda root: labelme(root, []),
}


@pytest.mark.parametrize("name", TREES)
def test_the_format_is_found_out(name, tmp_path, capsys):
    flags = [flag for flag in TREES[name](tmp_path / "raw") if not flag.startswith("--classes")]
    if name == "labelme":
        flags.append("--classes=cat")
    assert converters.run(own, *flags, f"--output_dir={tmp_path / 'out'}") == 0
    assert f"\n{name}: " in capsys.readouterr().out


def test_no_format(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    flags = [*photos(tmp_path / "photos"), f"--annotations={tmp_path / 'notes'}", f"--output_dir={tmp_path / 'out'}"]
    text = error(capsys, *flags)
    assert "is of no known format" in text and "labelme: folder of JSON files" in text


def test_splits_depend_on_names_alone(tmp_path):
    root = tmp_path / "raw"
    names = [f"{k:03d}" for k in range(40)]
    flags = [*photos(root / "photos", names, 1, 2)[:1], f"--annotations={root / 'maps'}"]
    for name in names:
        converters.save(root / "maps" / f"{name}.png", [[0, 1]])
    val = set(convert(tmp_path, *flags, "--val_share=0.2", split="val")[0])
    assert 3 <= len(val) <= 14
    for name in names[:20]:  # the other images stay where they were
        (root / "photos" / f"{name}.jpg").unlink()
        (root / "maps" / f"{name}.png").unlink()
    fewer = set(convert(tmp_path, *flags, "--val_share=0.2", split="val")[0])
    assert fewer == val - set(names[:20])


def test_folders_of_splits(tmp_path):
    for split in ("train", "val"):
        photos(tmp_path / "photos" / split, ("a", "b"), 1, 2)
        for name in ("a", "b"):
            converters.save(tmp_path / "maps" / split / f"{name}.png", [[0, 1]])
    flags = [f"--images={tmp_path / 'photos'}", f"--annotations={tmp_path / 'maps'}"]
    assert list(convert(tmp_path, *flags)[0]) == ["a", "b"]
    given = [f"--images={tmp_path / 'photos' / 'train'}", f"--annotations={tmp_path / 'maps' / 'train'}"]
    given += [f"--val_images={tmp_path / 'photos' / 'val'}", f"--val_annotations={tmp_path / 'maps' / 'val'}"]
    assert list(convert(tmp_path, *given, split="val")[0]) == ["a", "b"]


def test_bad_images_stop_it_or_are_left_out(tmp_path, capsys):
    root = tmp_path / "raw"
    flags = [
        *photos(root / "photos", "abcdef", 1, 2),
        f"--annotations={root / 'maps'}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    for name in "abcdg":
        converters.save(root / "maps" / f"{name}.png", [[0, 1]])
    converters.save(root / "maps" / "b.png", [[0], [1]])  # sides swapped
    (root / "photos" / "c.jpg").write_bytes((root / "photos" / "c.jpg").read_bytes()[:50])
    text = error(capsys, *flags)
    assert "no annotation" in text and "e.png (and 2 more). --skip_bad leaves such images out" in text
    assert not (tmp_path / "out").exists()
    assert converters.run(own, *flags, "--skip_bad") == 0
    assert "5 problems" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.html").read_text()
    for said in (
        "e.png",
        "f.png",
        "g.png: there is no image",
        "annotation is of 2 x 1 (sides swapped)",
        "c.jpg: not a",
    ):
        assert said in text
    assert len(converters.features(tmp_path / "out", "train")) == 2


def test_huge_images(tmp_path, capsys):
    flags = semantic_png(tmp_path / "raw")
    text = error(capsys, *flags, f"--output_dir={tmp_path / 'out'}", "--max_megapixels=0.000005")
    assert "a.jpg: 2 x 5 pixels are more than --max_megapixels=5e-06" in text


def sideways(path, height=5, width=2):
    """Stored as width x height, to be shown as height x width."""
    pixels = np.zeros((width, height, 3), np.uint8)
    pixels[:, :2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=100)


@pytest.mark.parametrize("shape, turned", [((5, 2), True), ((2, 5), False)])
def test_exif_orientation_follows_the_label(shape, turned, tmp_path):
    sideways(tmp_path / "photos" / "a.jpg")
    converters.save(tmp_path / "maps" / "a.png", np.zeros(shape))
    flags = [f"--images={tmp_path / 'photos'}", f"--annotations={tmp_path / 'maps'}", "--val_share=0"]
    labels, _ = convert(tmp_path, *flags)
    features = converters.features(tmp_path / "out", "train")[0]
    assert np.shape(labels["a"]) == shape == (features[example.HEIGHT], features[example.WIDTH])
    with Image.open(io.BytesIO(features[example.IMAGE])) as image:
        assert image.size == shape[::-1] and image.getexif().get(0x0112, 1) == (1 if turned else 6)
        pixels = np.asarray(image).astype(int).sum(axis=-1)
    assert pixels[0, 0] > pixels[-1, -1]  # turned right: the left end is now the upper one
    assert "EXIF" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_outside_is_read(tmp_path, capsys):
    converters.save(tmp_path / "secret.png", image_trees.colored(image_trees.IDS))
    converters.save(tmp_path / "secret.jpg", PICTURE(9))
    for k, name in enumerate(("../../../secret.png", str(tmp_path / "secret.png"))):
        flags = coco_panoptic(tmp_path / str(k))
        path = tmp_path / str(k) / "annotations" / "panoptic_val2017.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["file_name"] = name
        path.write_text(json.dumps(content))
        assert "leads out of" in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    flags = coco_panoptic(tmp_path / "link")
    png = tmp_path / "link" / "annotations" / "panoptic_val2017" / "000000000009.png"
    png.unlink()
    png.symlink_to(tmp_path / "secret.png")
    assert "is a link that leads out of" in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    flags = semantic_png(tmp_path / "images")
    (tmp_path / "images" / "photos" / "z.jpg").symlink_to(tmp_path / "secret.jpg")
    assert "z.jpg is a link that leads out of" in error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_bad_flags(tmp_path, capsys):
    flags = [*semantic_png(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert "--things: this format has no instances" in error(capsys, *flags, "--things=2")
    assert "--stuff: 'sky' is no class; the classes are class_0" in error(capsys, *flags, "--stuff=2,sky")
    assert "--name: expected letters" in error(capsys, *flags, "--name=../x")
    assert "--background=class" in error(capsys, *flags, "--background=class")
    assert "--no_instance: expected" in error(capsys, *flags, "--no_instance=some")
    assert "--val_annotations needs --val_images" in error(capsys, *flags, "--val_annotations=x")
    assert "two classes are named 'a'" in error(capsys, *flags, "--classes=a,a,b,c,d,e,f,g")
    assert not (tmp_path / "out").exists()


def test_the_config_fits_the_data(tmp_path):
    convert(tmp_path, *semantic_png(tmp_path / "raw"), "--name=mine")
    out = tmp_path / "out"
    text = (out / "config.textproto").read_text()
    options = config.load(out / "config.textproto")
    assert options.experiment_name == "mine"
    assert options.train_dataset_options.dataset == str(out / "classes.json")
    assert list(options.train_dataset_options.crop_size) == [33, 33]
    assert options.model_options.max_deeplab.auxiliary_semantic_head.output_channels == 3
    assert "there are no validation records" in text  # then evaluation reads those of training
    config.check(options, "train_and_eval")
    assert architectures.dataset_of(options).class_names == ("class_0", "class_2", "class_7")
    assert architectures.dataset_of(options).name == "mine"


def test_crop_and_slots():
    assert experiment.crop_size([(427, 640), (640, 427)], 641) == (641, 641)
    assert experiment.crop_size([(1024, 2048)], 641) == (321, 641)
    assert experiment.crop_size([(1024, 2048)], 2049) == (1025, 2049)
    assert experiment.crop_size([(100, 33)], 641) == (129, 33)
    assert experiment.crop_size([(4, 5)], 641) == (33, 33)
    assert [experiment.num_slots(n, 1000) for n in (1, 10, 11, 50, 5000)] == [16, 16, 32, 128, 999]


def test_report(tmp_path):
    convert(tmp_path, *coco_instances(tmp_path / "raw"))
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<img") == 4 and "<script" not in text and "http" not in text
    assert "2 train" in text and "2 things, 1 stuff" in text and "</i>dog</td>" in text
    assert "2 x 5: 2" in text


def test_report_samples_cover_the_classes():
    seen = [own.inspection.Seen(name, segments=dict.fromkeys(kinds, 1)) for name, kinds in
            (("a", [1]), ("b", [1, 2]), ("c", [2]), ("d", [3]), ("e", [1, 2]))]  # fmt: skip
    assert page.choose(list("abcde"), seen, 3) == ["b", "d", "e"]


def test_a_pixel_belongs_to_a_polygon_by_its_centre():
    triangle = regions.fill([0, 0, 4, 0, 0, 4], (4, 5))
    assert triangle.astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert regions.fill([0, 4, 4, 0, 0, 0], (4, 5)).tolist() == triangle.tolist()  # either way round
    assert regions.fill([-9, -9, 99, -9, 99, 99, -9, 99], (2, 3)).all()
    assert regions.fill([0.6, 0, 2.4, 0, 2.4, 1, 0.6, 1], (1, 3)).tolist() == [[False, True, False]]
    # Where it crosses itself both parts count: two triangles that meet in the middle.
    hourglass = regions.fill([0, 0, 6, 0, 0, 4, 6, 4], (4, 6)).astype(int).tolist()
    assert hourglass == [[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="three points"):
        regions.fill([0, 0, 1, 1], (2, 2))


def test_neighbouring_polygons_share_no_pixel():
    left = regions.fill([0, 0, 2.5, 0, 3.5, 6, 0, 6], (6, 6))
    right = regions.fill([2.5, 0, 6, 0, 6, 6, 3.5, 6], (6, 6))
    assert (left ^ right).all()


def test_coco_runs():
    assert regions.coco_runs("52203", "x") == (5, 2, 2, 2, 5)
    with pytest.raises(ValueError, match="end too soon"):
        regions.coco_runs("5P", "x")
    encode = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((40, 50), np.uint8)
    mask[3:30, 7:21] = 1
    mask[10:12, 40] = 1
    text = encode.encode(np.asfortranarray(mask))["counts"].decode()
    region = regions.Region(1, runs=regions.coco_runs(text, "x"))
    assert np.array_equal(regions.mask(region, (40, 50)), mask == 1)


def test_yaml_names():
    expected = [classes.Class(0, "cat"), classes.Class(1, "big dog")]
    for text in ("names: [cat, 'big dog']", "nc: 2\nnames:\n- cat\n- big dog\nother: 1", "names: {0: cat, 1: big dog}"):
        assert classes.from_yaml(text, "x") == expected
    assert classes.from_yaml("names:\n  1: big dog\n  0: cat\n", "x") == expected
    with pytest.raises(ValueError, match="no names"):
        classes.from_yaml("train: x", "x")


def test_palette_has_no_colour_twice():
    assert len(set(classes.palette(150))) == 150


@pytest.mark.parametrize("name", ["panoptic", "stuff"])
def test_real_samples(name, tmp_path):
    if name == "panoptic":
        root = shared.path("data", "coco_panoptic_sample")
        flags = [f"--images={root / 'input_images'}", f"--annotations={root / 'panoptic_examples.json'}"]
        counts, num_classes = (1, 1), 133
    else:
        root = shared.path("data", "coco_stuff_sample")
        flags = []
        for prefix, split in (("", "train"), ("val_", "val")):
            flags += [f"--{prefix}images={root / f'{split}_img'}", f"--{prefix}annotations={root / f'{split}_inst'}"]
            flags += [f"--{prefix}semantic_dir={root / f'{split}_label'}"]
        flags += ["--no_instance=class", "--stuff=91-181"]
        counts, num_classes = (13, 8), 87
    out = tmp_path / "out"
    assert converters.run(own, *flags, f"--output_dir={out}", "--label_format=zlib") == 0
    dataset = datasets.lookup(str(out / "classes.json"))
    assert dataset.num_classes == num_classes and dataset.thing_ids and dataset.stuff_ids
    for split, count in zip(("train", "val"), counts):
        found = converters.features(out, split)
        assert len(found) == count
        for features in found:
            size = features[example.HEIGHT], features[example.WIDTH]
            label = example.decode_map(features[example.LABEL], "zlib", size)
            assert set(np.unique(label // 1000).tolist()) <= {*range(num_classes), 255}
            assert (label % 1000 > 0).any()
    assert config.check(config.load(out / "config.textproto"), "train_and_eval") == []
