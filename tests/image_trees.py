"""Small raw image data sets in their true layouts, with labels that can be checked by hand.

A function `<data set>(root)` writes the files below `root` and returns the flags that convert them.
"""

import json

import numpy as np

from tests import converters

# The label of every panoptic image, row by row: two segments of one class, pixels of no segment, a crowd; another thing
# and stuff. What they become: see `panoptic_label`.
IDS = [[300, 300, 70000, 0, 5], [7, 7, 8, 8, 5]]


def panoptic_segments(thing, other_thing, stuff, **changes):
    """`segments_info` of IDS with these categories; instances count in the order of this list."""
    entries = [(70000, thing, 1, 0), (300, thing, 2, 0), (5, thing, 2, 1), (7, other_thing, 2, 0), (8, stuff, 2, 0)]
    found = [dict(zip(("id", "category_id", "area", "iscrowd"), entry)) for entry in entries]
    found[0].update(changes)
    return found


def panoptic_label(thing, other_thing, stuff, *, divisor, ignore):
    """IDS as panoptic ids, with the classes of the three categories; crowd is void."""
    void = ignore * divisor
    return [
        [thing * divisor + 2, thing * divisor + 2, thing * divisor + 1, void, void],
        [other_thing * divisor + 1, other_thing * divisor + 1, stuff * divisor, stuff * divisor, void],
    ]


def colored(ids):
    """Segment ids -> RGB."""
    ids = np.asarray(ids)
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)


def picture(value, height=2, width=5):
    """An image of one colour."""
    return np.full((height, width, 3), value)


def _panoptic(json_path, png_dir, rows, *, images=(), **changes):
    """An annotation file: rows of (image id, file name of the PNG, segments), in reverse order, and their PNGs."""
    for _, file_name, _ in rows:
        converters.save(png_dir / file_name, colored(IDS))
    annotations = [
        {"image_id": image_id, "file_name": file_name, "segments_info": segments, **changes}
        for image_id, file_name, segments in reversed(rows)
    ]
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps({"images": list(images), "annotations": annotations}))


def coco(root, names=("000000000009", "000000000025", "000000000030"), split="val", **changes):
    """`changes` replace fields of the annotations."""
    for k, name in enumerate(names):
        converters.save(root / f"{split}2017" / f"{name}.jpg", picture(90 + k))
    labels = root / "annotations" / f"panoptic_{split}2017"
    rows = [(int(name), f"{name}.png", panoptic_segments(1, 18, 187)) for name in names]
    images = [{"id": int(name), "file_name": f"{name}.jpg", "height": 2, "width": 5} for name in names]
    _panoptic(labels.with_suffix(".json"), labels, rows, images=images, **changes)
    return [f"--coco_root={root}"]


def coconut(root, **changes):
    """Images of two folders, one of them with folders of its own, and one image that is not annotated."""
    names = {"000000000009": "train2017", "000000000030": "train2017", "000000000025": "unlabeled2017"}
    for k, (name, folder) in enumerate(names.items()):
        converters.save(root / "coco" / folder / f"{name}.jpg", picture(90 + k))
    converters.save(root / "objects365" / "patch7" / "objects365_v2_00000001.jpg", picture(99))
    annotated = {"000000000009": 9, "000000000025": 25, "objects365_v2_00000001": 1}
    images = [{"id": 9, "file_name": "000000000009.jpg"}, {"id": 25, "file_name": "000000000025.jpg"}]
    images += [{"id": 1, "file_name": "patch7/objects365_v2_00000001.jpg"}]
    rows = [(number, f"{name}.png", panoptic_segments(1, 18, 187)) for name, number in annotated.items()]
    _panoptic(root / "coconut_b.json", root / "coconut_b", rows, images=images, **changes)
    folders = [root / "coco" / "train2017", root / "coco" / "unlabeled2017", root / "objects365"]
    return [
        "--split=train_b",
        f"--panoptic_json={root / 'coconut_b.json'}",
        f"--panoptic_dir={root / 'coconut_b'}",
        f"--image_dirs={','.join(map(str, folders))}",
    ]


CITYSCAPES_CLASSES = [[0, 7, 255, 255, 11], [13, 13, 0, 0, 11]]


def cityscapes(root, splits=("train", "val", "test"), **changes):
    """Three images of two cities in every split; categories are train ids: person 11, car 13, road 0."""
    names = ("bochum_000000_000313", "aachen_000001_000019", "aachen_000000_000019")
    for split in splits:
        for k, name in enumerate(names):
            city = name.split("_")[0]
            converters.save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture(50 + k))
            if split != "test":
                classes = root / "gtFine" / split / city / f"{name}_gtFine_labelTrainIds.png"
                converters.save(classes, CITYSCAPES_CLASSES)
        if split != "test":
            labels = root / "gtFine" / f"cityscapes_panoptic_{split}_trainId"
            rows = [(name, f"{name}_gtFine_panoptic.png", panoptic_segments(11, 13, 0)) for name in names]
            _panoptic(labels.with_suffix(".json"), labels, rows, **changes)
    return [f"--cityscapes_root={root}", "--nocheck_counts"]


