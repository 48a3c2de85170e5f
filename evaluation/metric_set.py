"""Tasks -> the metrics to keep, updated and reported together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

import numpy as np
import tensorflow as tf
from absl import logging

from deeplab2_kmax import registry, structures
from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.targets import keys
from evaluation import additive, geometry_tasks, segments, video_tasks
from evaluation import tasks as image_tasks

TASKS: dict[str, type[image_tasks.Task]] = {
    "panoptic": image_tasks.Panoptic,
    "boundary_panoptic": image_tasks.BoundaryPanoptic,
    "next_frame_panoptic": image_tasks.NextFramePanoptic,
    "instance": image_tasks.Instance,
    "parsing_covering": image_tasks.ParsingCovering,
    "semantic": image_tasks.Semantic,
    "video_panoptic": video_tasks.VideoPanoptic,
    "step": video_tasks.Step,
    "depth_video_panoptic": video_tasks.DepthVideoPanoptic,
    "depth_step": video_tasks.DepthStep,
    "depth": geometry_tasks.Depth,
    "normals": geometry_tasks.Normals,
}


class ClassRow(NamedTuple):
    """The values of one class; None where a task was not kept or the class did not occur. Fractions, not percent."""

    id: int
    name: str
    thing: bool
    color: tuple[int, int, int]
    pq: float | None = None
    sq: float | None = None
    rq: float | None = None
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None
    iou: float | None = None
    bpq: float | None = None  # boundary PQ
    ap: float | None = None
    ap50: float | None = None
    pc: float | None = None  # parsing covering
    vpq: float | None = None
    dvpq: float | None = None


_COUNTS = ("tp", "fp", "fn")
MEASURES = ClassRow._fields[4:]
_TITLES = {"iou": "IoU"}


class Summary(NamedTuple):
    """What a MetricSet has to say, computed once."""

    values: dict[str, float]  # to log, see `MetricSet.result`
    rows: list[ClassRow]
    measures: tuple[str, ...]  # fields of the rows that the tasks fill in

    def per_class_values(self) -> dict[str, float]:
        """Flat values to log for the classes that occur: `evaluation/<measure>_per_class/<class name>`."""
        return {
            _per_class(measure, row): value
            for row in self.rows
            for measure in self.measures
            if measure not in _COUNTS and (value := getattr(row, measure)) is not None
        }


class MetricSet:
    """The metrics of some tasks over one data set.

    Make it in the scope of the distribution strategy; update it inside of replicas, eagerly, in a graph or compiled.
    `metrics` holds them by the names of their tasks.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dataset: datasets.Dataset,
        *,
        max_segments: int = 512,
        crowd_as_void: bool = False,
        variant: str = "present",
        detailed_ap: bool = False,
        max_detections: int | None = None,
    ):
        """Makes the metrics.

        Args:
            tasks: names of TASKS.
            dataset: descriptor of the ground truth.
            max_segments: capacity per image.
            crowd_as_void: PQ as DeepLab2 reports it, a little higher than the official tools.
            variant: what the mean IoU runs over, one of `mean_iou.VARIANTS`.
            detailed_ap: all values of average precision, not only the mean.
            max_detections: capacity of average precision in all; None: the metric's own.

        Raises:
            ValueError: an unknown task, none, or one that the data set has no classes for.
        """
        if not tasks:
            raise ValueError(f"Expected at least one task of: {', '.join(TASKS)}.")
        self.dataset = dataset
        options = image_tasks.Options(max_segments, crowd_as_void, variant, detailed_ap, max_detections)
        self._tasks = {
            name: registry.lookup(TASKS, name, "evaluation task")(dataset, options)  # type: ignore[call-arg]
            for name in tasks
        }

    @property
    def metrics(self) -> dict[str, additive.AdditiveMetric]:
        """The metric of every task."""
        return {name: task.metric for name, task in self._tasks.items()}

    def update_state(
        self,
        batch: Mapping[str, Any],
        maps: Union[structures.PanopticMaps, Mapping[str, Any]],
        sizes: tf.Tensor | None = None,
    ) -> None:
        """Adds a batch to all tasks.

        Args:
            batch: ground truth at raw size [B, H, W], by the keys of data/targets/keys.py: `panoptic_raw` (crowd kept)
                or `semantic_raw`, for videos also `sequence_id` [B] (strings or integers; frames in order), and
                `next_panoptic_raw`, `depth_raw`, `normals_raw`. Where they are there, average precision ranks equal
                scores by `image_number` [B], and STQ counts a pixel 1 / `num_cameras_raw` times.
            maps: prediction at raw size, by DeepLab2's names: `panoptic_pred`, `semantic_pred`, `semantic_scores`,
                `instance_scores`, `concat_next_panoptic_pred`, `depth_pred`, `normals_pred`; or a PanopticMaps.
            sizes: [B, 2] height and width of every image inside [H, W]; what lies beyond is padding and not scored.
                None: no padding.

        Raises:
            ValueError: a map that a task needs is missing, or padding for a task that looks at the size of images.
        """
        truth, prediction = dict(batch), _by_name(maps)
        for name, task in self._tasks.items():
            for what, needed, given in (
                ("ground truth", task.truth, truth),
                ("prediction", task.prediction, prediction),
            ):
                if missing := [key for key in needed if key not in given]:
                    raise ValueError(f"Task {name} needs {missing[0]!r} in the {what}; there is: {', '.join(given)}.")
            if sizes is not None and task.knows_size:
                raise ValueError(f"Task {name} looks at the size of an image: cut the padding off, image by image.")
            task.update(self._unpadded(task.truth, truth, sizes), self._unpadded(task.prediction, prediction, sizes))

    def update_maps(self, task: str, y_true: tf.Tensor, y_pred: tf.Tensor, sizes: tf.Tensor | None = None) -> None:
        """Adds maps [B, H, W] or [H, W] to a task that compares two: `sizes` as in `update_state`.

        Raises:
            ValueError: a task that is not kept, or that reads more.
        """
        kept = registry.lookup(self._tasks, task, "evaluation task of this set")
        if len(kept.truth) + len(kept.prediction) > 2:
            raise ValueError(f"Task {task} reads {', '.join((*kept.truth, *kept.prediction))}: use update_state.")
        (true_key,), (pred_key,) = kept.truth, kept.prediction
        y_true, y_pred = (tf.convert_to_tensor(maps) for maps in (y_true, y_pred))
        rank = 3 if "normals" not in true_key else 4
        if y_true.shape.rank == rank - 1:
            y_true, y_pred = y_true[tf.newaxis], y_pred[tf.newaxis]
        kept.update(
            self._unpadded(kept.truth, {true_key: y_true}, sizes),
            self._unpadded(kept.prediction, {pred_key: y_pred}, sizes),
        )

    def flush(self) -> None:
        """Ends the running sequence; call it after the last frame, with replicas inside of each (`strategy.run`)."""
        for task in self._tasks.values():
            task.flush()

    def result(self) -> dict[str, float]:
        """Flat values to log, mostly fractions; the names are those of DeepLab2, with more.

        Every task has its prefix, `evaluation/{pq, boundary_pq, vpq_2frames, ap, pc, iou, vpq, step, dvpq, dstq, depth,
        normals}/`. `num_classes` and the like say what a mean rests on, `images_left_out` how many images (or frames)
        could not be scored; docs/evaluation.md lists all.

        Raises:
            ValueError: ground truth or prediction hold labels that the data set does not have.
        """
        return self.summary().values

    def per_class(self) -> list[ClassRow]:
        """One row per class, void left out, in the order of the class ids."""
        return self.summary().rows

    def per_class_values(self) -> dict[str, float]:
        """Flat values to log for the classes that occur: `evaluation/<measure>_per_class/<class name>`."""
        return self.summary().per_class_values()

    def summary(self) -> Summary:
        """All of that at once. Raises ValueError as `result` does."""
        flat: dict[str, float] = {}
        columns: dict[str, Sequence[Any]] = {}
        for name, task in self._tasks.items():
            found = {key: value.numpy() for key, value in task.metric.result().items()}
            flat.update(task.values(found))
            flat.update(self._faults(name, task, found))
            columns.update(task.columns(found))
        rows = []
        for index, name in enumerate(self.dataset.class_names):
            if index != self.dataset.ignore_label:
                values = {field: column[index] for field, column in columns.items()}
                thing = index in self.dataset.thing_ids
                rows.append(ClassRow(index, name, thing, self.dataset.colors[index], **values))
        return Summary(flat, rows, tuple(columns))

    def names(self) -> set[str]:
        """The names of all values that an evaluation can give, those of every class included."""
        flat, rows, measures = self.summary()
        return {*flat} | {_per_class(measure, row) for measure in measures if measure not in _COUNTS for row in rows}

    def reset_state(self) -> None:
        """Forgets everything."""
        for task in self._tasks.values():
            task.reset()

    def state(self) -> dict[str, list[np.ndarray]]:
        """All sums, as NumPy arrays by task: what one process hands to another."""
        return {name: metric.get_weights() for name, metric in self.metrics.items()}

    def add_state(self, state: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Adds the `state()` of another process's MetricSet of the same arguments, whose sequences have ended."""
        for name, metric in self.metrics.items():
            other = type(metric).from_config(metric.get_config())
            other.set_weights(state[name])
            metric.merge_state([other])

    @property
    def follows_sequences(self) -> bool:
        """Whether frames must come in order, one whole sequence after the other."""
        return any(keys.SEQUENCE_ID in task.truth for task in self._tasks.values())

    def _faults(self, name: str, task: image_tasks.Task, found: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How many images were left out. What can only be a mistake in labels is an error."""
        where = f"{self.dataset.name}, task {name}"
        if found.get("invalid"):
            raise ValueError(f"Evaluation of {where}: {int(found['invalid'])} {additive.FAULTS['invalid']}")
        counted = {fault: float(found[fault]) for fault in additive.FAULTS if fault in found and fault != "invalid"}
        for fault, count in counted.items():
            if count:
                logging.warning("%s: %d %s", where, int(count), additive.FAULTS[fault])
        return {f"{task.prefix}/images_left_out": sum(counted.values())} if counted else {}

    def _unpadded(self, names: Iterable[str], maps: Mapping[str, Any], sizes: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """The named maps with what marks unknown pixels as padding: such pixels count nowhere. Other values too."""
        found = {}
        for name, values in maps.items():
            if name not in names:
                found[name] = values
                continue
            values = tf.convert_to_tensor(values)
            if name.startswith("depth") and values.shape.rank == 4:
                values = values[..., 0]
            void = self._void(name)
            if void:
                values = segments.as_int32(values)
            if sizes is not None and values.shape.rank is not None and values.shape.rank >= 3:
                values = tf.where(_inside(values, sizes), values, tf.cast(void, values.dtype))
            found[name] = values
        return found

    def _void(self, name: str) -> int:
        """What stands for no label in maps of that name; 0 for other maps."""
        if "panoptic" in name:
            return self.dataset.void_id
        return self.dataset.ignore_label if "semantic" in name and "scores" not in name else 0


def table(result: Mapping[str, float], rows: Sequence[ClassRow] = ()) -> str:
    """Results as text, in percent: the summary, then one line per class that occurs."""
    lines = []
    for task in TASKS.values():
        if any(name.startswith(f"{task.prefix}/") for name in result):
            lines += task.lines(result)
    shown = [row for row in rows if any(getattr(row, name) is not None for name in MEASURES if name not in _COUNTS)]
    columns = [name for name in MEASURES if any(_cell(row, name) != "-" for row in shown)]
    if shown:
        titles = "".join(f"{_TITLES.get(name, name.upper()):>8s}" for name in columns)
        lines += ["", f"{'class':24s}{titles}"]
    for row in shown:
        lines.append(f"{row.name[:23]:24s}" + "".join(f"{_cell(row, name):>8s}" for name in columns))
    return "\n".join(lines)


def _cell(row: ClassRow, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return "-"
    return str(value) if name in _COUNTS else f"{100.0 * value:.2f}"


def _by_name(maps: Union[structures.PanopticMaps, Mapping[str, Any]]) -> dict[str, Any]:
    """Predictions by DeepLab2's names."""
    if isinstance(maps, structures.PanopticMaps):
        return {
            "panoptic_pred": maps.panoptic,
            "semantic_pred": maps.semantic,
            "instance_pred": maps.instance,
            "semantic_scores": maps.semantic_scores,
            "instance_scores": maps.instance_scores,
        }
    return dict(maps)


def _per_class(measure: str, row: ClassRow) -> str:
    return f"evaluation/{measure}_per_class/{row.name}"


def _inside(values: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Which pixels of maps [B, H, W, ...] lie in an image of `sizes` [B, 2]."""
    sizes = tf.cast(sizes, tf.int32)
    rows = tf.range(tf.shape(values)[1])[tf.newaxis, :, tf.newaxis] < sizes[:, 0, tf.newaxis, tf.newaxis]
    columns = tf.range(tf.shape(values)[2])[tf.newaxis, tf.newaxis, :] < sizes[:, 1, tf.newaxis, tf.newaxis]
    inside = rows & columns
    return inside if values.shape.rank == 3 else inside[..., tf.newaxis]
