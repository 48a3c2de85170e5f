"""Bring your own data: every format by labels one can check by hand, and its mistakes."""

import base64
import io
import json

import numpy as np
from PIL import Image

from tests import converters, image_trees, own_trees


def test_coco_panoptic(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.coco_panoptic(tmp_path / "raw"))
    expected = image_trees.panoptic_label(0, 1, 2, divisor=1000, ignore=255)
    assert labels == {"000000000009": expected, "000000000025": expected}
    assert dataset.class_names == ("person", "dog", "sky") and dataset.thing_ids == (0, 1)
    assert dataset.eval_ids == (1, 18, 187) and dataset.colors[2] == (1, 2, 3)
    assert (dataset.name, dataset.ignore_label, dataset.label_divisor) == ("own", 255, 1000)


def test_coco_instances(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.coco_instances(tmp_path / "raw"))
    row = [2001, 1001, 2001, 2001, own_trees.VOID]  # the smaller one lies on top; crowd is void
    assert labels == {"a": [row, row], "b": [[0] * 5] * 2}  # what no outline covers is background
    assert dataset.class_names == ("background", "dog", "cat") and dataset.thing_ids == (1, 2)


def test_background_may_be_void(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.coco_instances(tmp_path / "raw"), "--background=void")
    assert labels["b"] == [[own_trees.VOID] * 5] * 2 and dataset.class_names == ("dog", "cat")


def test_classes_choose_and_order_by_name(tmp_path, capsys):
    flags = own_trees.coco_instances(tmp_path / "raw")
    assert "the class 5 is not in the list of classes" in own_trees.error(
        capsys, *flags, "--classes=dog", f"--output_dir={tmp_path}"
    )
    labels, dataset = own_trees.convert(tmp_path, *flags, "--classes=cat,dog")
    assert dataset.class_names == ("background", "cat", "dog") and labels["a"][0][0] == 1001


def test_semantic_png(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.semantic_png(tmp_path / "raw"))
    assert labels["a"] == [[0, 0, 1000, own_trees.VOID, 1000], [2000, 2000, 0, 0, 0]]
    assert dataset.class_names == ("class_0", "class_2", "class_7") and dataset.thing_ids == ()
    assert dataset.eval_ids == (0, 2, 7)


