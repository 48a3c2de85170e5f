"""What a task of evaluation is: a metric, the maps it reads, and how its result is logged, listed and printed.

Here are the tasks over single images and their label maps; `video_tasks` and `geometry_tasks` have the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from deeplab2_kmax.data import datasets, protocols
from deeplab2_kmax.data.targets import keys
from evaluation import (
    additive,
    boundary_quality,
    instance_ap,
    mean_iou,
    panoptic_quality,
    parsing_covering,
)

GROUPS = {"all": "", "things": "_things", "stuff": "_stuff"}  # title: suffix of a name
# Numbers of the images, [B] integers: those of equal scores are ranked by them. Not a key of batches.
IMAGE_NUMBER = "image_number"

Maps = Mapping[str, tf.Tensor]
Result = Mapping[str, Any]  # of a metric, as NumPy values
Columns = Mapping[str, Sequence[Optional[float]]]  # field of metric_set.ClassRow: value of every class, by id


class Options(NamedTuple):
    """What can be chosen."""

    max_segments: int = 512  # capacity per image
    crowd_as_void: bool = False  # PQ as DeepLab2 reports it, a little higher than the official tools
    variant: str = "present"  # of `mean_iou.VARIANTS`
    detailed_ap: bool = False  # all values of average precision, not only the mean
    max_detections: int | None = None  # capacity of average precision in all; None: the metric's own


class Task:
    """A task over one data set. Names of values begin with `prefix`."""

    prefix: ClassVar[str]
    truth: ClassVar[tuple[str, ...]]  # keys of a batch
    prediction: ClassVar[tuple[str, ...]]  # DeepLab2's names
    knows_size: ClassVar[bool] = False  # scores depend on the size of the image, so that it must not be padded
    metric: additive.AdditiveMetric

    def update(self, truth: Maps, prediction: Maps) -> None:
        """Adds images [B, H, W]."""
        maps = [*(truth[key] for key in self.truth), *(prediction[name] for name in self.prediction)]
        self.metric.update_state(*maps)

    def flush(self) -> None:
        """Scores what the metric still holds back, after the last image."""

    def reset(self) -> None:
        """Forgets everything."""
        self.metric.reset_state()

    def values(self, result: Result) -> dict[str, float]:
        """What to log."""
        raise NotImplementedError(f"{type(self).__name__} does not define values().")

    def columns(self, result: Result) -> Columns:
        """Values per class; none for most."""
        return {}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        """The logged values as a few lines of text."""
        raise NotImplementedError(f"{cls.__name__} does not define lines().")


def label_arguments(dataset: datasets.Dataset) -> tuple[int, int, int, tuple[int, ...]]:
    """What metrics of panoptic labels need to know."""
    return dataset.num_classes, dataset.ignore_label, dataset.label_divisor, dataset.thing_ids


class Panoptic(Task):
    """PQ, SQ and RQ, with totals of segments (DeepLab2 logs their means over classes)."""

    prefix = "evaluation/pq"
    truth, prediction = (keys.PANOPTIC_RAW,), ("panoptic_pred",)
    fields: ClassVar[dict[str, str]] = {"pq": "pq", "sq": "sq", "rq": "rq"}  # measure: field of ClassRow
    counts: ClassVar[tuple[str, ...]] = ("tp", "fp", "fn")
    mark: ClassVar[str] = ""  # of the titles of the table

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = panoptic_quality.PanopticQuality(
            *label_arguments(dataset), max_segments=options.max_segments, crowd_as_void=options.crowd_as_void
        )

    def values(self, result: Result) -> dict[str, float]:
        flat = {}
        for group in GROUPS.values():
            for name in ("pq", "sq", "rq"):
                flat[f"{self.prefix}/{name.upper()}{group}"] = float(result[name + group])
            flat[f"{self.prefix}/num_classes{group}"] = float(result["n" + group])
        for name in ("tp", "fp", "fn"):
            flat[f"{self.prefix}/{name.upper()}"] = float(result[name].sum())
        return flat

    def columns(self, result: Result) -> Columns:
        occurs = result["tp"] + result["fp"] + result["fn"] > 0
        shares = {field: where(occurs, result[f"{measure}_per_class"]) for measure, field in self.fields.items()}
        return {**shares, **{name: [int(value) for value in result[name]] for name in self.counts}}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        lines = [header(*(name + cls.mark for name in ("PQ", "SQ", "RQ"))) + f"{'classes':>9s}"]
        for title, group in GROUPS.items():
            cells = percents(values[f"{cls.prefix}/{name}{group}"] for name in ("PQ", "SQ", "RQ"))
            lines.append(f"{title:24s}{cells}{values[f'{cls.prefix}/num_classes{group}']:9.0f}")
        return lines


class BoundaryPanoptic(Panoptic):
    """Boundary PQ."""

    prefix = "evaluation/boundary_pq"
    fields = {"pq": "bpq"}
    counts = ()
    mark = " bd."
    knows_size = True

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = boundary_quality.BoundaryQuality(
            *label_arguments(dataset),
            dilation_ratio=protocols.of(dataset).boundary_ratio,
            max_segments=options.max_segments,
        )


class NextFramePanoptic(Panoptic):
    """PQ of pairs of frames side by side, as DeepLab2 scores ViP-DeepLab while it trains."""

    prefix = "evaluation/vpq_2frames"
    truth = (keys.PANOPTIC_RAW, keys.NEXT_PANOPTIC_RAW)
    prediction = ("panoptic_pred", "concat_next_panoptic_pred")
    fields = {}
    counts = ()
    mark = " 2f"

    def update(self, truth: Maps, prediction: Maps) -> None:
        pairs = ([maps[name] for name in names] for maps, names in ((truth, self.truth), (prediction, self.prediction)))
        self.metric.update_state(*(tf.concat(pair, axis=-1) for pair in pairs))


class Semantic(Task):
    """Mean IoU and pixel accuracy."""

    prefix = "evaluation/iou"
    truth, prediction = (keys.SEMANTIC_RAW,), ("semantic_pred",)

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = mean_iou.MeanIoU(dataset.num_classes, dataset.ignore_label, variant=options.variant)

    def values(self, result: Result) -> dict[str, float]:
        named = {"IoU": "iou", "accuracy": "accuracy", "num_classes": "n"}
        return {f"{self.prefix}/{name}": float(result[key]) for name, key in named.items()}

    def columns(self, result: Result) -> Columns:
        return {"iou": where(result["iou_per_class"] >= 0.0, result["iou_per_class"])}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        iou, accuracy = (100.0 * values[f"{cls.prefix}/{name}"] for name in ("IoU", "accuracy"))
        return [f"{'mean IoU':24s}{iou:8.2f}   pixel accuracy {accuracy:.2f}"]


class Instance(Task):
    """Average precision of masks, by the rules of the data set's official tool."""

    prefix = "evaluation/ap"
    truth = (keys.PANOPTIC_RAW,)
    prediction = ("panoptic_pred", "semantic_scores", "instance_scores")
    _DETAILS = {  # DeepLab2's names
        "AP_Mask_@IoU=0.5": "ap50",
        "AP_Mask_@IoU=0.75": "ap75",
        **{f"AP_Mask_{size}": f"ap_{size}" for size in ("small", "medium", "large")},
        **{f"AR_Mask_maxdets={count}": f"ar{count}" for count in (1, 10, 100)},
        **{f"AR_Mask_{size}": f"ar_{size}" for size in ("small", "medium", "large")},
    }

    def __init__(self, dataset: datasets.Dataset, options: Options):
        rules = {
            "coco": instance_ap.CocoAveragePrecision,
            "cityscapes": instance_ap.CityscapesAveragePrecision,
        }[protocols.of(dataset).instances]
        room = {} if options.max_detections is None else {"max_detections": options.max_detections}
        self.metric = rules(*label_arguments(dataset), max_segments=options.max_segments, **room)
        self._things, self._num_classes = list(dataset.thing_ids), dataset.num_classes
        self._detailed = options.detailed_ap

    def update(self, truth: Maps, prediction: Maps) -> None:
        maps = [truth[self.truth[0]], *(prediction[name] for name in self.prediction)]
        self.metric.update_state(*maps, image_ids=truth.get(IMAGE_NUMBER, 0))

    def values(self, result: Result) -> dict[str, float]:
        flat = {f"{self.prefix}/AP_Mask": float(result["ap"]), f"{self.prefix}/num_classes": float(result["n"])}
        if self._detailed:
            flat.update(
                {f"{self.prefix}/{name}": float(result[key]) for name, key in self._DETAILS.items() if key in result}
            )
        return flat

    def columns(self, result: Result) -> Columns:
        if "ap50_per_class" in result:
            ap50 = result["ap50_per_class"]
        else:
            ap50 = np.full(self._num_classes, -1.0)
            ap50[self._things] = result["precision"][0, :, :, 0].mean(axis=0)
        return {"ap": where(result["ap_per_class"] >= 0.0, result["ap_per_class"]), "ap50": where(ap50 >= 0.0, ap50)}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        lines = [f"{'mask AP':24s}{percents([values[f'{cls.prefix}/AP_Mask']])}"]
        details = [name for name in cls._DETAILS if f"{cls.prefix}/{name}" in values]
        for name in details:
            lines.append(f"{'  ' + name.replace('_Mask', ''):24s}{percents([values[f'{cls.prefix}/{name}']])}")
        return lines


