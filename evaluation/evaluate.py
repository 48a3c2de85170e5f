"""Scores saved predictions against ground truth, with the metrics that training uses.

python evaluation/evaluate.py --task=panoptic --groundtruth=panoptic_val2017.json --prediction=predictions.json
python evaluation/evaluate.py --task=step --dataset=kitti_step --groundtruth=panoptic_maps/val --prediction=step
python evaluation/evaluate.py --task=semantic --format=png --dataset=cityscapes_panoptic --groundtruth=A --prediction=B
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import flags

from deeplab2_kmax import registry
from deeplab2_kmax.data import datasets, protocols
from deeplab2_kmax.data.targets import keys
from evaluation import command, error_analysis, evaluation_report, mask_matching
from evaluation.saved import cityscapes_instances, coco_instances, formats, sides

if TYPE_CHECKING:
    from evaluation import metric_set

TASKS = {  # task: the format of its files if none is named
    "panoptic": "coco",
    "boundary_panoptic": "coco",
    "parsing_covering": "coco",
    "semantic": "coco",
    "instance": "coco",
    "video_panoptic": "step",
    "step": "step",
    "depth_video_panoptic": "dvps",
    "depth_step": "dvps",
    "depth": "depth_png",
}
FORMATS = tuple(formats.FORMATS)
DEPTH_SCALE = 256.0  # stored depth of a metre
_INSTANCE_FORMATS = ("coco", "cityscapes")


def evaluate(
    task: str,
    groundtruth: str | pathlib.Path,
    prediction: str | pathlib.Path,
    *,
    file_format: str | None = None,
    prediction_format: str | None = None,
    dataset: str | None = None,
    categories: str | pathlib.Path | None = None,
    evaluation_ids: bool = False,
    prediction_evaluation_ids: bool | None = None,
    groundtruth_depth: str | pathlib.Path | None = None,
    prediction_depth: str | pathlib.Path | None = None,
    depth_scale: float = DEPTH_SCALE,
    prediction_depth_scale: float | None = None,
    max_segments: int | None = None,
    variant: str = "present",
    num_workers: int = 1,
    report: str | pathlib.Path | None = None,
    images: str | pathlib.Path | None = None,
) -> dict:
    """Scores two sets of files.

    Args:
        task: one of TASKS.
        groundtruth: a JSON file or a folder, as the format has it.
        prediction: the same.
        file_format: one of FORMATS; None: the task's.
        prediction_format: that of the prediction; None: the same.
        dataset: name of the data set, or its class file; formats that do not tell their classes need it.
        categories: JSON list of categories, if a COCO ground truth has none.
        evaluation_ids: files hold the data set's evaluation ids, not the classes of its records.
        prediction_evaluation_ids: those of the prediction; None: the same.
        groundtruth_depth: folder of depth PNGs beside label files of a format without depth.
        prediction_depth: the same.
        depth_scale: stored depth of a metre.
        prediction_depth_scale: that of the prediction; None: the same.
        max_segments: capacity per image; None: as many as the files tell, or 512.
        variant: what the mean IoU runs over, one of `mean_iou.VARIANTS`.
        num_workers: processes; 0: one per processor core. Results do not depend on it.
        report: HTML page about the errors, to be written.
        images: folder of the pictures, for the report.

    Returns:
        `task`, `num_images`, `summary` (flat names as in the logs of training, fractions) and `per_class` (a list of
        `metric_set.ClassRow`).

    Raises:
        ValueError: bad arguments or files, or maps that could not be scored.
    """
    default_format = registry.lookup(TASKS, task, "task")
    if num_workers < 0:
        raise ValueError(f"Expected num_workers of 0 or more, got {num_workers}.")
    for name, path in (("ground truth", groundtruth), ("prediction", prediction)):
        if not pathlib.Path(path).exists():
            raise ValueError(f"There is no file or folder {path} (the {name}).")
    if images is not None and report is None:
        raise ValueError("A folder of images is for the report: name the page to write as well.")
    # They load TensorFlow, which takes seconds that nobody waits for whose files are not there.
    from evaluation import metric_set, scoring

    pictures = scoring.picture_files(pathlib.Path(images)) if images is not None else {}
    file_format = file_format or default_format
    if variant != "present" and task != "semantic":
        raise ValueError(f"A variant of the mean IoU goes with the task semantic, not {task}.")
    if task == "instance":
        unused = {
            "depth_scale": depth_scale != DEPTH_SCALE or prediction_depth_scale is not None,
            "prediction_format": prediction_format not in (None, file_format),
            "categories": categories,
            "evaluation_ids": evaluation_ids or prediction_evaluation_ids,
            "groundtruth_depth": groundtruth_depth,
            "prediction_depth": prediction_depth,
            "max_segments": max_segments,
            "images": images,
        }
        for name, value in unused.items():
            if value:
                raise ValueError(f"The task instance has no use for {name}.")
        metrics, num_images = _instances(
            pathlib.Path(groundtruth), pathlib.Path(prediction), file_format, dataset, num_workers
        )
        return _found(task, metrics, num_images, None, None, report, (groundtruth, prediction))
    true_side = formats.SideOptions(
        pathlib.Path(groundtruth), file_format, evaluation_ids, _path(groundtruth_depth), depth_scale
    )
    pred_side = formats.SideOptions(
        pathlib.Path(prediction),
        prediction_format or file_format,
        evaluation_ids if prediction_evaluation_ids is None else prediction_evaluation_ids,
        _path(prediction_depth),
        depth_scale if prediction_depth_scale is None else prediction_depth_scale,
    )
    needed = metric_set.TASKS[task].truth
    kinds = frozenset(kind for kind, key in sides.TRUE_KEYS.items() if key in needed)
    if sides.DEPTH not in kinds and (depth_scale != DEPTH_SCALE or prediction_depth_scale is not None):
        raise ValueError(f"The task {task} has no use for depth_scale.")
    if sides.PANOPTIC not in kinds and max_segments is not None:
        raise ValueError(f"The task {task} has no use for max_segments.")
    opened = formats.open_both(
        true_side,
        pred_side,
        kinds,
        task=task,
        in_order=keys.SEQUENCE_ID in needed,
        dataset=dataset,
        categories=_path(categories),
    )
    capacity = max_segments or (opened.max_segments + 1 if opened.max_segments else 512)
    options = {"max_segments": capacity, "variant": variant}
    job = scoring.MapJob(task, opened.dataset, opened.reader, options, pictures if report is not None else None)
    metrics, analysis = job.metrics(), job.analysis()
    for part in scoring.run(job, opened.groups, num_workers):
        metrics.add_state(part.state)
        if analysis is not None:
            analysis.merge(part.analysis)
    num_images = sum(len(group) for group in opened.groups)
    return _found(task, metrics, num_images, opened.hidden_class, analysis, report, (groundtruth, prediction))


def _path(path: str | pathlib.Path | None) -> pathlib.Path | None:
    return None if path is None else pathlib.Path(path)


def _found(
    task: str,
    metrics: metric_set.MetricSet,
    num_images: int,
    hidden_class: int | None,
    analysis: error_analysis.Analysis | None,
    report: str | pathlib.Path | None,
    sources: Sequence[str | pathlib.Path],
) -> dict:
    """What `evaluate` returns; writes the report."""
    summary, rows, _ = metrics.summary()
    rows = [row for row in rows if row.id != hidden_class]
    if report is not None:
        facts = dict(zip(("ground truth", "prediction"), map(str, sources)))
        evaluation_report.write(
            report,
            title=f"Evaluation of {pathlib.Path(sources[1]).name}",
            task=task,
            result=summary,
            rows=rows,
            analysis=analysis,
            facts={**facts, "images": f"{num_images}"},
        )
    return {"task": task, "num_images": num_images, "summary": summary, "per_class": rows}


def _instances(
    groundtruth: pathlib.Path, prediction: pathlib.Path, file_format: str, dataset: str | None, num_workers: int
) -> tuple[metric_set.MetricSet, int]:
    """Average precision of masks that may overlap."""
    from evaluation import detections, metric_set, scoring

    match: Callable[..., mask_matching.Matched]
    images: Sequence[coco_instances.Image | cityscapes_instances.Image]
    if file_format == "coco":
        if dataset:
            raise ValueError("COCO's instance files tell their classes: leave out the data set.")
        files = coco_instances.load(groundtruth, prediction)
        described, match, images = files.dataset, coco_instances.matcher(files), files.images
    elif file_format == "cityscapes":
        described = datasets.lookup(dataset or "cityscapes_panoptic")
        if protocols.of(described).instances != file_format:
            raise ValueError(f"Data set {described.name} is not scored by the rules of Cityscapes.")
        match, images = cityscapes_instances.matcher(described), cityscapes_instances.load(groundtruth, prediction)
    else:
        raise ValueError(f"The task instance needs one of the formats {', '.join(_INSTANCE_FORMATS)}.")
    if not images:
        raise ValueError(f"{groundtruth}: there are no images.")
    matched = mask_matching.join(scoring.run(scoring.MaskJob(match), [[image] for image in images], num_workers))
    count = len(matched.scores)
    metrics = metric_set.MetricSet(["instance"], described, detailed_ap=True, max_detections=max(count, 1))
    # Only their order counts: ranks are exact in the metric's float32.
    scores = np.unique(matched.scores, return_inverse=True)[1].reshape(-1) + 1
    records = detections.Records(matched.classes, matched.ranks, scores, matched.hits, matched.errors)
    metrics.metrics["instance"].add_matched(records, matched.images, {"num_true": matched.num_true})
    return metrics, len(images)


def main(argv: list[str]) -> None:
    """Prints a table and writes the JSON file."""
    options = flags.FLAGS
    if len(argv) > 1:
        raise ValueError(f"Unknown argument {argv[1]!r}; every input is a flag, see --help.")
    found = evaluate(
        options.task,
        options.groundtruth,
        options.prediction,
        file_format=options.format,
        prediction_format=options.prediction_format,
        dataset=options.dataset,
        categories=options.categories,
        evaluation_ids=options.evaluation_ids,
        prediction_evaluation_ids=options.prediction_evaluation_ids,
        groundtruth_depth=options.groundtruth_depth,
        prediction_depth=options.prediction_depth,
        depth_scale=options.depth_scale,
        prediction_depth_scale=options.prediction_depth_scale,
        max_segments=options.max_segments,
        variant=options.variant,
        num_workers=options.num_workers,
        report=options.report,
        images=options.images,
    )
    from evaluation import metric_set

    print(f"{found['num_images']} images, {options.task}, percent")
    print(metric_set.table(found["summary"], found["per_class"]))
    if options.output:
        output = pathlib.Path(options.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        found["per_class"] = [row._asdict() for row in found["per_class"]]
        output.write_text(json.dumps(found, indent=1) + "\n")
        print(f"Results: {output}")
    if options.report:
        print(f"Report: {options.report}")


def run() -> None:
    """The program: bad input is one line and exit code 2."""
    _define_flags()

    def guarded(argv: list[str]) -> int:
        try:
            main(argv)
        except (ValueError, OSError) as error:
            return _complain(error)
        return 0

    command.run(guarded)


def _define_flags() -> None:
    # In a function, because importing this module must not add flags to another program.
    defaults = ", ".join(f"{task}: {name}" for task, name in TASKS.items())
    flags.DEFINE_enum("task", None, list(TASKS), "What to score.", required=True)
    flags.DEFINE_string("groundtruth", None, "JSON file or folder, as the format has it.", required=True)
    flags.DEFINE_string("prediction", None, "The same for the predictions.", required=True)
    flags.DEFINE_enum(
        "format", None, FORMATS, f"Format of the files, see docs/saved_predictions.md. Default: {defaults}."
    )
    flags.DEFINE_enum("prediction_format", None, FORMATS, "Format of the predictions, if another.")
    flags.DEFINE_string("dataset", None, "Data set that says what the classes are and how it is scored, or class file.")
    flags.DEFINE_string("categories", None, "coco: JSON list of categories, if the ground truth has none.")
    flags.DEFINE_bool("evaluation_ids", False, "Files hold the data set's evaluation ids, not the classes of records.")
    flags.DEFINE_bool("prediction_evaluation_ids", None, "The same for the predictions, if other.")
    flags.DEFINE_string(
        "groundtruth_depth", None, "Folder of depth PNGs beside files of the format step, for instance."
    )
    flags.DEFINE_string("prediction_depth", None, "The same for the predictions.")
    flags.DEFINE_float("depth_scale", DEPTH_SCALE, "Stored depth of a metre.")
    flags.DEFINE_float("prediction_depth_scale", None, "The same for the predictions, if other.")
    flags.DEFINE_integer("max_segments", None, "Segments of an image, at most; 512 where the files do not tell.")
    flags.DEFINE_string("variant", "present", "Classes of the mean IoU: those present, all, or (stq) as in STQ.")
    flags.DEFINE_integer("num_workers", 0, "Processes; 0: one per processor core. Results do not depend on it.")
    flags.DEFINE_string("output", None, "JSON file for the results.")
    flags.DEFINE_string("report", None, "HTML page about the errors, to be written.")
    flags.DEFINE_string("images", None, "Folder of the pictures, for the report.")


def _complain(error: Exception) -> int:
    print(f"evaluate: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    run()