def test_semantic_png_with_names(tmp_path, capsys):
    flags = [*own_trees.semantic_png(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    text = own_trees.error(capsys, *flags, "--classes=road,car,sky")
    assert "a_mask.png: 2 pixels have the value 7, which is no class; expected 0, 1, 2" in text
    assert "(and 1 more)" in text and "--skip_bad" in text
    labels, dataset = own_trees.convert(tmp_path, *flags, "--classes=road,car,sky", "--void_values=255,7")
    assert labels["a"] == [[0, 0, 2000, own_trees.VOID, 2000], [own_trees.VOID, own_trees.VOID, 0, 0, 0]]
    assert dataset.class_names == ("road", "car", "sky")


def test_semantic_png_in_colours(tmp_path, capsys):
    flags = own_trees.photos(tmp_path / "photos", ("a",), 1, 3)
    converters.save(tmp_path / "maps" / "a.png", [[[9, 9, 9], [0, 0, 255], [9, 9, 9]]])
    flags += [f"--annotations={tmp_path / 'maps'}"]
    assert "a.png has colours: expected one channel" in own_trees.error(
        capsys, *flags, f"--output_dir={tmp_path / 'out'}"
    )
    rows = [{"id": 0, "name": "blue", "color": [0, 0, 255]}, {"id": 1, "name": "grey", "color": [9, 9, 9]}]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    labels, dataset = own_trees.convert(tmp_path, *flags, f"--classes={tmp_path / 'classes.json'}")
    assert labels == {"a": [[1000, 0, 1000]]} and dataset.colors == ((0, 0, 255), (9, 9, 9))


def test_instance_png_alone(tmp_path):
    flags = own_trees.photos(tmp_path / "photos", ("a",))
    converters.save16(tmp_path / "maps" / "a.png", [[0, 0, 300, 300, 7], [0, 255, 255, 0, 7]])
    labels, dataset = own_trees.convert(tmp_path, *flags, f"--annotations={tmp_path / 'maps'}", "--format=instance_png")
    assert labels["a"] == [[0, 0, 1003, 1003, 1001], [0, 1002, 1002, 0, 1001]]
    assert dataset.class_names == ("background", "object") and dataset.thing_ids == (1,)


def test_instance_png_with_a_divisor(tmp_path):
    flags = own_trees.photos(tmp_path / "photos", ("a",))
    converters.save16(tmp_path / "maps" / "a.png", [[7, 7, 26001, 26000, 255], [7, 26, 26, 24003, 24003]])
    flags += [f"--annotations={tmp_path / 'maps'}", "--instance_divisor=1000", "--things=24-33"]
    labels, dataset = own_trees.convert(tmp_path, *flags, "--stuff=class_7")
    # A thing without an instance is void.
    assert labels["a"] == [[0, 0, 2002, 2001, own_trees.VOID], [0, own_trees.VOID, own_trees.VOID, 1001, 1001]]
    assert dataset.eval_ids == (7, 24, 26) and dataset.thing_ids == (1, 2)


def test_instance_png_with_class_maps(tmp_path):
    flags = own_trees.photos(tmp_path / "photos", ("a",))
    converters.save(tmp_path / "classes" / "a.png", [[3, 3, 3, 9, 9], [3, 3, 3, 9, 255]])
    converters.save(tmp_path / "maps" / "a.png", [[1, 1, 2, 0, 0], [1, 0, 2, 5, 5]])
    flags += [f"--annotations={tmp_path / 'maps'}", f"--semantic_dir={tmp_path / 'classes'}", "--stuff=9"]
    labels, _ = own_trees.convert(tmp_path, *flags)
    assert labels["a"] == [[1, 1, 2, 1000, 1000], [1, own_trees.VOID, 2, 1000, own_trees.VOID]]


def test_running_numbers_over_a_class_map(tmp_path):
    """The number of an instance may be that of its class: then the numbers have a gap there."""
    flags = own_trees.photos(tmp_path / "photos", ("a", "b"), 3, 4)
    converters.save(tmp_path / "classes" / "a.png", [[1, 1, 1, 9], [1, 1, 1, 9], [1, 9, 9, 9]])
    converters.save(tmp_path / "maps" / "a.png", [[0, 1, 2, 9], [0, 1, 2, 9], [0, 9, 9, 9]])  # 1 is an instance
    converters.save(tmp_path / "classes" / "b.png", [[1, 1, 1, 9], [1, 1, 1, 9], [1, 9, 9, 1]])
    converters.save(tmp_path / "maps" / "b.png", [[0, 0, 1, 9], [0, 0, 0, 9], [1, 9, 9, 1]])  # 1 is the class
    flags += [f"--annotations={tmp_path / 'maps'}", f"--semantic_dir={tmp_path / 'classes'}", "--stuff=9"]
    labels, _ = own_trees.convert(tmp_path, *flags, "--no_instance=class")
    assert labels["a"] == [[1, 2, 3, 1000], [1, 2, 3, 1000], [1, 1000, 1000, 1000]]
    assert labels["b"] == [[1, 1, own_trees.VOID, 1000], [1, 1, 1, 1000], [own_trees.VOID, 1000, 1000, own_trees.VOID]]


def test_labelme(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(mask, "PNG")
    encoded = base64.b64encode(mask.getvalue()).decode()
    shapes = [
        {"label": "car", "points": own_trees.square(0, 0, 2, 2), "shape_type": "polygon", "group_id": 4},
        {"label": "car", "points": [[3, 0], [4, 2]], "shape_type": "rectangle", "group_id": 4},
        {"label": "bus", "points": own_trees.square(0, 3, 6, 4), "shape_type": "polygon", "group_id": None},
        {"label": "bus", "points": [[4, 1], [5, 2]], "shape_type": "mask", "mask": encoded},
        {"label": "car", "points": [[0, 0], [5, 3]], "shape_type": "line"},
    ]  # fmt: skip
    labels, dataset = own_trees.convert(tmp_path, *own_trees.labelme(tmp_path / "raw", shapes))
    assert dataset.class_names == ("background", "bus", "car")
    assert labels["a"] == [
        [2001, 2001, 0, 2001, 0, 0],
        [2001, 2001, 0, 2001, 1002, 0],
        [0, 0, 0, 0, 1002, 1002],
        [1001] * 6,
    ]
    assert "shape 4 (car) is left out: it is a line" in (tmp_path / "out" / "report.html").read_text()


def test_labelme_stuff_leaves_the_rest_void(tmp_path):
    shapes = [
        {"label": "road", "points": own_trees.square(0, 2, 6, 4)},
        {"label": "car", "points": own_trees.square(1, 1, 3, 3)},
    ]
    labels, dataset = own_trees.convert(tmp_path, *own_trees.labelme(tmp_path / "raw", shapes), "--stuff=road")
    assert dataset.class_names == ("car", "road") and dataset.thing_ids == (0,)
    assert labels["a"][0] == [own_trees.VOID] * 6 and labels["a"][2] == [1000, 1, 1, 1000, 1000, 1000]


def test_yolo_seg(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.yolo(tmp_path / "raw"))
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
        flags = own_trees.yolo(tmp_path / str(k), line)
        assert said in own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")


def test_cvat(tmp_path):
    shapes = """
      <polygon label="cat" points="0,0;5,0;5,2;0,2" z_order="0"/>
      <box label="dog" xtl="0" ytl="0" xbr="4" ybr="1" z_order="1"/>
      <mask label="cat" rle="1, 2, 1" left="3" top="0" width="2" height="2" z_order="2"/>
      <points label="cat" points="0,0"/>"""
    labels, dataset = own_trees.convert(tmp_path, *own_trees.cvat(tmp_path / "raw", shapes))
    assert dataset.class_names == ("background", "cat", "dog") and dataset.colors[1] == (10, 11, 12)
    assert labels == {"sub/a": [[2001, 2001, 2001, 2001, 1002], [1001, 1001, 1001, 1002, 1001]]}


def test_cvat_reads_no_definitions(tmp_path, capsys):
    flags = own_trees.cvat(tmp_path / "raw", "", head='<!DOCTYPE a [<!ENTITY b "c">]>')
    assert "definitions of its own" in own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")


def test_voc(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.voc(tmp_path / "raw"))
    assert labels == {"a": [[0, 15001, 15001, own_trees.VOID, 15002], [0, 0, 1001, 1001, 1001]]}
    assert dataset.num_classes == 21 and dataset.class_names[15] == "person" and 0 not in dataset.thing_ids
    assert list(own_trees.convert(tmp_path, *own_trees.voc(tmp_path / "again"), split="val")[0]) == ["b"]


def test_voc_without_objects(tmp_path):
    labels, dataset = own_trees.convert(tmp_path, *own_trees.voc(tmp_path / "raw", objects=False))
    assert labels["a"][0] == [0, 15000, 15000, own_trees.VOID, 15000] and dataset.thing_ids == ()


def test_voc_of_cvat(tmp_path):
    """Coloured maps and their list of classes."""
    root = tmp_path / "raw"
    flags = [*own_trees.photos(root / "JPEGImages", ("a",), 1, 4), f"--annotations={root}"]
    converters.save(root / "SegmentationClass" / "a.png", [[[0, 0, 0], [9, 0, 0], [9, 0, 0], [0, 9, 0]]])
    converters.save(root / "SegmentationObject" / "a.png", [[[0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]]])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:9,0,0::\ndog:0,9,0::\n"
    )
    labels, dataset = own_trees.convert(tmp_path, *flags)
    assert labels == {"a": [[0, 1001, 1002, 2001]]} and dataset.class_names == ("background", "cat", "dog")