def ade20k(root, **changes):
    """Categories are classes less one: person 12, car 20, sky 2; areas are wrong on purpose."""
    for split, folder in (("train", "training"), ("val", "validation")):
        names = [f"ADE_{split}_0000000{k}" for k in range(1, 4)]
        for k, name in enumerate(names):
            converters.save(root / "images" / folder / f"{name}.jpg", picture(70 + k))
        labels = root / f"ade20k_panoptic_{split}"
        rows = [(name, f"{name}.png", panoptic_segments(12, 20, 2, area=99)) for name in names]
        _panoptic(labels.with_suffix(".json"), labels, rows, **changes)
    return [f"--ade20k_root={root}"]


def mapillary_vistas(root, **changes):
    """Categories are classes plus one: person 20, car 56, sky 28."""
    for folder in ("training", "validation", "testing"):
        names = [f"{folder}_{k}" for k in "cab"]
        for k, name in enumerate(names):
            converters.save(root / folder / "images" / f"{name}.jpg", picture(30 + k))
        if folder != "testing":
            rows = [(name, f"{name}.png", panoptic_segments(20, 56, 28)) for name in names]
            _panoptic(root / folder / "panoptic" / "panoptic_2018.json", root / folder / "panoptic", rows, **changes)
    return [f"--vistas_root={root}"]


# Two cars, one of them a single pixel, a bicyclist that touches a car, sky, unlabelled.
CAMVID_IDS = [[8, 8, 0, 8], [8, 8, 0, 0], [10, 0, 11, 11]]


def camvid(root, names=("0001TP_000010", "0001TP_000020", "Seq05_000005"), images="images", labels="labels"):
    """The k-th label is CAMVID_IDS, rolled by k columns; the k-th image has the colour 10 k."""
    for k, name in enumerate(names):
        converters.save(root / images / f"{name}.png", picture(10 * k, 3, 4))
        converters.save(root / labels / f"{name}.png", np.roll(CAMVID_IDS, k, axis=1))
    return [f"--camvid_root={root}", "--split=val"]


def davis(root, sequences=("bear", "camel"), num_frames=3):
    """A square that moves to the right."""
    for k, name in enumerate(sequences):
        for t in range(num_frames):
            converters.save(root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg", picture(40 * k + 10 * t, 4, 6))
            mask = np.zeros((4, 6))
            mask[1:3, t : t + 2] = 255
            converters.save(root / "Annotations" / "480p" / name / f"{t:05d}.png", mask)
    return [f"--davis_root={root}"]


NYUD_CLASSES = [[1, 40, 0], [5, 5, 2]]
NYUD_MILLIMETRES = [[0, 1000, 2500], [9999, 1, 4000]]  # 0 has no depth
NYUD_NORMALS = [[[0, 0, 0], [255, 128, 128], [128, 128, 128]], [[128, 128, 0], [128, 255, 128], [217, 217, 128]]]


def nyud_v2(root, splits=(("train", ("00003", "00001")), ("test", ("00002", "00004"))), normals=True):
    """The same maps for every image."""
    for split, names in splits:
        for name in names:
            converters.save(root / "images" / f"{name}.png", picture(int(name), 2, 3))
            converters.save(root / "labels" / f"{name}.png", NYUD_CLASSES)
            converters.save16(root / "depths" / f"{name}.png", NYUD_MILLIMETRES)
            if normals:
                converters.save(root / "normals" / f"{name}.png", NYUD_NORMALS)
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    return [f"--nyud_root={root}"]


def synthetic(root):
    """It reads nothing."""
    return ["--num_train=3", "--num_val=1", "--height=33", "--width=65"]


def own(root, names=("cat", "ant", "dog")):
    """Class maps, with one value of no class."""
    for k, name in enumerate(names):
        converters.save(root / "photos" / f"{name}.jpg", picture(60 + k))
        converters.save(root / "maps" / f"{name}.png", [[0, 0, 2, 255, 2], [7, 7, 0, 0, 0]])
    return [f"--images={root / 'photos'}", f"--annotations={root / 'maps'}", "--val_share=0"]


# What the shared tests run: name of the converter, its tree, records per split.
CASES = (
    converters.Case("coco", coco, {"val": 3}),
    converters.Case("coconut", coconut, {"train_b": 3}),
    converters.Case("cityscapes", cityscapes, {"train": 3, "val": 3, "test": 3}),
    converters.Case("ade20k", ade20k, {"train": 3, "val": 3}),
    converters.Case("mapillary_vistas", mapillary_vistas, {"train": 3, "val": 3, "test": 3}),
    converters.Case("camvid", camvid, {"val": 3}),
    converters.Case("davis", davis, {"val": 6}),
    converters.Case("nyud_v2", nyud_v2, {"train": 2, "test": 2}),
    converters.Case("synthetic", synthetic, {"train": 3, "val": 1}),
    converters.Case("own", own, {"train": 3}, ("classes.json", "config.textproto", "report.html")),
)