class ParsingCovering(Task):
    """How well true segments are covered, weighted by their area."""

    prefix = "evaluation/pc"
    truth, prediction = (keys.PANOPTIC_RAW,), ("panoptic_pred",)
    knows_size = True

    def __init__(self, dataset: datasets.Dataset, options: Options):
        self.metric = parsing_covering.ParsingCovering(*label_arguments(dataset), max_segments=options.max_segments)

    def values(self, result: Result) -> dict[str, float]:
        flat = {}
        for group in GROUPS.values():
            flat[f"{self.prefix}/PC{group}"] = float(result["pc" + group])
            flat[f"{self.prefix}/num_classes{group}"] = float(result["n" + group])
        return flat

    def columns(self, result: Result) -> Columns:
        return {"pc": where(result["gt_area"] > 0.0, result["pc_per_class"])}

    @classmethod
    def lines(cls, values: Mapping[str, float]) -> list[str]:
        shown = "   ".join(f"{title} {100.0 * values[f'{cls.prefix}/PC{GROUPS[title]}']:.2f}" for title in GROUPS)
        return [f"{'parsing covering':24s} {shown}"]


def where(known: Any, values: Any) -> list[float | None]:
    """The values [C] that are known, None for the others."""
    return [float(value) if there else None for there, value in zip(known, values)]


def header(*titles: str) -> str:
    """The first line of a small table."""
    return f"{'':24s}" + "".join(f"{title:>8s}" for title in titles)


def percents(values: Any) -> str:
    """Fractions as cells of a table; what is negative or nan is undefined."""
    return "".join(f"{100.0 * value:8.2f}" if value >= 0.0 else f"{'-':>8s}" for value in values)
