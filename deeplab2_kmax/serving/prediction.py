"""The panoptic prediction for one picture: maps, a list of segments, a drawing, COCO panoptic files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from deeplab2_kmax import labels, visualize
from deeplab2_kmax.serving.classes import ClassTable

Array = Any  # np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model sees in one picture, at the picture's own size."""

    image: Array  # [H, W, 3] uint8
    panoptic: Array  # [H, W] int32, class id * label divisor + instance id
    semantic: Array  # [H, W] int32, class ids
    semantic_scores: Array  # [H, W] float32, the class probability of each pixel's segment
    instance_scores: Array  # [H, W] float32, the mask probability
    classes: ClassTable
    depth: Array | None = None  # [H, W] float32, metres, of models that tell it
    of_video: bool = False  # ids are those of tracks, and so are the colours

    @cached_property
    def segments(self) -> list[dict[str, Any]]:
        """The segments by panoptic id, void left out.

        id: value in `panoptic`; class_id, category_id: id of the class here, and in the data set's own files; name;
        isthing; area in pixels; score: mean class probability times mean mask probability; bbox: [x, y, width, height].
        """
        ids, inverse, areas = np.unique(self.panoptic, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        class_scores = np.bincount(inverse, self.semantic_scores.reshape(-1)) / areas
        mask_scores = np.bincount(inverse, self.instance_scores.reshape(-1)) / areas
        boxes = _boxes(inverse.reshape(self.panoptic.shape), len(ids))
        found = []
        for i, panoptic_id in enumerate(ids.tolist()):
            class_id = labels.class_of(panoptic_id, self.classes.label_divisor)
            if class_id == self.classes.ignore_label:
                continue
            found.append(
                {
                    "id": panoptic_id,
                    "class_id": class_id,
                    "category_id": self.classes.category_ids[class_id],
                    "name": self.classes.names[class_id],
                    "isthing": class_id in self.classes.thing_ids,
                    "area": int(areas[i]),
                    "score": float(class_scores[i] * mask_scores[i]),
                    "bbox": boxes[i],
                }
            )
        return found

    def draw(self, *, alpha: float = 0.6, names: bool = True) -> Array:
        """The picture with coloured segments, their outlines and their names: [H, W, 3] uint8."""
        known = np.where(self.panoptic == self.classes.void_id, -1, self.panoptic)  # class -1 has no colour
        colored = visualize.panoptic_colors(
            known,
            colors=self.classes.colors,
            thing_ids=self.classes.thing_ids,
            label_divisor=self.classes.label_divisor,
            of_video=self.of_video,
        )
        picture = visualize.overlay(self.image, colored, self.panoptic, alpha=alpha)
        if names:
            min_area = max(400, self.panoptic.size // 1000)
            texts = {segment["id"]: segment["name"] for segment in self.segments}
            picture = visualize.draw_names(picture, self.panoptic, texts, min_area=min_area)
        return picture

    def coco_ids(self) -> Array:
        """The COCO panoptic PNG [H, W, 3]: segment i (from 1) of `segments` has the id R + 256 G + 65536 B = i."""
        ids = np.zeros(self.panoptic.shape, np.int64)
        panoptic_ids = np.array([segment["id"] for segment in self.segments])
        if len(panoptic_ids):
            place = np.minimum(np.searchsorted(panoptic_ids, self.panoptic), len(panoptic_ids) - 1)
            ids = np.where(panoptic_ids[place] == self.panoptic, place + 1, 0)
        return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)

    def coco_annotation(self, file_name: str, image_id: int | str) -> dict[str, Any]:
        """The entry of this picture in the list `annotations` of a COCO panoptic file."""
        infos = [
            {
                "id": i + 1,
                "category_id": segment["category_id"],
                "area": segment["area"],
                "bbox": segment["bbox"],
                "iscrowd": 0,
                "score": round(segment["score"], 6),
            }
            for i, segment in enumerate(self.segments)
        ]
        return {"image_id": image_id, "file_name": file_name, "segments_info": infos}

    def save(self, folder: str | os.PathLike[str], name: str = "prediction") -> dict[str, pathlib.Path]:
        """Writes `<name>_overlay.png`, `<name>_panoptic.png` and `<name>_panoptic.json` (COCO panoptic format).

        Returns:
            The paths, by "overlay", "panoptic" and "json".
        """
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {
            "overlay": folder / f"{name}_overlay.png",
            "panoptic": folder / f"{name}_panoptic.png",
            "json": folder / f"{name}_panoptic.json",
        }
        Image.fromarray(self.draw()).save(paths["overlay"])
        Image.fromarray(self.coco_ids()).save(paths["panoptic"])
        height, width = self.panoptic.shape
        content = {
            "images": [{"id": name, "file_name": name, "height": height, "width": width}],
            "annotations": [self.coco_annotation(paths["panoptic"].name, name)],
            "categories": self.classes.categories(),
        }
        paths["json"].write_text(json.dumps(content) + "\n")
        return paths


def _boxes(numbers: Array, count: int) -> list[list[int]]:
    """[x, y, width, height] around each of the numbers 0 .. count - 1, which all occur in the map [H, W]."""
    height, width = numbers.shape
    boxes = []
    rows, columns = np.zeros((count, height), bool), np.zeros((count, width), bool)
    rows[numbers, np.arange(height)[:, None]] = True
    columns[numbers, np.arange(width)[None]] = True
    for i in range(count):
        ys, xs = np.flatnonzero(rows[i]), np.flatnonzero(columns[i])
        boxes.append([int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)])
    return boxes
