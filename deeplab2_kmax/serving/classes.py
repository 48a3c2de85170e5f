"""What a served model's ids mean; it travels inside the SavedModel's folder as a JSON file."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

from deeplab2_kmax.data import datasets

# SavedModel's own place for files that TensorFlow leaves alone.
FILE = pathlib.Path("assets.extra", "deeplab2_kmax.json")
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Classes by id, as far as a reader of predictions needs them."""

    dataset: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  # RGB
    thing_ids: tuple[int, ...]
    category_ids: tuple[int, ...]  # the data set's own ids, which its files and its official evaluation use
    ignore_label: int
    label_divisor: int

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> ClassTable:
        """The table of a data set."""
        return cls(
            dataset=dataset.name,
            names=dataset.class_names,
            colors=dataset.colors,
            thing_ids=dataset.thing_ids,
            category_ids=dataset.eval_ids,
            ignore_label=dataset.ignore_label,
            label_divisor=dataset.label_divisor,
        )

    @property
    def void_id(self) -> int:
        """The panoptic id of pixels without a segment."""
        return self.ignore_label * self.label_divisor

    def categories(self) -> list[dict[str, Any]]:
        """The list `categories` of a COCO panoptic file."""
        return [
            {
                "id": self.category_ids[i],
                "name": name,
                "isthing": int(i in self.thing_ids),
                "color": list(self.colors[i]),
            }
            for i, name in enumerate(self.names)
            if i != self.ignore_label
        ]


def write(folder: str | os.PathLike[str], table: ClassTable, **more: Any) -> None:
    """Puts a table, and whatever else describes the model, into a SavedModel's folder."""
    path = pathlib.Path(folder, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "classes": dataclasses.asdict(table), **more}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(folder: str | os.PathLike[str]) -> tuple[ClassTable, dict[str, Any]]:
    """The table in a SavedModel's folder and the whole description.

    Raises:
        ValueError: there is none, or it is not in the format.
    """
    path = pathlib.Path(folder, FILE)
    if not path.is_file():
        raise ValueError(
            f"{folder} says nothing about its classes ({FILE} is missing). If it was not exported by deeplab2_kmax, "
            "name its data set: Predictor(folder, dataset='coco_panoptic')."
        )
    try:
        content = json.loads(path.read_text())
        fields = content["classes"]
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        fields["colors"] = tuple(tuple(color) for color in fields["colors"])
        return ClassTable(**fields), content
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a file that deeplab2_kmax's export wrote, found {error!r}.") from None
