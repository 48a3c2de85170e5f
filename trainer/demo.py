"""From nothing to a report with pictures: data, training, export, prediction, each by the command a user types.

python trainer/demo.py --output_dir=runs/demo
"""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import flags
from PIL import Image

from evaluation import command

_OUTPUT = flags.DEFINE_string("output_dir", "runs/demo", "Folder for everything the demo makes; a rerun goes on there.")
_CONFIG = flags.DEFINE_string("config_file", "configs/demo/kmax_efficientnet_lite0.textproto", "The experiment.")
_OVERRIDE = flags.DEFINE_multi_string("override", [], "Text of ExperimentOptions laid over the config; repeatable.")
_NUM_TRAIN = flags.DEFINE_integer("num_train", 800, "Scenes to train on.", lower_bound=1)
_NUM_VAL = flags.DEFINE_integer("num_val", 48, "Scenes to evaluate on.", lower_bound=1)
_PHOTOS = flags.DEFINE_multi_string(
    "photos",
    [
        "../shared/data/coco_panoptic_sample/input_images/*.jpg",
        "../shared/data/davis_street/JPEGImages/480p/*/00000.jpg",
    ],
    "Real photos to predict too, where they are: globs.",
)

_NUM_UNSEEN = 6
_UNSEEN_SEED = 5_000_000  # far from the seeds of the training and evaluation scenes


