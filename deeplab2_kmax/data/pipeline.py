"""Records -> samples -> batches: files in, a tf.data.Dataset of dicts of tensors out (keys in targets/keys.py).

Every sample is a pure function of (seed, position in the stream): which record, which crop, what is pasted into it.
So a run can start at any batch and meet the very batches it would have met, hosts cut one global batch into equal
parts, and no buffer holds samples to shuffle: the order is a permutation of record numbers, new in every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from deeplab2_kmax.data import datasets, mixture, plan, preprocess, reader, record_index, samples
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
        targets: of plan.TARGETS; None: masks where thing_id_mask_annotations is set. Semantic ones are always made.
        num_parallel_calls, prefetch: samples in the making, and batches kept ready.

    Raises:
        ValueError: bad or unsupported options; files that are missing, empty, cut or changed; records that lack a
            feature or whose labels do not fit the data set (some records are checked at once, the others when they are
            read, then as tf.errors.InvalidArgumentError that names file and record).
    """
    sample_plan = plan.make(options, dataset, training=training, targets=targets)
    part = _part_size(options.batch_size, num_shards, shard, replicas)
    if start_batch < 0 or seed < 0:
        raise ValueError(f"start_batch {start_batch} and seed {seed}: expected 0 or more")
    if options.mixture and not training:
        raise ValueError("mixture: evaluation takes one data set at a time; name its files in file_pattern.")
    parts = mixture.sources(options, dataset)
    source = reader.Reader(parts, sample_plan, video=not training)
    if options.skip_corrupt:
        source.skip_corrupt(_budget(options))
    else:
        files = [path for one in parts for path in one.files]
        record_index.verify(files, limit=options.verify_checksums_gib * 2**30)
    source.check_some()

    def position(number: tf.Tensor) -> tf.Tensor:
        """Where the n-th sample of this shard stands in the stream of all."""
        return number // part * options.batch_size + shard * part + number % part

    if training:
        numbers = _batch_by_batch(start_batch * part, part // replicas)
        make = _training(source, mixture.Schedule([one.weight for one in parts]), sample_plan, seed)
    else:
        num_batches = -(-source.num_records // options.batch_size)
        numbers = tf.data.Dataset.range(min(start_batch, num_batches) * part, num_batches * part)
        numbers = numbers.filter(lambda number: position(number) < source.num_records)
        make = _evaluation(source, sample_plan)

    # Nothing in a sample is Python control flow over tensors: no need to rewrite it all.
    plain = tf.autograph.experimental.do_not_convert(lambda number: make(position(number)))
    stream = numbers.map(plain, num_parallel_calls=num_parallel_calls)
    if training:
        stream = stream.batch(part // replicas, drop_remainder=True)
    else:
        stream = _padded_batch(stream, part // replicas, dataset)
    if options.data_service and training:
        # Options of the part that the workers run must stand before it.
        stream = _distribute(stream.with_options(_options()), options.data_service)
    return stream.prefetch(prefetch).with_options(_options())


def _batch_by_batch(start: int, size: int) -> tf.data.Dataset:
    """The numbers from `start` on, a multiple of `size`; the source are batches, which is what a data service deals out
    to its workers: each makes whole ones."""
    batches = tf.data.Dataset.range(start // size, _LAST_POSITION // size)
    return batches.flat_map(lambda batch: tf.data.Dataset.range(batch * size, (batch + 1) * size))


def _training(source: reader.Reader, schedule: mixture.Schedule, sample_plan: plan.Plan, seed: int):
    base = tf.constant([seed % 2**31, seed // 2**31 % 2**31], tf.int64)
    counts = tf.constant(source.counts, tf.int64)
    firsts = tf.cumsum(counts, exclusive=True)
    is_mixture = len(source.counts) > 1

    def make(position: tf.Tensor) -> samples.Tensors:
        def read(stream: int) -> samples.Tensors:
            # Each stream walks through the records of each data set in an order of its own.
            part, number = tf.constant(0, tf.int64), position
            if is_mixture:
                part, number = schedule.at(position, _fold(base, 3 + stream))
            epoch, place = number // counts[part], number % counts[part]
            order = _fold(base, 1 + stream, epoch, *([part] if is_mixture else []))
            last = counts[part] - 1
            shuffled = tf.random.experimental.index_shuffle(place, order, tf.maximum(last, 1))
            return source.read(firsts[part] + tf.minimum(shuffled, last))

        return samples.training_sample(read, _fold(base, 0, position), sample_plan)

    return make


def _evaluation(source: reader.Reader, sample_plan: plan.Plan):
    def make(position: tf.Tensor) -> samples.Tensors:
        return samples.evaluation_sample(source.read(position), sample_plan)

    return make


def _distribute(stream: tf.data.Dataset, address: str) -> tf.data.Dataset:
    """Has the workers of a tf.data service make the batches; each of them comes once."""
    return stream.apply(
        tf.data.experimental.service.distribute(
            processing_mode=tf.data.experimental.service.ShardingPolicy.DYNAMIC, service=address
        )
    )


def _budget(options: dataset_pb2.DatasetOptions) -> float:
    if not 0 <= options.skip_corrupt_budget < 1:
        raise ValueError(f"skip_corrupt_budget {options.skip_corrupt_budget:g}: expected 0 or more and less than 1")
    return round(options.skip_corrupt_budget, 6)  # the field has 32 bits: 0.01 is a little less


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
        keys.NEXT_PANOPTIC_RAW: tf.constant(dataset.void_id),
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
