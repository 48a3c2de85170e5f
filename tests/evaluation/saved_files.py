"""Small videos with depth, written in every format that evaluation/evaluate.py reads."""

import json

import numpy as np
from PIL import Image

from deeplab2_kmax.data import datasets

DATASET = datasets.lookup("cityscapes_dvps")
DIVISOR, VOID = DATASET.label_divisor, DATASET.ignore_label
SEQUENCES = {"000000": 4, "000001": 1}  # frames


def video(seed, *, change=0.0):
    """Frame (sequence, frame) -> panoptic labels and depth in metres; `change`: share of blocks that are drawn anew.

    Labels are roads, cars with tracks, a crowd of persons and void.
    """
    drawn = [0, 2000, 13001, 13002, 13300, 11000, 11004, VOID * DIVISOR]
    base, noise = np.random.default_rng(7), np.random.default_rng(seed)
    found = {}
    for sequence, length in SEQUENCES.items():
        blocks = base.choice(drawn, (6, 8))
        for frame in range(length):
            blocks = np.where(base.uniform(size=blocks.shape) < 0.2, base.choice(drawn, blocks.shape), blocks)
            depth = base.integers(0, 4, blocks.shape) * 640
            other = noise.uniform(size=blocks.shape) < change
            labels = np.where(other, noise.choice(drawn, blocks.shape), blocks)
            stored = np.where(other, noise.integers(1, 4, blocks.shape) * 512, depth)
            labels, stored = (np.kron(each, np.ones((12, 12), int)) for each in (labels, stored))
            found[sequence, frame] = labels.astype(np.int32), (stored / 256).astype(np.float32)
    return found


def png(path, values, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values).astype(dtype)).save(path)


def classes_of(labels):
    return labels // DIVISOR


def step(folder, frames):
    for (sequence, frame), (labels, _) in frames.items():
        instances = labels % DIVISOR
        channels = np.stack([classes_of(labels), instances // 256, instances % 256], axis=-1)
        png(folder / sequence / f"{frame:06d}.png", channels, np.uint8)
    return folder


def arrays(folder, frames):
    for (sequence, frame), (labels, _) in frames.items():
        (folder / sequence).mkdir(parents=True, exist_ok=True)
        values = np.stack([classes_of(labels), labels % DIVISOR, 0 * labels], axis=-1)
        np.save(folder / sequence / f"{frame:06d}.npy", values.astype(np.int32))
    return folder


def two_channels(folder, frames):
    """Instances above 255 do not fit: they become 255."""
    for (sequence, frame), (labels, _) in frames.items():
        channels = np.stack([classes_of(labels), np.minimum(labels % DIVISOR, 255), 0 * labels], axis=-1)
        png(folder / sequence / f"{frame:06d}.png", channels, np.uint8)
    return folder


def dvps_one_channel(folder, frames):
    for (sequence, frame), (labels, depth) in frames.items():
        start = f"{sequence}_{frame:06d}_town_gtFine"
        png(folder / f"{start}_instanceTrainIds.png", labels, np.uint16)
        png(folder / f"{sequence}_{frame:06d}_town_depth.png", depth * 256, np.uint16)
    return folder


def dvps_three_files(folder, frames):
    for (sequence, frame), (labels, depth) in frames.items():
        png(folder / f"{sequence}_{frame:06d}_cat.png", classes_of(labels), np.uint8)
        png(folder / f"{sequence}_{frame:06d}_ins.png", labels % DIVISOR, np.uint16)
        png(folder / f"{sequence}_{frame:06d}_depth_707.0912.png", depth * 256, np.uint16)
    return folder


def class_png(folder, frames):
    for (sequence, frame), (labels, _) in frames.items():
        png(folder / sequence / f"{frame:06d}.png", classes_of(labels), np.uint8)
    return folder


def depth_png(folder, frames, scale=256):
    for (sequence, frame), (_, depth) in frames.items():
        png(folder / sequence / f"{frame:06d}.png", depth * scale, np.uint16)
    return folder


def coco_panoptic(folder, frames, prefix=""):
    """A JSON file and its folder; ids of categories are those of Cityscapes, a class 13 is category 26."""
    annotations = []
    for (sequence, frame), (labels, _) in frames.items():
        name = f"{prefix}{sequence}_{frame:06d}"
        present, numbers = np.unique(labels, return_inverse=True)
        ids = np.where(classes_of(present) == VOID, 0, 70000 + np.arange(len(present)))
        numbers = ids[numbers].reshape(labels.shape)
        png(folder / f"{name}.png", np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1), np.uint8)
        segments = [
            {
                "id": int(number),
                "category_id": DATASET.eval_ids[label // DIVISOR],
                "iscrowd": int(label // DIVISOR in DATASET.thing_ids and label % DIVISOR == 0),
                "area": int((numbers == number).sum()),
            }
            for number, label in zip(ids, present)
            if number
        ]
        annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
    categories = [
        {"id": k, "name": DATASET.class_names[i], "isthing": int(i in DATASET.thing_ids)}
        for i, k in enumerate(DATASET.eval_ids)
    ]
    path = folder.with_suffix(".json")
    path.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return path


def label_ids(folder, frames, *, ending="_gtFine_labelIds.png"):
    """Cityscapes: the evaluation id of every class; void is "caravan", which is none."""
    table = np.full(256, 29)
    table[: len(DATASET.eval_ids)] = DATASET.eval_ids
    for (sequence, frame), (labels, _) in frames.items():
        png(folder / "town" / f"town_{sequence}_{frame:06d}{ending}", table[classes_of(labels)], np.uint8)
    return folder
