"""Scores saved predictions against ground truth, with the metrics that training uses.

python evaluation/evaluate.py --task=panoptic --groundtruth=panoptic_val2017.json --prediction=predictions.json
python evaluation/evaluate.py --task=semantic --format=png --dataset=cityscapes_panoptic --groundtruth=A --prediction=B
"""

from __future__ import annotations

import json
import pathlib
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from absl import app, flags, logging

from deeplab2_kmax.data import datasets
from evaluation import metric_set, saved_maps

TASKS = ("panoptic", "semantic", "instance", "video_panoptic", "step", "depth_video_panoptic", "depth")
FORMATS = ("coco", "png")


def evaluate(
    task: str,
    groundtruth: str | pathlib.Path,
    prediction: str | pathlib.Path,
    *,
    file_format: str = "coco",
    categories: str | pathlib.Path | None = None,
    dataset: str | None = None,
) -> dict:
    """Scores the maps of two sets of files.

    Args:
        task: one of TASKS.
        groundtruth: COCO panoptic JSON file, or a folder.
        prediction: the same.
        file_format: one of FORMATS.
        categories: JSON list of categories, if a COCO ground truth has none.
        dataset: name of the data set, or its class file, for the format png.

    Returns:
        `task`, `num_images`, `summary` (flat names as in the logs of training, fractions) and `per_class` (a list of
        `metric_set.ClassRow` as dicts).

    Raises:
        ValueError: a task that is not supported, or bad files.
    """
    if task not in metric_set.TASKS:
        raise ValueError(f"Task {task!r} cannot be scored yet; expected one of: {', '.join(metric_set.TASKS)}.")
    groundtruth, prediction = pathlib.Path(groundtruth), pathlib.Path(prediction)
    pairs: saved_maps.CocoPanoptic | saved_maps.ClassFolders
    if file_format == "coco":
        pairs = saved_maps.CocoPanoptic(
            groundtruth, prediction, categories=pathlib.Path(categories) if categories else None
        )
        hidden_class = pairs.hidden_class
    else:
        if task != "semantic":
            raise ValueError(f"Format {file_format!r} holds classes only: use it with the task semantic, not {task}.")
        if not dataset:
            raise ValueError("Format 'png' needs the name of the data set.")
        pairs = saved_maps.ClassFolders(groundtruth, prediction, dataset=datasets.lookup(dataset))
        hidden_class = None
    metrics = metric_set.MetricSet([task], pairs.dataset, max_segments=pairs.max_segments + 1)
    for index, pair in enumerate(pairs):
        if task == "panoptic":
            metrics.update_maps("panoptic", pair.panoptic_true, pair.panoptic_pred)
        else:
            metrics.update_maps("semantic", pair.semantic_true, pair.semantic_pred)
        if (index + 1) % 500 == 0:
            logging.info("%d of %d images", index + 1, len(pairs))
    rows = [row for row in metrics.per_class() if row.id != hidden_class]
    return {"task": task, "num_images": len(pairs), "summary": metrics.result(), "per_class": rows}


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
        categories=options.categories,
        dataset=options.dataset,
    )
    print(f"{found['num_images']} images, {options.task}, percent")
    print(metric_set.table(found["summary"], found["per_class"]))
    if options.output:
        output = pathlib.Path(options.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        found["per_class"] = [row._asdict() for row in found["per_class"]]
        output.write_text(json.dumps(found, indent=1) + "\n")
        print(f"Results: {output}")


def run() -> None:
    """The program: bad input is one line and exit code 2."""
    _define_flags()

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            sys.exit(_complain(error))

    def guarded(argv: list[str]) -> int:
        try:
            main(argv)
        except (ValueError, OSError) as error:
            return _complain(error)
        return 0

    app.run(guarded, flags_parser=parse)


def _define_flags() -> None:
    # In a function, because importing this module must not add flags to another program.
    flags.DEFINE_enum("task", None, TASKS, "What to score; panoptic and semantic so far.", required=True)
    flags.DEFINE_string(
        "groundtruth", None, "coco: JSON file (or folder with one), its PNGs beside it. png: folder.", required=True
    )
    flags.DEFINE_string("prediction", None, "The same for the predictions.", required=True)
    flags.DEFINE_enum(
        "format", "coco", FORMATS, "coco: COCO panoptic JSON and PNGs. png: folders of PNGs with the class per pixel."
    )
    flags.DEFINE_string("categories", None, "coco: JSON list of categories, if the ground truth has none.")
    flags.DEFINE_string("dataset", None, "png: data set that says what the classes are, or its class file.")
    flags.DEFINE_string("output", None, "JSON file for the results.")


def _complain(error: Exception) -> int:
    print(f"evaluate: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    run()
