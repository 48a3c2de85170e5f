"""Tasks -> the metrics to keep, updated and reported together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf
from absl import logging

from deeplab2_kmax import registry, structures
from deeplab2_kmax.data import datasets
from evaluation import additive, mean_iou, panoptic_quality, segments

_GROUPS = ("", "_things", "_stuff")


class ClassRow(NamedTuple):
    """The values of one class; None where a task was not kept or the class did not occur. Fractions, not percent."""

    id: int
    name: str
    thing: bool
    color: tuple[int, int, int]
    pq: float | None
    sq: float | None
    rq: float | None
    tp: int | None
    fp: int | None
    fn: int | None
    iou: float | None


class MetricSet:
    """The metrics of some tasks over one data set.

    Make it in the scope of the distribution strategy; update it inside of replicas, eagerly, in a graph or compiled.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dataset: datasets.Dataset,
        *,
        max_segments: int = 512,
        crowd_as_void: bool = False,
        variant: str = "present",
    ):
        """Makes the metrics.

        Args:
            tasks: names of TASKS.
            dataset: descriptor of the ground truth.
            max_segments: capacity of PQ per image.
            crowd_as_void: PQ as DeepLab2 reports it, a little higher than the official tools.
            variant: what the mean IoU runs over, one of `mean_iou.VARIANTS`.

        Raises:
            ValueError: an unknown task, or none.
        """
        if not tasks:
            raise ValueError(f"Expected at least one task of: {', '.join(TASKS)}.")
        self.dataset = dataset
        self.metrics: dict[str, additive.AdditiveMetric] = {}
        for task in tasks:
            if registry.lookup(TASKS, task, "evaluation task") is mean_iou.MeanIoU:
                self.metrics[task] = mean_iou.MeanIoU(dataset.num_classes, dataset.ignore_label, variant=variant)
            else:
                self.metrics[task] = panoptic_quality.PanopticQuality(
                    dataset.num_classes,
                    dataset.ignore_label,
                    dataset.label_divisor,
                    dataset.thing_ids,
                    max_segments=max_segments,
                    crowd_as_void=crowd_as_void,
                )

    def update_state(
        self,
        batch: Mapping[str, tf.Tensor],
        maps: structures.PanopticMaps,
        sizes: tf.Tensor | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            batch: ground truth at raw size: `panoptic_raw` (crowd kept) for the task panoptic, `semantic_raw` for
                semantic, [B, H, W] integers.
            maps: prediction at raw size; `panoptic` and `semantic` are read.
            sizes: [B, 2] height and width of every image inside [H, W]; what lies beyond is padding and not scored.
                None: no padding.
        """
        if "panoptic" in self.metrics:
            self.update_maps("panoptic", batch["panoptic_raw"], maps.panoptic, sizes)
        if "semantic" in self.metrics:
            self.update_maps("semantic", batch["semantic_raw"], maps.semantic, sizes)

    def update_maps(self, task: str, y_true: tf.Tensor, y_pred: tf.Tensor, sizes: tf.Tensor | None = None) -> None:
        """Adds maps [B, H, W] or [H, W] to one task: panoptic labels or classes, `sizes` as in `update_state`."""
        void = self.dataset.ignore_label * (self.dataset.label_divisor if task == "panoptic" else 1)
        self.metrics[task].update_state(*_without_padding(y_true, y_pred, sizes, void))

    def result(self) -> dict[str, float]:
        """Flat values to log, as fractions; the names are those of DeepLab2, with more.

        `evaluation/pq/{PQ,SQ,RQ,num_classes}`, the same with `_things` and `_stuff`, `evaluation/pq/{TP,FP,FN}` (totals
        over the classes; DeepLab2 logs their means), `evaluation/pq/images_left_out`, `evaluation/iou/{IoU, accuracy,
        num_classes}`.

        Raises:
            ValueError: ground truth or prediction hold labels that the data set does not have.
        """
        flat: dict[str, float] = {}
        if "panoptic" in self.metrics:
            values = self._values("panoptic")
            for group in _GROUPS:
                for name in ("pq", "sq", "rq"):
                    flat[f"evaluation/pq/{name.upper()}{group}"] = float(values[name + group])
                flat[f"evaluation/pq/num_classes{group}"] = float(values["n" + group])
            for name in ("tp", "fp", "fn"):
                flat[f"evaluation/pq/{name.upper()}"] = float(values[name].sum())
            flat["evaluation/pq/images_left_out"] = float(values["overflow"])
            if values["overflow"]:
                logging.warning("PQ: %d %s", int(values["overflow"]), additive.FAULTS["overflow"])
        if "semantic" in self.metrics:
            values = self._values("semantic")
            flat["evaluation/iou/IoU"] = float(values["iou"])
            flat["evaluation/iou/accuracy"] = float(values["accuracy"])
            flat["evaluation/iou/num_classes"] = float(values["n"])
        return flat

    def per_class(self) -> list[ClassRow]:
        """One row per class, void left out, in the order of the class ids."""
        panoptic = self._values("panoptic") if "panoptic" in self.metrics else None
        semantic = self._values("semantic") if "semantic" in self.metrics else None
        rows = []
        for index, name in enumerate(self.dataset.class_names):
            if index == self.dataset.ignore_label:
                continue
            thing = index in self.dataset.thing_ids
            row = ClassRow(index, name, thing, self.dataset.colors[index], None, None, None, None, None, None, None)
            if panoptic is not None:
                tp, fp, fn = (int(panoptic[key][index]) for key in ("tp", "fp", "fn"))
                row = row._replace(tp=tp, fp=fp, fn=fn)
                if tp + fp + fn > 0:
                    pq, sq, rq = (float(panoptic[f"{key}_per_class"][index]) for key in ("pq", "sq", "rq"))
                    row = row._replace(pq=pq, sq=sq, rq=rq)
            if semantic is not None and semantic["iou_per_class"][index] >= 0.0:
                row = row._replace(iou=float(semantic["iou_per_class"][index]))
            rows.append(row)
        return rows

    def per_class_values(self) -> dict[str, float]:
        """Flat values to log for the classes that occur: `evaluation/{pq,sq,rq,iou}_per_class/<class name>`."""
        return {
            f"evaluation/{measure}_per_class/{row.name}": value
            for row in self.per_class()
            for measure in ("pq", "sq", "rq", "iou")
            if (value := getattr(row, measure)) is not None
        }

    def reset_state(self) -> None:
        """Forgets everything."""
        for metric in self.metrics.values():
            metric.reset_state()

    def _values(self, task: str) -> dict:
        """The result of one metric as NumPy values."""
        values = {key: value.numpy() for key, value in self.metrics[task].result().items()}
        if values["invalid"]:
            raise ValueError(
                f"Evaluation of {self.dataset.name}, task {task}: {int(values['invalid'])} {additive.FAULTS['invalid']}"
            )
        return values


TASKS: dict[str, type[additive.AdditiveMetric]] = {
    "panoptic": panoptic_quality.PanopticQuality,
    "semantic": mean_iou.MeanIoU,
}


def table(result: Mapping[str, float], rows: Sequence[ClassRow] = ()) -> str:
    """Results as text, in percent: the summary, then one line per class that occurs."""
    lines = []
    if "evaluation/pq/PQ" in result:
        lines.append(f"{'':24s}{'PQ':>8s}{'SQ':>8s}{'RQ':>8s}{'classes':>9s}")
        for title, group in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
            values = [100.0 * result[f"evaluation/pq/{name}{group}"] for name in ("PQ", "SQ", "RQ")]
            count = result[f"evaluation/pq/num_classes{group}"]
            lines.append(f"{title:24s}" + "".join(f"{value:8.2f}" for value in values) + f"{count:9.0f}")
    if "evaluation/iou/IoU" in result:
        lines.append(
            f"{'mean IoU':24s}{100.0 * result['evaluation/iou/IoU']:8.2f}   "
            f"pixel accuracy {100.0 * result['evaluation/iou/accuracy']:.2f}"
        )
    shown = [row for row in rows if row.pq is not None or row.iou is not None]
    columns = [
        name for name in ("pq", "sq", "rq", "tp", "fp", "fn", "iou") if any(_cell(r, name) != "-" for r in shown)
    ]
    if shown:
        titles = [name if name == "IoU" else name.upper() for name in (c.replace("iou", "IoU") for c in columns)]
        lines += ["", f"{'class':24s}" + "".join(f"{title:>8s}" for title in titles)]
    for row in shown:
        lines.append(f"{row.name[:23]:24s}" + "".join(f"{_cell(row, name):>8s}" for name in columns))
    return "\n".join(lines)


def _cell(row: ClassRow, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return "-"
    return str(value) if name in ("tp", "fp", "fn") else f"{100.0 * value:.2f}"


def _without_padding(
    y_true: tf.Tensor, y_pred: tf.Tensor, sizes: tf.Tensor | None, void: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Both maps as int32 with void as padding: pixels that are void in both count nowhere."""
    y_true, y_pred = segments.as_int32(y_true), segments.as_int32(y_pred)
    if sizes is None:
        return y_true, y_pred
    sizes = tf.cast(sizes, tf.int32)
    rows = tf.range(tf.shape(y_true)[1])[tf.newaxis, :, tf.newaxis] < sizes[:, 0, tf.newaxis, tf.newaxis]
    columns = tf.range(tf.shape(y_true)[2])[tf.newaxis, tf.newaxis, :] < sizes[:, 1, tf.newaxis, tf.newaxis]
    inside = rows & columns
    return tf.where(inside, y_true, void), tf.where(inside, y_pred, void)
