"""Times the scoring of saved predictions, 5000 images of 640x480 from disk, as COCO's validation set has them.

`python benchmarks/saved_predictions.py`. Files are made of a few drawn scenes, so that reading is as long as
ever and drawing is not. Each worker is one thread; the limit is 90 s on 2 cores.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from evaluation import evaluate

NUM_IMAGES, NUM_SCENES = 5000, 50
HEIGHT, WIDTH = 480, 640
NUM_SEGMENTS = 20
NUM_CLASSES = 133


def run(repeats: int = 1, num_images: int = NUM_IMAGES, num_workers: int = 2) -> dict[str, float]:
    """Seconds of one evaluation after another, the best of `repeats` (at most 2: they are long), and what it found."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        truth, prediction = write(folder, num_images)
        seconds = []
        for _ in range(min(repeats, 2)):
            begin = time.perf_counter()
            found = evaluate.evaluate("panoptic", truth, prediction, num_workers=num_workers)
            seconds.append(time.perf_counter() - begin)
    return {
        "panoptic_seconds": round(min(seconds), 2),
        "images_per_second": round(num_images / min(seconds), 1),
        "num_images": num_images,
        "num_workers": num_workers,
        "pq": found["summary"]["evaluation/pq/PQ"],
    }


def write(folder: pathlib.Path, num_images: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes ground truth and predictions in the COCO panoptic format; images of one scene are links to its PNG."""
    rng = np.random.default_rng(0)
    paths = folder / "truth.json", folder / "prediction.json"
    scenes = []
    for index in range(min(NUM_SCENES, num_images)):
        true = _scene(rng)
        scenes.append(
            [_save(folder / f"scene_{index}_{side}.png", ids) for side, ids in enumerate((true, _moved(true)))]
        )
    for side, path in enumerate(paths):
        pngs = path.with_suffix("")
        pngs.mkdir()
        annotations = []
        for index in range(num_images):
            png, segments = scenes[index % len(scenes)][side]
            name = f"{index:012d}.png"
            os.link(png, pngs / name)
            annotations.append({"image_id": index, "file_name": name, "segments_info": segments})
        categories = [{"id": i, "name": f"{i}", "isthing": int(i <= 80)} for i in range(1, NUM_CLASSES + 1)]
        path.write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return paths


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Ellipses before a background: segment ids [H, W]; the class of an id is `_category`."""
    ids = np.full((HEIGHT, WIDTH), 131, np.int32)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for segment in range(NUM_SEGMENTS):
        row, column = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        height, width = rng.integers(20, 160, 2)
        inside = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1 + 0.2 * np.sin(rows / 7.0)
        ids[inside] = 1000 * (segment + 1) + rng.integers(1, NUM_CLASSES + 1)
    return ids


def _moved(ids: np.ndarray) -> np.ndarray:
    return np.roll(ids, (3, 5), (0, 1))


def _save(path: pathlib.Path, ids: np.ndarray) -> tuple[pathlib.Path, list[dict]]:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path)
    present, areas = np.unique(ids, return_counts=True)
    segments = [
        {"id": i, "category_id": i % 1000, "iscrowd": 0, "area": area}
        for i, area in zip(present.tolist(), areas.tolist())
    ]
    return path, segments


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
