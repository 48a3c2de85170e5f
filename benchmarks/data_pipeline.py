"""Speed and memory of the training input pipeline with the augmentations of kMaX-DeepLab: CPU seconds of one sample."""

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
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402

from deeplab2_kmax.data import datasets, pipeline, record_index, records  # noqa: E402
from deeplab2_kmax.protos import dataset_pb2  # noqa: E402


class Scene(NamedTuple):
    """What the records of a data set look like and how they are augmented."""

    dataset: str
    image: tuple[int, int]
    image_format: str
    instances: int
    thing_ids: tuple[int, int]  # lowest and highest class of an instance
    stuff_ids: tuple[int, int]
    crop: tuple[int, int]
    options: dict  # of DatasetOptions, beside the augmentations
    scales: tuple[float, float]


SCENES = {
    "cityscapes_1025x2049": Scene(
        "cityscapes_panoptic", (1024, 2048), "PNG", 40, (11, 18), (0, 10), (1025, 2049), {}, (0.5, 2.0)
    ),
    "coco_1281": Scene(
        "coco_panoptic",
        (480, 640),
        "JPEG",
        15,
        (1, 80),
        (81, 133),
        (1281, 1281),
        {"min_resize_value": [1281], "max_resize_value": [1281]},
        (0.3, 1.7),
    ),
}
PASTE = {
    "panoptic_copy_paste_scale": 0.5,
    "panoptic_copy_paste_thing_option": "random",
    "panoptic_copy_paste_stuff_option": "random",
}
NUM_RECORDS = 8
NUM_INDEXED = 1000


def run(repeats: int = 3) -> dict:
    """Figures as a JSON-able dict.

    `cpu_seconds_per_sample` is the processor time of all threads together, so that other work on the machine counts
    little: the median over `repeats` runs of 16 samples, one sample at a time. `plain` scales, crops and flips,
    `published` adds AutoAugment and copy-paste. `index_megabytes` is what the order of 1000 records of a Cityscapes
    label's size adds to the process: no sample waits in a buffer to be shuffled.
    """
    figures: dict = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        for name, scene in SCENES.items():
            for label_format in (records.RAW, records.PNG32):
                path = pathlib.Path(folder) / f"{name}-{label_format}.tfrecord"
                _write(path, scene, label_format)
                row = {"record_kilobytes": round(path.stat().st_size / NUM_RECORDS / 1024, 1)}
                for kind in ("plain", "published"):
                    row[f"cpu_seconds_per_sample_{kind}"] = _seconds(path, scene, kind == "published", repeats)
                figures[f"{name}_{label_format}"] = row
        figures["index_megabytes_1000_records"] = _index_memory(pathlib.Path(folder))
    # ru_maxrss is in kilobytes on Linux and in bytes on macOS. It covers TensorFlow itself.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["peak_memory_megabytes"] = round(peak / 1024 / (1024 if sys.platform == "darwin" else 1))
    return figures


def samples(path: pathlib.Path, scene: Scene, *, published: bool) -> Iterator[dict]:
    """Training samples, batches of one, made one after the other."""
    augmentations: dict = {
        "min_scale_factor": scene.scales[0],
        "max_scale_factor": scene.scales[1],
        "scale_factor_step_size": 0.1,
    }
    if published:
        augmentations["autoaugment_policy_name"] = "simple_classification_policy"
        augmentations["panoptic_copy_paste"] = PASTE
    options = dataset_pb2.DatasetOptions(
        file_pattern=[str(path)],
        batch_size=1,
        crop_size=scene.crop,
        thing_id_mask_annotations=True,
        augmentations=augmentations,
        **scene.options,
    )
    stream = pipeline.build_dataset(
        options, dataset=datasets.lookup(scene.dataset), training=True, num_parallel_calls=1, prefetch=0
    )
    threads = tf.data.Options()
    threads.threading.private_threadpool_size = 1
    threads.threading.max_intra_op_parallelism = 1
    return iter(stream.with_options(threads))


def _seconds(path: pathlib.Path, scene: Scene, published: bool, repeats: int, num_samples: int = 16) -> float:
    stream = samples(path, scene, published=published)
    for _ in range(2):  # tracing, buffers
        next(stream)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(num_samples):
            next(stream)
        seconds.append((time.process_time() - start) / num_samples)
    return round(statistics.median(seconds), 3)


def _index_memory(folder: pathlib.Path) -> float:
    """Megabytes that the index of 1000 records with raw Cityscapes labels takes (their content does not matter)."""
    path = folder / "many.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(NUM_INDEXED):
            writer.write(b"\0" * 1024)
    index = record_index.build([str(path)])
    assert index.num_records == NUM_INDEXED
    return round(sum(part.nbytes for part in (index.file_ids, index.offsets, index.numbers)) / 2**20, 3)


def _write(path: pathlib.Path, scene: Scene, label_format: str) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(NUM_RECORDS):
            image, label = _draw(np.random.default_rng(number), scene)
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, format=scene.image_format, quality=90)
            writer.write(
                records.encode_example(encoded.getvalue(), label, filename=f"{number:06d}", label_format=label_format)
            )


def _draw(random: np.random.Generator, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Coloured ellipses on smooth noise."""
    height, width = scene.image
    divisor = datasets.lookup(scene.dataset).label_divisor
    coarse = Image.fromarray(random.integers(0, 256, [height // 8, width // 8, 3], np.uint8))
    image = np.asarray(coarse.resize((width, height), Image.BILINEAR)).copy()
    image += random.integers(0, 4, image.shape, np.uint8) & (255 - image)  # grain: decoding takes as long as of a photo
    y, x = np.mgrid[:height, :width].astype(np.float32)
    low, high = scene.stuff_ids
    label = (low + (8 * y / height).astype(np.int32) % (high - low + 1)) * divisor
    for instance in range(1, scene.instances + 1):
        radii = random.uniform(0.02, 0.15, 2) * height
        center = random.uniform(0, 1, 2) * scene.image
        inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 < 1
        label[inside] = random.integers(scene.thing_ids[0], scene.thing_ids[1] + 1) * divisor + instance
        image[inside] = image[inside] // 2 + random.integers(0, 128, 3, np.uint8)
    return image, label


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
