"""Records -> samples -> batches: files in, a tf.data.Dataset of dicts of tensors out (keys in targets/keys.py).

Every sample is a pure function of (seed, position in the stream): which record, which crop, what is pasted into it.
So a run can start at any batch and meet the very batches it would have met, hosts cut one global batch into equal
parts, and no buffer holds samples to shuffle: the order is a permutation of record numbers, new in every epoch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from deeplab2_kmax.data import datasets, preprocess, record_index, records, samples
from deeplab2_kmax.data.targets import keys
from deeplab2_kmax.protos import dataset_pb2

_LAST_POSITION = 2**62


def build_dataset(
    options: dataset_pb2.DatasetOptions,
    *,
    dataset: datasets.Dataset,
    training: bool,
    seed: int = 0,
    start_batch: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    replicas: int = 1,
    targets: Sequence[str] | None = None,
    num_parallel_calls: int = tf.data.AUTOTUNE,
    prefetch: int = 2,
) -> tf.data.Dataset:
    """The batches of one input pipeline.

    Training repeats for ever; evaluation goes through the records once, in order, and its last batch may be smaller.

    Args:
        options: files, sizes, augmentation. `batch_size` is the global one.
        dataset: what the labels mean.
        training: augmented and shuffled, or in order with raw labels.
        seed: of order and augmentation.
        start_batch: global batches to skip, at no cost: `start_batch=k` continues exactly where k batches ended.
        num_shards, shard: input pipelines (hosts) and which of them this is. The parts of all shards, joined, are the
            global batch.
        replicas: devices this pipeline feeds. Its part of a global batch comes as that many batches, one by one.
        targets: of samples.TARGETS; None: masks where thing_id_mask_annotations is set. Semantic ones are always made.
        num_parallel_calls, prefetch: samples in the making, and batches kept ready.

    Raises:
        ValueError: bad or unsupported options; files that are missing, empty or cut; records that lack a feature or
            whose labels do not fit the data set (some records are checked at once, the others when they are read, then
            as tf.errors.InvalidArgumentError that names file and record).
    """
    plan = samples.plan(options, dataset, training=training, targets=targets)
    part = _part_size(options.batch_size, num_shards, shard, replicas)
    if start_batch < 0 or seed < 0:
        raise ValueError(f"start_batch {start_batch} and seed {seed}: expected 0 or more")
    files = record_index.find_files(options.file_pattern)
    reader = Reader(record_index.build(files, allow_empty=dataset.empty_shards), plan, video=not training)
    reader.check_some()

    def position(number: tf.Tensor) -> tf.Tensor:
        """Where the n-th sample of this shard stands in the stream of all."""
        return number // part * options.batch_size + shard * part + number % part

    if training:
        numbers = tf.data.Dataset.range(start_batch * part, _LAST_POSITION)
        make = _training(reader, plan, seed)
    else:
        num_batches = -(-reader.num_records // options.batch_size)
        numbers = tf.data.Dataset.range(min(start_batch, num_batches) * part, num_batches * part)
        numbers = numbers.filter(lambda number: position(number) < reader.num_records)
        make = _evaluation(reader, plan)

    # Nothing in a sample is Python control flow over tensors: no need to rewrite it all.
    plain = tf.autograph.experimental.do_not_convert(lambda number: make(position(number)))
    stream = numbers.map(plain, num_parallel_calls=num_parallel_calls)
    if training:
        stream = stream.batch(part // replicas, drop_remainder=True)
    else:
        stream = _padded_batch(stream, part // replicas, dataset)
    return stream.prefetch(prefetch).with_options(_options())


class Reader:
    """Reads records by their number, in a graph or eagerly."""

    def __init__(self, index: record_index.RecordIndex, plan: samples.Plan, *, video: bool):
        self.num_records = index.num_records
        self._plan = plan
        self._video = video and plan.dataset.is_video
        self._files = tf.constant(index.files)
        self._names = tf.constant([os.path.basename(path) for path in index.files])
        self._file_ids = tf.constant(index.file_ids, tf.int32)
        self._offsets = tf.constant(index.offsets, tf.int64)
        self._numbers = tf.constant(index.numbers, tf.int32)

    def read(self, record: tf.Tensor) -> samples.Tensors:
        """A parsed record (see records.parse_example) and its sample_id.

        Raises:
            InvalidArgumentError: with file and record number.
        """
        file_id, number = self._file_ids[record], tf.strings.as_string(self._numbers[record])
        source = tf.strings.join([self._files[file_id], ", record ", number])
        example = records.parse_example(
            self._fetch(self._files[file_id], self._offsets[record], source),
            source=source,
            label=self._plan.has_labels,
            video=self._video,
        )
        example[keys.SAMPLE_ID] = tf.strings.join([self._names[file_id], number, example["image_name"]], separator=":")
        return example

    def check_some(self) -> None:
        """Reads the first, middle and last record and checks that they fit options and data set."""
        check = tf.function(lambda record: samples.check_record(self.read(record), self._plan), autograph=False)
        for record in sorted({0, self.num_records // 2, self.num_records - 1}):
            try:
                check(tf.constant(record, tf.int64))
            except tf.errors.InvalidArgumentError as error:
                raise ValueError(f"Bad record: {_reason(error)}") from error

    def _fetch(self, file: tf.Tensor, offset: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
        def fetch(offset: tf.Tensor) -> tf.Tensor:
            # Without a buffer: the frame and the record are read, nothing after them.
            one = tf.raw_ops.TFRecordDatasetV2(
                filenames=[file], compression_type="", buffer_size=0, byte_offsets=[offset]
            )
            spec = {"output_types": [tf.string], "output_shapes": [tf.TensorShape([])]}
            one = tf.raw_ops.TakeDataset(input_dataset=one, count=tf.constant(1, tf.int64), **spec)
            return tf.raw_ops.DatasetToSingleElement(dataset=one, **spec)[0]

        data = records.attempt(fetch, offset, otherwise=tf.constant(""))
        check = tf.debugging.Assert(
            tf.strings.length(data) > 0, [source, "is corrupt (its checksum does not match) or no longer there"]
        )
        with tf.control_dependencies([check] if check is not None else []):
            return tf.identity(data)


def _training(reader: Reader, plan: samples.Plan, seed: int):
    base = tf.constant([seed % 2**31, seed // 2**31 % 2**31], tf.int64)

    def make(position: tf.Tensor) -> samples.Tensors:
        num_records = tf.constant(reader.num_records, tf.int64)
        epoch, place = position // num_records, position % num_records

        def read(stream: int) -> samples.Tensors:
            # Each stream walks through the records in an order of its own.
            order = _fold(base, 1 + stream, epoch)
            if reader.num_records == 1:
                return reader.read(place)
            return reader.read(tf.random.experimental.index_shuffle(place, order, num_records - 1))

        return samples.training_sample(read, _fold(base, 0, position), plan)

    return make


def _evaluation(reader: Reader, plan: samples.Plan):
    def make(position: tf.Tensor) -> samples.Tensors:
        return samples.evaluation_sample(reader.read(position), plan)

    return make


def _fold(seed: tf.Tensor, *numbers: tf.Tensor | int) -> tf.Tensor:
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int64))
    return seed


def _part_size(batch_size: int, num_shards: int, shard: int, replicas: int) -> int:
    """Samples of a global batch that one shard makes."""
    if not 0 <= shard < num_shards or replicas < 1:
        raise ValueError(f"shard {shard} of {num_shards} with {replicas} replicas: no such part")
    if batch_size < 1 or batch_size % (num_shards * replicas):
        raise ValueError(
            f"batch_size {batch_size} cannot be divided over {num_shards} input pipelines with {replicas} replicas each"
        )
    return batch_size // num_shards


def _padded_batch(stream: tf.data.Dataset, batch_size: int, dataset: datasets.Dataset) -> tf.data.Dataset:
    """Batches whose maps of different sizes are filled up at the bottom and right."""
    fills = {
        keys.RESIZED_IMAGE: tf.constant(preprocess.FILL),
        keys.SEMANTIC_RAW: tf.constant(dataset.ignore_label),
        keys.PANOPTIC_RAW: tf.constant(dataset.void_id),
    }
    spec = stream.element_spec
    return stream.padded_batch(
        batch_size,
        padded_shapes={key: value.shape for key, value in spec.items()},
        padding_values={key: fills.get(key) for key in spec},
    )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Shards are cut by position here; tf.distribute must not cut them again.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


def _reason(error: tf.errors.OpError) -> str:
    """What an assertion said, without TensorFlow's wrapping."""
    text = error.message.split("assertion failed:")[-1].strip().split("\n")[0]
    return text.replace("] [", " ").strip("[]")
