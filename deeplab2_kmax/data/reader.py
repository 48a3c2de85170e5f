"""Reads records by their number: from file and offset to a parsed, decoded record, with errors that name both."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax.data import mixture, record_index, records, samples
from deeplab2_kmax.data.plan import Plan
from deeplab2_kmax.data.targets import keys

_NAMED = 20  # corrupt records named in the log


class Reader:
    """The records of all data sets of a stream, numbered through; each camera of a record has a number of its own."""

    def __init__(self, parts: Sequence[mixture.Source], plan: Plan, *, video: bool):
        """Finds the records.

        Args:
            parts: the data sets.
            plan: what to read of a record.
            video: read sequence and frame ids, where the data set is video.
        """
        self._plan = plan
        self._video = video and plan.dataset.is_video
        self._parts = parts
        self._classes = mixture.Classes(parts, plan.dataset) if parts[0].classes else None
        self._set_indices([record_index.build(part.files, allow_empty=part.dataset.empty_shards) for part in parts])

    def _set_indices(self, indices: Sequence[record_index.RecordIndex]) -> None:
        files = [path for index in indices for path in index.files]
        firsts = np.cumsum([0] + [len(index.files) for index in indices])
        cameras = max(len(self._plan.cameras), 1)
        self._indices = indices
        self._num_stored = sum(index.num_records for index in indices)
        # Camera after camera, so that the frames of one come in order.
        self.counts = [index.num_records * cameras for index in indices]
        self.num_records = sum(self.counts)
        self._files = tf.constant(files)
        self._names = tf.constant([os.path.basename(path) for path in files])
        self._sources = tf.constant(np.repeat(np.arange(len(indices)), [len(index.files) for index in indices]))
        ids = [index.file_ids + first for index, first in zip(indices, firsts)]
        self._file_ids = tf.constant(np.concatenate(ids), tf.int32)
        self._offsets = tf.constant(np.concatenate([index.offsets for index in indices]), tf.int64)
        self._numbers = tf.constant(np.concatenate([index.numbers for index in indices]), tf.int32)

    def read(self, record: tf.Tensor) -> samples.Tensors:
        """A parsed record (see records.parse_example) and its sample_id.

        Raises:
            InvalidArgumentError: with file and record number.
        """
        plan = self._plan
        camera, record = record // self._num_stored, record % self._num_stored
        file_id, number = self._file_ids[record], tf.strings.as_string(self._numbers[record])
        source = tf.strings.join([self._files[file_id], ", record ", number])
        part = self._sources[file_id]
        example = records.parse_example(
            self._fetch(self._files[file_id], self._offsets[record], source),
            source=source,
            label=plan.has_labels,
            video=self._video,
            prev_frame=plan.frame == "prev",
            next_frame=plan.frame == "next",
            depth=plan.reads_depth,
            normals=plan.reads_normals,
            num_cameras=self._video and plan.reads_num_cameras,
            label_divisor=self._classes.divisor(part) if self._classes else plan.dataset.label_divisor,
            cameras=plan.cameras,
            camera=camera,
        )
        names = [self._names[file_id], number, example["image_name"]]
        if plan.cameras:
            names.append(tf.constant(plan.cameras)[camera])
            if self._video:
                # Each camera sees a video of its own.
                sequence = [example[keys.SEQUENCE_ID], tf.constant(plan.cameras)[camera]]
                example[keys.SEQUENCE_ID] = tf.strings.join(sequence, separator="/")
        example[keys.SAMPLE_ID] = tf.strings.join(names, separator=":")
        if self._classes is not None and plan.has_labels:
            example.update(self._rewrite(example, part))
        return example

    def _rewrite(self, example: samples.Tensors, part: tf.Tensor) -> samples.Tensors:
        assert self._classes is not None
        labels = [key for key in ("label", "prev_label", "next_label") if key in example]
        together = tf.concat([example[key] for key in labels], axis=-1)
        together = self._classes.rewrite(together, part, example[keys.SAMPLE_ID])
        return {key: together[..., number : number + 1] for number, key in enumerate(labels)}

    def check_some(self) -> None:
        """Reads the first, middle and last record of every data set and checks that they fit options and data set."""
        picks, first = [], 0
        for count in self.counts:
            picks += sorted({first, first + count // 2, first + count - 1})
            first += count

        def check(record: tf.Tensor) -> tf.Tensor:
            samples.check_record(self.read(record), self._plan)
            return record

        plain = tf.autograph.experimental.do_not_convert(check)
        try:
            for _ in tf.data.Dataset.from_tensor_slices(tf.constant(picks, tf.int64)).map(plain):
                pass
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"Bad record: {_reason(error)}") from error

    def skip_corrupt(self, budget: float) -> int:
        """Leaves out the records that cannot be read, and returns how many they are. Reads every record once.

        Args:
            budget: largest part of the records that may be left out.

        Raises:
            ValueError: more than that cannot be read, or all of a data set's records.
        """
        bad = np.unique(np.asarray(self._corrupt()) % self._num_stored)
        names = [f"{self._files[self._file_ids[k]].numpy().decode()}, record {int(self._numbers[k])}" for k in bad]
        total = self._num_stored
        shown = "; ".join(names[:_NAMED]) + (f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        if len(bad) > budget * total + 1e-6:
            raise ValueError(
                f"{len(bad)} of {total} records cannot be read, more than skip_corrupt_budget {budget:g} allows "
                f"({int(budget * total + 1e-6)}): {shown}. Copy or convert the files anew."
            )
        if len(bad):
            logging.warning("skip_corrupt: %d of %d records are left out: %s", len(bad), total, shown)
        else:
            logging.info("skip_corrupt: all %d records can be read.", total)
        keep = np.ones([total], bool)
        keep[bad] = False
        kept, first = [], 0
        for part, index in zip(self._parts, self._indices):
            mask = keep[first : first + index.num_records]
            first += index.num_records
            if not mask.any():
                raise ValueError(f"No record of {', '.join(part.files)} can be read.")
            arrays = index.file_ids[mask], index.offsets[mask], index.numbers[mask]
            kept.append(record_index.RecordIndex(index.files, *arrays))
        self._set_indices(kept)
        return len(bad)

    def _corrupt(self) -> tuple[int, ...]:
        """Numbers of the records that cannot be read."""
        stats = [tf.io.gfile.stat(path) for index in self._indices for path in index.files]
        plan = self._plan
        flags = (
            plan.cameras,
            plan.has_labels,
            plan.frame,
            plan.reads_depth,
            plan.reads_normals,
            plan.reads_num_cameras,
            self._video,
        )
        files = tuple(path for index in self._indices for path in index.files)
        return _corrupt(files, tuple((stat.length, stat.mtime_nsec) for stat in stats), flags, _Hidden(self))

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


class _Hidden:
    """An argument that does not count for a cache: equal to every other."""

    def __init__(self, reader: Reader):
        self.reader = reader

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=16)
def _corrupt(files: tuple[str, ...], sizes: tuple, flags: tuple, hidden: _Hidden) -> tuple[int, ...]:
    """Reads all records. A program builds several pipelines over the same files: the answer is kept."""
    del files, sizes, flags
    reader = hidden.reader

    def readable(record: tf.Tensor) -> tf.Tensor:
        return tf.size(reader.read(record)["image"]) > 0

    stream = tf.data.Dataset.range(reader.num_records).map(
        tf.autograph.experimental.do_not_convert(
            lambda record: records.attempt(readable, record, otherwise=tf.constant(False))
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return tuple(number for number, good in enumerate(stream.as_numpy_iterator()) if not good)


def _reason(error: tf.errors.OpError) -> str:
    """What an assertion said, without TensorFlow's wrapping."""
    text = error.message.split("assertion failed:")[-1].strip().split("\n")[0]
    return text.replace("] [", " ").strip("[]")
