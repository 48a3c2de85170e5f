"""Running a converter in a test, and reading what it wrote the way training does."""

import hashlib

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import datasets, pipeline, record_index, records
from deeplab2_kmax.protos import dataset_pb2


def run(converter, *arguments) -> int:
    """Exit code of a converter's command line, in this process; no flag is left from an earlier run."""
    for name in converter._FLAGS:
        converter._FLAGS[name].unparse()
    return converter.main([converter.__name__.split(".")[-1] + ".py", "--num_processes=1", *map(str, arguments)])


def read(folder, split, **options) -> list[dict]:
    """The decoded examples of a split, in order."""
    files = record_index.find_files([str(folder / f"{split}-*.tfrecord")])
    record_index.build(files)  # agrees with the manifest
    return [records.parse_example(data, **options) for data in tf.data.TFRecordDataset(files)]


def batches(folder, split, dataset, crop_size) -> list[dict]:
    """What evaluation sees, one example a batch."""
    options = dataset_pb2.DatasetOptions(
        dataset=dataset, file_pattern=[str(folder / f"{split}-*.tfrecord")], batch_size=1, crop_size=crop_size
    )
    return list(pipeline.build_dataset(options, dataset=datasets.lookup(dataset), training=False))


def digests(folder) -> dict[str, str]:
    """SHA-256 of the shards by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def save(path, pixels, **options) -> None:
    """Writes a picture, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
