"""Running a converter in a test, and reading what it wrote the way training does."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import datasets, pipeline, record_index, records
from deeplab2_kmax.protos import dataset_pb2


class Case(NamedTuple):
    """How the tests that all converters share (test_all_converters.py) run one of them."""

    name: str  # of the module
    make_tree: Callable[[pathlib.Path], Sequence[str]]  # writes raw data below a folder, returns the flags
    num_records: dict[str, int]  # of every split; the first has two or more
    more_files: tuple[str, ...] = ()  # that it writes beside shards and manifests


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


def save16(path, pixels) -> None:
    """Writes a PNG of one channel with 16 bits, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint16)).save(path)


def features(folder, split) -> list[dict]:
    """The features of every record as they stand there, in order."""
    found = []
    for data in tf.data.TFRecordDataset(record_index.find_files([str(folder / f"{split}-*.tfrecord")])):
        parsed = tf.train.Example.FromString(data.numpy()).features.feature
        found.append({key: (value.bytes_list.value or value.int64_list.value)[0] for key, value in parsed.items()})
    return found


def manifest(folder, split) -> dict:
    """The manifest of a split."""
    return json.loads((folder / f"{split}.manifest.json").read_text())