def main(argv: list[str]) -> int:
    """Exit code 1 when one of the commands fails; what was done until then is kept, and a rerun goes on."""
    if len(argv) > 1:
        print(f"demo: unexpected argument {argv[1]!r}; see --help", file=sys.stderr)
        return 2
    output = pathlib.Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)

    from deeplab2_kmax import config as configs

    try:
        config = configs.load(_CONFIG.value, _OVERRIDE.value, variables={"DATA": str(output / "data")})
    except (ValueError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    height, width = config.eval_dataset_options.crop_size
    run = output / config.experiment_name
    arguments = [f"--config_file={_CONFIG.value}", f"--set=DATA={output / 'data'}"]
    arguments += [f"--override={text}" for text in _OVERRIDE.value]

    watch = _Watch()
    watch.step("data")
    _run(
        "-m deeplab2_kmax.data.convert.synthetic",
        f"--output_dir={output / 'data'}",
        f"--num_train={_NUM_TRAIN.value}",
        f"--num_val={_NUM_VAL.value}",
        f"--height={height}",
        f"--width={width}",
    )
    scenes = _write_unseen(output / "unseen", height=height, width=width)
    watch.step("training and evaluation")
    _run("trainer/train.py", *arguments, "--mode=train_and_eval", f"--model_dir={output}")
    watch.step("export")
    _run("trainer/export_model.py", *arguments, f"--checkpoint_path={run}", f"--export_path={output / 'saved_model'}")
    watch.step("prediction")
    inputs = [f"--input={output / 'unseen'}"]
    photos = sorted(path for pattern in _PHOTOS.value for path in ROOT.glob(pattern)) if _PHOTOS.value else []
    inputs += [f"--input={os.path.relpath(path)}" for path in photos]
    _run("trainer/predict.py", f"--model={output / 'saved_model'}", *inputs, f"--output={output / 'predictions'}")
    watch.step("report")
    figures = _report(output, run, config, scenes, photos)
    watch.stop()
    _print_end(output, run, watch, figures)
    return 0


class _Watch:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._begin = "", 0.0

    def step(self, name: str) -> None:
        """Ends the step before and begins this one."""
        self.stop()
        self._name, self._begin = name, time.monotonic()
        print(f"\n== {name}", flush=True)

    def stop(self) -> None:
        """Ends the present step."""
        if self._name:
            self.seconds[self._name] = time.monotonic() - self._begin
        self._name = ""


def _run(program: str, *arguments: str) -> None:
    """Runs one of the project's programs with this Python, shown as a user would type it."""
    print("$ python " + " ".join([program, *(shlex.quote(argument) for argument in arguments)]), flush=True)
    done = subprocess.run([sys.executable, *program.split(), *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode:
        print(
            f"demo: this command ended with exit code {done.returncode}; mend it and run the demo again.",
            file=sys.stderr,
        )
        sys.exit(1)


def _write_unseen(folder: pathlib.Path, *, height: int, width: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draws scenes of other seeds than the records': file name without ending -> (image, panoptic label)."""
    from deeplab2_kmax.data.convert import synthetic_scene

    folder.mkdir(parents=True, exist_ok=True)
    scenes = {}
    for i in range(_NUM_UNSEEN):
        image, panoptic, _ = synthetic_scene.Scene(_UNSEEN_SEED + i, height=height, width=width).render()
        scenes[f"scene_{i}"] = image, panoptic
        Image.fromarray(image).save(folder / f"scene_{i}.png")
    return scenes


def _report(output, run, config, scenes, photos) -> list:
    """Writes report.html and returns the figures at its top."""
    import tensorflow as tf

    import deeplab2_kmax as dk
    from deeplab2_kmax import architectures, visualize
    from deeplab2_kmax.serving import network
    from evaluation import report

    records = report.read_metrics(run / report.METRICS)
    dataset = architectures.dataset_of(config)
    predictor = dk.Predictor(output / "saved_model")
    model = network.load_model(config, run)

    def truth(image: np.ndarray, panoptic: np.ndarray) -> np.ndarray:
        table = {"colors": dataset.colors, "thing_ids": dataset.thing_ids, "label_divisor": dataset.label_divisor}
        return visualize.overlay(image, visualize.panoptic_colors(panoptic, **table), panoptic)

    samples, clusters = [], []
    for name, (image, panoptic) in scenes.items():
        drawn = predictor(image).draw(names=False)
        samples.append(
            report.Sample(name, {"input": image, "ground truth": truth(image, panoptic), "prediction": drawn})
        )
    for name, (image, _) in list(scenes.items())[:2]:
        maps = model.cluster_maps(tf.constant(image[np.newaxis], tf.float32))
        clusters.append(report.ClusterMaps(name, image, [one[0].numpy() for one in maps]))
    unseen = []
    for path in photos:
        result = predictor(path)
        unseen.append(report.Sample(path.name, {"input": result.image, "prediction": result.draw()}))
    rows, last = _last_evaluation(records, dataset)
    steps = config.trainer_options.solver_options.training_number_of_steps
    figures = [
        report.Figure("PQ", _percent(last, "evaluation/pq/PQ"), "held-out scenes"),
        report.Figure("PQ things", _percent(last, "evaluation/pq/PQ_things"), "car, bus, person"),
        report.Figure("PQ stuff", _percent(last, "evaluation/pq/PQ_stuff"), "road, building, sky, ..."),
        report.Figure("mean IoU", _percent(last, "evaluation/iou/IoU"), "semantic"),
    ]
    weights = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    report.write_report(
        output / "report.html",
        title="kMaX-DeepLab on procedural street scenes",
        subtitle=f"{config.model_options.backbone.name}, {weights:,} weights, {steps:,} steps",
        summary=figures,
        curves=report.training_charts(records),
        per_class_rows=rows,
        samples=samples,
        clusters=clusters,
        unseen=unseen,
        facts={
            "Training scenes": f"{_NUM_TRAIN.value}",
            "Held-out scenes": f"{_NUM_VAL.value}",
            "Picture size": "x".join(str(side) for side in config.eval_dataset_options.crop_size),
            "Config": _CONFIG.value,
        },
        notes=[
            "The scenes below were never seen in training; the photos are of a world the model has not been shown at "
            "all, and are here to see how it fails."
        ],
    )
    return figures


def _last_evaluation(records: list[dict], dataset) -> tuple[list[dict], dict]:
    """Rows per class, and the values, of the newest evaluation of a run."""
    last = next((record for record in reversed(records) if "evaluation/pq/PQ" in record), {})
    rows = []
    for index, name in enumerate(dataset.class_names):
        row = {"name": name, "thing": index in dataset.thing_ids, "color": dataset.colors[index]}
        for value in ("pq", "sq", "rq", "iou"):
            row[value] = last.get(f"evaluation/{value}_per_class/{name}")
        rows.append(row)
    return rows, last


def _percent(values: dict, name: str) -> str:
    return f"{100 * values[name]:.1f}" if values.get(name) is not None else "-"


def _print_end(output: pathlib.Path, run: pathlib.Path, watch: _Watch, figures) -> None:
    print("\n" + "=" * 72)
    print("Reached on held-out scenes:   " + "   ".join(f"{figure.label} {figure.value}" for figure in figures))
    minutes = sum(watch.seconds.values()) / 60
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in watch.seconds.items())
    print(f"Took {minutes:.1f} minutes:           {steps}")
    for title, path in (
        ("Report with pictures", output / "report.html"),
        ("Exported model", output / "saved_model"),
        ("Predictions", output / "predictions"),
        ("Checkpoints, curves, log", run),
    ):
        print(f"{title + ':':30s}{path}")
    print(f"{'Curves in the browser:':30s}tensorboard --logdir {run}")
    print(f"To start over, remove {output}. To predict your own photo:")
    print(f"  python trainer/predict.py --model={output / 'saved_model'} --input=photo.jpg --output=predictions")


if __name__ == "__main__":
    command.run(main)
