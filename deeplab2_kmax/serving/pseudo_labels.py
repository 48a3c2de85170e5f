"""Writes what a model sees in unlabelled frames as labels into TFRecords, to train another model on.

    python -m deeplab2_kmax.serving.pseudo_labels --config_file=X.textproto --checkpoint_path=runs/X \
        --unlabelled='frames/*/*.png' --output_dir=pseudo_labels

Naive-Student (2020, arXiv 2005.10266): panoptic maps, averaged over scales and mirrorings before post-processing, taken
as they are, without a threshold of confidence. What post-processing leaves void stays void. Frames are pictures, or
those of TFRecords, whose own labels are not read.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import pathlib
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from deeplab2_kmax import config as configs
from deeplab2_kmax import config_deeplab
from deeplab2_kmax.data import crc32c, example
from deeplab2_kmax.data.convert import command, files, writer
from deeplab2_kmax.protos import config_pb2

SPLIT = "train"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
FRAMES_PER_SHARD = 50  # an interrupted run loses less than that
RECORDS = ".tfrecord"

Predict = Callable[[np.ndarray], Any]  # [H, W, 3] uint8 -> serving.prediction.Prediction

_FLAGS = flags.FlagValues()
flags.DEFINE_string("config_file", None, "Experiment of the model that labels.", flag_values=_FLAGS)
flags.DEFINE_string("checkpoint_path", None, "Checkpoint prefix, or a folder: its newest one.", flag_values=_FLAGS)
flags.DEFINE_multi_string(
    "unlabelled", [], "Pictures or TFRecords (*.tfrecord): globs in quotes, repeatable.", flag_values=_FLAGS
)
flags.DEFINE_string("output_dir", None, "Folder for the shards and their manifest.", flag_values=_FLAGS)
flags.DEFINE_list("scales", [f"{s:g}" for s in SCALES], "Scales that are averaged.", flag_values=_FLAGS)
flags.DEFINE_bool("mirrored", True, "Average the mirrored image as well, at every scale.", flag_values=_FLAGS)
flags.DEFINE_multi_string("override", [], "Text of ExperimentOptions laid over the config.", flag_values=_FLAGS)
flags.DEFINE_multi_string("set", [], "NAME=value for a placeholder ${NAME}.", flag_values=_FLAGS)


class Frame(NamedTuple):
    """A picture, or a record of a file; `offset` is the byte where that begins."""

    path: str
    offset: int = -1

    @property
    def name(self) -> str:
        return self.path if self.offset < 0 else f"record at byte {self.offset}"

    @property
    def files(self) -> tuple[str, ...]:
        return () if self.offset < 0 else (self.path,)


class Content(NamedTuple):
    """What a frame holds."""

    image: bytes
    filename: str
    sequence_id: str
    frame_id: str


def find_frames(patterns: Iterable[str]) -> list[Frame]:
    """The frames behind globs, sorted, each once.

    Raises:
        ValueError: a pattern without a match, or a file that is neither a picture nor a sound TFRecord file. Of a
            picture the head alone is read here.
    """
    from deeplab2_kmax.data import record_index  # imports TensorFlow

    paths: dict[str, None] = {}
    for pattern in patterns:
        matches = [path for path in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(path)]
        if not matches:
            raise ValueError(f"--unlabelled={pattern}: there is no such file")
        paths.update(dict.fromkeys(matches))
    found = []
    for path in paths:
        if path.endswith(RECORDS):
            index = record_index.build([path], allow_empty=True) if os.path.getsize(path) else None
            found += [Frame(path, int(offset)) for offset in (index.offsets if index else ())]
        elif path.lower().endswith(files.IMAGES):
            _check_head(path)
            found.append(Frame(path))
        else:
            expected = ", ".join((*files.IMAGES, RECORDS))
            raise ValueError(f"--unlabelled: {path} is neither a picture nor a file of records ({expected})")
    if not found:
        raise ValueError("--unlabelled: there are no frames; see --help")
    return found


def _check_head(path: str) -> None:
    try:
        with Image.open(path):
            pass
    except OSError as error:
        told = " ".join(str(error).split())
        raise ValueError(f"--unlabelled: {path} is not a readable image ({told}). Leave it out.") from error


def teacher(
    config: config_pb2.ExperimentOptions, *, scales: Sequence[float] = SCALES, mirrored: bool = True
) -> config_pb2.ExperimentOptions:
    """The config of a model as it makes labels: with these scales and mirrorings.

    Raises:
        ValueError: the model's maps cannot be averaged, or a scale is not positive.
    """
    if not all(0 < scale < float("inf") for scale in scales) or not scales:
        raise ValueError(f"scales: expected positive numbers, found {list(scales)}")
    several = tuple(scales) != (1.0,) or mirrored
    if several and not config_deeplab.is_deeplab(config.model_options):
        raise ValueError(
            "The masks of a mask transformer have no counterpart at another scale or in the mirrored image: "
            "use --scales=1 --nomirrored."
        )
    changed = config_pb2.ExperimentOptions()
    changed.CopyFrom(config)
    if several:
        changed.evaluator_options.eval_scales[:] = scales
        changed.evaluator_options.add_flipped_images = mirrored
    configs.check(changed, mode="export")
    return changed


class Labeller:
    """Makes records of frames: `labeller.encode(frame)`."""

    def __init__(self, predict: Predict, *, source: str, label_format: str = example.ZLIB):
        """`source`: what every record says of where its label comes from."""
        self._predict, self._source, self._format = predict, source, label_format
        self.frames, self.segments, self.void = 0, 0, 0.0  # so far; void is a sum of shares

    def encode(self, frame: Frame) -> bytes:
        """A serialised record of the frame with its predicted label."""
        content = read(frame)
        try:
            with Image.open(io.BytesIO(content.image)) as image:
                pixels = np.asarray(image.convert("RGB"))  # as stored: records do not know EXIF's orientation
        except OSError as error:
            raise ValueError(f"not a readable image ({error})") from error
        prediction = self._predict(pixels)
        self.frames += 1
        self.segments += len(prediction.segments)
        self.void += float(np.mean(prediction.panoptic == prediction.classes.void_id))
        return example.encode_example(
            content.image,
            prediction.panoptic,
            filename=content.filename,
            label_format=self._format,
            sequence_id=content.sequence_id,
            frame_id=content.frame_id,
            source=self._source,
        )

    def summary(self) -> str:
        """What the labels look like, for a log."""
        if not self.frames:
            return "all of them there already"
        return (
            f"{self.frames} labelled now, {self.segments / self.frames:.1f} segments each, "
            f"{100 * self.void / self.frames:.1f} % void"
        )


def read(frame: Frame) -> Content:
    """The image of a frame as it is stored, and its names.

    A picture's sequence is its folder, its number the last part of its name. Those of a record are its own.

    Raises:
        ValueError: a record that is damaged, or has no single image.
    """
    path = pathlib.Path(frame.path)
    if frame.offset < 0:
        return Content(path.read_bytes(), path.name, path.resolve().parent.name, path.stem.rsplit("_", 1)[-1])
    with path.open("rb") as file:
        file.seek(frame.offset)
        (length,) = struct.unpack("<Q", file.read(12)[:8])
        data, checksum = file.read(length), file.read(4)
    if len(checksum) < 4 or struct.unpack("<I", checksum)[0] != crc32c.masked(data):
        raise ValueError("the record is damaged (its checksum does not match)")
    features = example.parse(data)
    image = features.get(example.IMAGE)
    if not isinstance(image, bytes):
        raise ValueError(f"the record has no {example.IMAGE}; those of several cameras are not supported")

    def text(key: str, otherwise: str) -> str:
        value = features.get(key)
        return value.decode() if isinstance(value, bytes) and value else otherwise

    name = text(example.FILENAME, f"{path.stem}_{frame.offset}")
    return Content(image, name, text(example.SEQUENCE_ID, path.stem), text(example.FRAME_ID, str(frame.offset)))


def make(
    config: config_pb2.ExperimentOptions,
    checkpoint: str,
    frames: Sequence[Frame],
    output_dir: str | os.PathLike[str],
    *,
    source: str,
    quiet: bool = False,
) -> tuple[dict[str, Any], str]:
    """Labels frames and writes `train-*.tfrecord` with a manifest; finished shards of the same labels are kept.

    Args:
        config: of the model, as `teacher` returns it.
        checkpoint: prefix, or a folder, whose newest is taken.
        frames: of `find_frames`.
        output_dir: made if missing.
        source: written into every record and the manifest.
        quiet: no progress.

    Returns:
        the manifest, and what the labels look like.

    Raises:
        ValueError: config, checkpoint, or a frame; the finished shards stay.
    """
    from deeplab2_kmax.serving import predictor as predictors

    predictor: list[Predict] = []

    def predict(pixels: np.ndarray) -> Any:
        if not predictor:  # nothing is built where every shard is there
            predictor.append(predictors.Predictor.from_config(config, checkpoint))
        return predictor[0](pixels)

    labeller = Labeller(predict, source=source)
    manifest = writer.write_split(
        output_dir,
        SPLIT,
        frames,
        labeller.encode,
        num_shards=-(-len(frames) // FRAMES_PER_SHARD),
        source=made_from(config, checkpoint, frames, source=source),
        num_processes=1,  # of this machine's, which all work on one frame
        quiet=quiet,
    )
    return manifest, labeller.summary()


def made_from(
    config: config_pb2.ExperimentOptions, checkpoint: str, frames: Sequence[Frame], *, source: str
) -> dict[str, str]:
    """What labels depend on, as their manifest says it; arguments and errors as of `make`."""
    paths = list(dict.fromkeys(frame.path for frame in frames))
    return {
        "converter": "pseudo_labels",
        "labels": source,
        "config": hashlib.sha256(configs.to_text(config).encode()).hexdigest(),
        "checkpoint": _fingerprint(checkpoint),
        "frames": writer.fingerprint(paths, os.sep),
    }


def _fingerprint(checkpoint: str) -> str:
    """A digest of a checkpoint: its index holds checksums of all variables."""
    import tensorflow as tf

    prefix = tf.train.latest_checkpoint(checkpoint) if os.path.isdir(checkpoint) else checkpoint
    index = pathlib.Path(f"{prefix}.index")
    if prefix is None or not index.is_file():
        raise ValueError(f"There is no checkpoint {checkpoint}: expected a prefix, or a folder with checkpoints.")
    return hashlib.sha256(index.read_bytes()).hexdigest()


def _run(values: flags.FlagValues) -> str:
    if not values.config_file or not values.checkpoint_path:
        missing = "config_file" if not values.config_file else "checkpoint_path"
        raise ValueError(f"--{missing} is missing; see --help")
    config = configs.load(values.config_file, values.override, variables=configs.parse_variables(values.set))
    config = teacher(config, scales=numbers(values.scales, "scales"), mirrored=values.mirrored)
    frames = find_frames(values.unlabelled)
    manifest, summary = make(config, values.checkpoint_path, frames, values.output_dir, source=values.checkpoint_path)
    return f"{manifest['records']} records in {values.output_dir}: {summary}"


def numbers(texts: Sequence[str], flag: str) -> list[float]:
    """The numbers of a list that a flag gives.

    Raises:
        ValueError: one is no number.
    """
    try:
        return [float(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"--{flag}: expected numbers such as 0.5,1,2 ({error})") from None


def main(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code."""
    return command.call(_run, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
