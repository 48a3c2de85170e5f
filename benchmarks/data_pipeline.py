"""Speed and memory of the training input pipeline: images a second into batches of 641x641 crops with mask targets."""

from __future__ import annotations

import io
import json
import os
import pathlib
import resource
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402

from deeplab2_kmax.data import datasets, pipeline, records  # noqa: E402
from deeplab2_kmax.protos import dataset_pb2  # noqa: E402

NUM_RECORDS = 32
HEIGHT, WIDTH = 480, 640
NUM_INSTANCES = 15
CROP = 641
BATCH_SIZE = 4

PLAIN = {"min_scale_factor": 0.3, "max_scale_factor": 1.7, "scale_factor_step_size": 0.1}
PUBLISHED = {
    **PLAIN,
    "autoaugment_policy_name": "simple_classification_policy",
    "panoptic_copy_paste": {"panoptic_copy_paste_scale": 0.5, "panoptic_copy_paste_thing_option": "all"},
}


def run(repeats: int = 3) -> dict:
    """Figures as a JSON-able dict: images per second (median over `repeats` runs of some batches) and peak memory.

    `plain` scales, crops and flips; `published` adds AutoAugment and copy-paste, as kMaX-DeepLab on COCO does.
    """
    figures: dict = {
        "crop": CROP,
        "batch_size": BATCH_SIZE,
        "image": [HEIGHT, WIDTH],
        "instances": NUM_INSTANCES,
        "cpus": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for label_format in (records.RAW, records.ZLIB):
            path = pathlib.Path(folder) / f"{label_format}.tfrecord"
            _write(path, label_format)
            figures[f"record_kilobytes_{label_format}"] = round(path.stat().st_size / NUM_RECORDS / 1024, 1)
            for name, augmentations in (("plain", PLAIN), ("published", PUBLISHED)):
                figures[f"images_per_second_{name}_{label_format}"] = _speed(path, augmentations, repeats)
    # ru_maxrss is in kilobytes on Linux and in bytes on macOS. It covers TensorFlow itself.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_memory_megabytes"] = round(peak / 1024 / (1024 if sys.platform == "darwin" else 1))
    return figures


def _speed(path: pathlib.Path, augmentations: dict, repeats: int) -> float:
    options = dataset_pb2.DatasetOptions(
        file_pattern=[str(path)],
        batch_size=BATCH_SIZE,
        crop_size=[CROP, CROP],
        min_resize_value=[CROP],
        max_resize_value=[CROP],
        thing_id_mask_annotations=True,
        augmentations=augmentations,
    )
    stream = pipeline.build_dataset(options, dataset=datasets.lookup("coco_panoptic"), training=True)
    batches = iter(stream)
    for _ in range(4):  # the pipeline warms up and fills its buffers
        next(batches)
    speeds = []
    num_batches = 8
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(num_batches):
            next(batches)
        speeds.append(num_batches * BATCH_SIZE / (time.perf_counter() - start))
    return round(statistics.median(speeds), 1)


def _write(path: pathlib.Path, label_format: str) -> None:
    """Pictures of coloured ellipses on smooth noise, as many instances as a full COCO image."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(NUM_RECORDS):
            image, label = _scene(np.random.default_rng(number))
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, format="JPEG", quality=90)
            writer.write(
                records.encode_example(encoded.getvalue(), label, filename=f"{number:06d}", label_format=label_format)
            )


def _scene(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    coarse = Image.fromarray(random.integers(0, 256, [HEIGHT // 8, WIDTH // 8, 3], np.uint8))
    image = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.BILINEAR)).copy()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    label = np.where(y < HEIGHT // 2, 119, 100).astype(np.int32) * 256
    for instance in range(1, NUM_INSTANCES + 1):
        radii = random.uniform(10, 90, 2)
        inside = ((y - random.uniform(0, HEIGHT)) / radii[0]) ** 2 + (
            (x - random.uniform(0, WIDTH)) / radii[1]
        ) ** 2 < 1
        label[inside] = random.integers(1, 81) * 256 + instance
        image[inside] = image[inside] // 2 + random.integers(0, 128, 3, np.uint8)
    return image, label


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
