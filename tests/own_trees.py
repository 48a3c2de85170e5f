"""Small trees of a user's own data in every format that convert.own reads, and running it on them."""

import json

import numpy as np
from PIL import Image

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import own
from tests import converters, image_trees

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


def semantic_png(root):
    for name in ("a", "b"):
        converters.save(root / "maps" / f"{name}_mask.png", [[0, 0, 2, 255, 2], [7, 7, 0, 0, 0]])
    return [*photos(root / "photos"), f"--annotations={root / 'maps'}", "--annotation_suffix=_mask"]


def labelme(root, shapes, name="a", **changes):
    content = {"imagePath": f"{name}.jpg", "imageHeight": 4, "imageWidth": 6, "shapes": shapes, **changes}
    (root / "notes").mkdir(parents=True, exist_ok=True)
    (root / "notes" / f"{name}.json").write_text(json.dumps(content))
    return [*photos(root / "photos", ("a",), 4, 6), f"--annotations={root / 'notes'}"]


def yolo(root, text="1 0 0 0.4 0 0.4 1 0 1\n\n0 0.8 0 1 0 1 0.5 0.8 0.5\n"):
    (root / "labels").mkdir(parents=True)
    (root / "labels" / "a.txt").write_text(text)
    (root / "data.yaml").write_text("path: x\nnames:\n  0: cat  # a comment\n  1: 'dog'\nnc: 2\n")
    return [*photos(root / "photos"), f"--annotations={root / 'labels'}"]


def cvat(root, shapes, head=""):
    labels = "<label><name>cat</name><color>#0a0b0c</color></label><label><name>dog</name></label>"
    (root / "photos").mkdir(parents=True)
    text = f"""<?xml version="1.0"?>{head}<annotations><meta><task><labels>{labels}</labels></task></meta>
      <image id="0" name="sub/a.jpg" width="5" height="2">{shapes}</image></annotations>"""
    (root / "annotations.xml").write_text(text)
    return [*photos(root / "photos", ("sub/a",)), f"--annotations={root / 'annotations.xml'}"]


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
