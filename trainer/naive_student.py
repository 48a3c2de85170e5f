"""Naive-Student (2020, arXiv 2005.10266): a teacher labels frames, a student learns from them and teaches the next.

python trainer/naive_student.py --config_file=X.textproto --set=DATA=labelled --unlabelled='frames/*.tfrecord' \
    --model_dir=runs

The teacher learns from the config's own (human) labels. Each round labels the unlabelled frames with the newest
teacher, averaged over scales and mirrorings; trains a student, from the start, on these and the human labels; and
fine-tunes it on the human labels alone. It is the teacher of the next round. Everything goes to
<model_dir>/<experiment_name>; the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags, logging

from deeplab2_kmax import config as configs
from deeplab2_kmax.data.convert import command, writer
from deeplab2_kmax.protos import config_pb2
from deeplab2_kmax.serving import pseudo_labels

JOURNAL = "naive_student.json"
FORMAT = 1
TEACHER, STUDENT, FINE_TUNED, LABELS = "teacher", "student", "fine_tuned", "pseudo_labels"
# Figures of an evaluation that the lines and the table show, where it has them.
FIGURES = {
    "PQ": "evaluation/pq/PQ",
    "things": "evaluation/pq/PQ_things",
    "stuff": "evaluation/pq/PQ_stuff",
    "mIoU": "evaluation/iou/IoU",
}

_FLAGS = flags.FlagValues()
_define = {"flag_values": _FLAGS}
flags.DEFINE_string("config_file", None, "Experiment of the teacher, and of the students.", **_define)
flags.DEFINE_multi_string(
    "student_config_file", [], "Experiment of the student of a round, where it differs; the last is kept.", **_define
)
flags.DEFINE_string("teacher_checkpoint", None, "A trained teacher, instead of training one.", **_define)
flags.DEFINE_multi_string("unlabelled", [], "Pictures or TFRecords: globs in quotes, repeatable.", **_define)
flags.DEFINE_string("model_dir", None, "Base folder, as of trainer/train.py.", **_define)
flags.DEFINE_integer("rounds", 2, "Students.", lower_bound=1, **_define)
flags.DEFINE_list("scales", [f"{s:g}" for s in pseudo_labels.SCALES], "Scales that labels average.", **_define)
flags.DEFINE_bool("mirrored", True, "Average mirrored images as well.", **_define)
flags.DEFINE_float("human_share", 0.25, "Part of a student's samples with human labels.", 0, 0.999, **_define)
flags.DEFINE_integer(
    "fine_tune_steps", None, "Steps on human labels after a student's; 0: none. Default: a fifth.", 0, **_define
)
flags.DEFINE_integer("num_gpus", 0, "0: CPU; 1: one GPU; n: GPUs 0 to n-1, mirrored.", 0, **_define)
flags.DEFINE_multi_string("override", [], "Text of ExperimentOptions laid over all configs; repeatable.", **_define)
flags.DEFINE_multi_string("set", [], "NAME=value for a placeholder ${NAME} in the configs; repeatable.", **_define)


class Recipe(NamedTuple):
    """What the rounds have in common."""

    scales: Sequence[float] = pseudo_labels.SCALES
    mirrored: bool = True
    human_share: float = 0.25
    fine_tune_steps: int | None = None  # None: a fifth of the student's
    num_gpus: int = 0


class Row(NamedTuple):
    """The outcome of a training phase."""

    phase: str
    values: dict[str, float]  # of its last evaluation


def student_config(
    config: config_pb2.ExperimentOptions, pseudo_pattern: str, *, human_share: float
) -> config_pb2.ExperimentOptions:
    """The config of a student: the human labels have their share of the samples, pseudo-labels the rest."""
    changed = _copy(config, STUDENT)
    data = changed.train_dataset_options
    if human_share == 0:
        del data.mixture[:]
        data.file_pattern[:] = [pseudo_pattern]
        return changed
    if not data.mixture:
        data.mixture.add(dataset=data.dataset, file_pattern=data.file_pattern, weight=1.0)
    total = sum(part.weight for part in data.mixture)
    for part in data.mixture:
        part.weight *= human_share / total
    data.mixture.add(dataset=data.dataset, file_pattern=[pseudo_pattern], weight=1 - human_share)
    data.ClearField("file_pattern")
    return changed


def fine_tune_config(config: config_pb2.ExperimentOptions, checkpoint: str, steps: int) -> config_pb2.ExperimentOptions:
    """The config that goes on from a student on human labels: at a tenth of the learning rate, without warm-up."""
    changed = _copy(config, FINE_TUNED)
    model, solver = changed.model_options, changed.trainer_options.solver_options
    model.initial_checkpoint = checkpoint
    model.restore_semantic_last_layer_from_initial_checkpoint = True
    model.restore_instance_last_layer_from_initial_checkpoint = True
    for message, field in (
        (model, "skip_from_initial_checkpoint"),
        (model, "allow_partial_backbone"),
        (model.backbone, "pretrained_weights"),
        (model.backbone, "pretrained_format"),
    ):
        message.ClearField(field)
    solver.training_number_of_steps = steps
    solver.base_learning_rate *= 0.1
    solver.warmup_steps = 0
    return changed


def run(
    config: config_pb2.ExperimentOptions,
    students: Sequence[config_pb2.ExperimentOptions],
    frames: Sequence[pseudo_labels.Frame],
    model_dir: str | os.PathLike[str],
    *,
    recipe: Recipe,
    teacher_checkpoint: str | None = None,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Teacher and students, one after the other; phases that were finished before are not done again.

    Args:
        config: of the teacher.
        students: configs, one per round.
        frames: without labels, or with labels that are not read.
        model_dir: base folder.
        recipe: what the rounds have in common.
        teacher_checkpoint: prefix or folder; None: a teacher is trained.
        say: takes one line per phase.

    Returns:
        the outcome of every training.

    Raises:
        ValueError: a config, checkpoint, record or frame is not as it must be, or the folder holds another experiment.
            What can be known of later rounds is looked at before the first training.
    """
    labelling = [
        pseudo_labels.teacher(one, scales=recipe.scales, mirrored=recipe.mirrored) for one in (config, *students[:-1])
    ]
    for number, (student, label_config) in enumerate(zip(students, labelling), start=1):
        _check_student(f"round {number}", student, label_config)
    for one in (*([] if teacher_checkpoint else [config]), *students):
        _check_training(one)
    steps = [_fine_tune_steps(recipe, student) for student in students]
    root = pathlib.Path(model_dir) / config.experiment_name
    journal = _Journal(root, (not teacher_checkpoint) + 2 * len(students) + sum(map(bool, steps)), recipe, say)
    if teacher_checkpoint:
        checkpoint = teacher_checkpoint
    else:
        checkpoint = journal.train("teacher on human labels", _copy(config, TEACHER), root, made_from=None)
    for number, (student, label_config) in enumerate(zip(students, labelling), start=1):
        folder, name = root / f"round{number}", f"round {number}"
        manifest = journal.label(f"{name}, pseudo-labels", label_config, checkpoint, frames, folder / LABELS)
        pattern = str(folder / LABELS / f"{pseudo_labels.SPLIT}-*{pseudo_labels.RECORDS}")
        mixed = student_config(student, pattern, human_share=recipe.human_share)
        checkpoint = journal.train(f"{name}, student", mixed, folder, made_from=manifest["source"])
        if tuned_steps := steps[number - 1]:
            tuned = fine_tune_config(student, checkpoint, tuned_steps)
            checkpoint = journal.train(f"{name}, fine-tuning", tuned, folder, made_from=manifest["source"])
    return journal.rows


def _check_student(name: str, student: config_pb2.ExperimentOptions, teacher: config_pb2.ExperimentOptions) -> None:
    """Raises a ValueError where a student cannot learn from a teacher's labels."""
    from deeplab2_kmax import architectures  # imports TensorFlow

    data, known = student.train_dataset_options, teacher.train_dataset_options.dataset
    if data.dataset != known:
        raise ValueError(f"{name}: the student learns {data.dataset}, but its teacher knows {known}")
    learns, knows = architectures.of(student), architectures.of(teacher)
    if data.use_two_frames or data.use_next_frame:
        raise ValueError(
            f"{name}: the student learns from two frames (use_two_frames, use_next_frame), but pseudo-labels are of "
            "single ones. Take a model of single frames."
        )
    if "depth" in learns.targets:
        raise ValueError(f"{name}: the student learns depth, which pseudo-labels do not have. Leave depth_head out.")
    if "panoptic" in learns.tasks and "panoptic" not in knows.tasks:
        raise ValueError(f"{name}: the student learns instances, but its teacher tells classes alone")


def _check_training(config: config_pb2.ExperimentOptions) -> None:
    """Raises a ValueError where a config cannot be trained, or files of human labels are missing or cut."""
    from trainer import experiment

    configs.check(config, _mode(config))
    experiment.num_records(config.train_dataset_options)
    if _mode(config) != "train":
        experiment.num_records(config.eval_dataset_options)


def _mode(config: config_pb2.ExperimentOptions) -> str:
    return "train_and_eval" if config.eval_dataset_options.file_pattern else "train"


class _Journal:
    """Runs phases and remembers in a file which are begun and finished."""

    def __init__(self, root: pathlib.Path, total: int, recipe: Recipe, say: Callable[[str], None]):
        self.root, self.total, self.recipe, self._say = root, total, recipe, say
        self.rows: list[Row] = []
        self._number = 0
        self._path = root / JOURNAL
        self._phases: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            try:
                content = json.loads(self._path.read_text())
                if content["format"] != FORMAT:
                    raise ValueError(f"format {content['format']}")
                self._phases = content["phases"]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{self._path} is no journal of this program ({error!r}). Remove {root}.") from None

    def train(self, phase: str, config: config_pb2.ExperimentOptions, folder: pathlib.Path, *, made_from: Any) -> str:
        """Trains a config on data `made_from` something and evaluates it; returns the folder with its checkpoints."""
        from trainer import checkpointing, experiment

        text = configs.to_text(config)
        digest = _digest(f"{text}\n{json.dumps(made_from, sort_keys=True)}")
        checkpoint = folder / config.experiment_name
        known = self._known(phase, digest, checkpoint, there=checkpointing.newest(checkpoint) is not None)
        self._number += 1
        steps = config.trainer_options.solver_options.training_number_of_steps
        if known is None or known["values"] is None:
            self._line(f"{phase}: {steps} steps, in {checkpoint}")
            begin = time.monotonic()
            folder.mkdir(parents=True, exist_ok=True)
            writer.write_text(folder / f"{config.experiment_name}.textproto", text)
            self._keep(phase, {"digest": digest, "values": None})
            mode = _mode(config)
            values = experiment.run(config, mode, folder, num_gpus=self.recipe.num_gpus)
            if not values and mode != "train":  # stopped after its last step, before the figures were written
                values = experiment.run(config, "eval", folder, num_gpus=self.recipe.num_gpus)
            known = {"digest": digest, "values": {name: float(value) for name, value in values.items()}}
            self._keep(phase, known)
            self._line(f"{phase}: {_figures(known['values'])}, {time.monotonic() - begin:.0f} s")
        else:
            self._line(f"{phase}: done before, {_figures(known['values'])}")
        self.rows.append(Row(phase, known["values"]))
        return str(checkpoint)

    def label(
        self,
        phase: str,
        config: config_pb2.ExperimentOptions,
        checkpoint: str,
        frames: Sequence[pseudo_labels.Frame],
        folder: pathlib.Path,
    ) -> dict[str, Any]:
        """Labels frames by a checkpoint; returns the manifest."""
        labels = f"naive_student: {checkpoint}"
        digest = _digest(json.dumps(pseudo_labels.made_from(config, checkpoint, frames, source=labels), sort_keys=True))
        self._known(phase, digest, folder, there=any(folder.glob(f"*{pseudo_labels.RECORDS}")))
        self._number += 1
        passes = len(self.recipe.scales) * (1 + self.recipe.mirrored)
        self._line(f"{phase}: {len(frames)} frames by {checkpoint}, {passes} passes each")
        begin = time.monotonic()
        manifest, summary = pseudo_labels.make(config, checkpoint, frames, folder, source=labels)
        self._keep(phase, {"digest": digest})
        self._line(f"{phase}: {summary}, {time.monotonic() - begin:.0f} s")
        return manifest

    def _known(self, phase: str, digest: str, folder: pathlib.Path, *, there: bool) -> dict[str, Any] | None:
        """What the file says of a phase whose folder is `there`; an error if that was made from something else."""
        known = self._phases.get(phase) if there else None
        if known is not None and known["digest"] != digest:
            raise ValueError(
                f"{folder} was made with another config, from other frames or by another teacher. Use another "
                "--model_dir, or remove that folder to make it anew; what depends on it has to be removed as well."
            )
        return known

    def _keep(self, phase: str, known: dict[str, Any]) -> None:
        self._phases[phase] = known
        writer.write_text(self._path, json.dumps({"format": FORMAT, "phases": self._phases}, indent=1) + "\n")

    def _line(self, text: str) -> None:
        self._say(f"naive_student [{self._number}/{self.total}] {text}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(config: config_pb2.ExperimentOptions, name: str) -> config_pb2.ExperimentOptions:
    changed = config_pb2.ExperimentOptions()
    changed.CopyFrom(config)
    changed.experiment_name = name
    return changed


def _fine_tune_steps(recipe: Recipe, config: config_pb2.ExperimentOptions) -> int:
    if recipe.fine_tune_steps is not None:
        return recipe.fine_tune_steps
    return config.trainer_options.solver_options.training_number_of_steps // 5


def _figures(values: dict[str, float]) -> str:
    found = [f"{name} {100 * values[key]:.1f}" for name, key in FIGURES.items() if key in values]
    return ", ".join(found) or "not evaluated"


def table(rows: Sequence[Row]) -> str:
    """The outcomes as text, one line each."""
    width = max(len(row.phase) for row in rows)
    return "\n".join(f"{row.phase:{width}s}  {_figures(row.values)}" for row in rows)


def _program(values: flags.FlagValues) -> str | int:
    for name in ("config_file", "model_dir"):
        if not values[name].value:
            raise ValueError(f"--{name} is missing; see --help")
    variables = configs.parse_variables(values.set)
    config = configs.load(values.config_file, values.override, variables=variables)
    others = [configs.load(path, values.override, variables=variables) for path in values.student_config_file]
    if len(others) > values.rounds:
        raise ValueError(f"--student_config_file: {len(others)} of them, but only {values.rounds} rounds")
    given = others or [config]
    students = [given[min(number, len(given) - 1)] for number in range(values.rounds)]
    recipe = Recipe(
        scales=pseudo_labels.numbers(values.scales, "scales"),
        mirrored=values.mirrored,
        human_share=values.human_share,
        fine_tune_steps=values.fine_tune_steps,
        num_gpus=values.num_gpus,
    )
    frames = pseudo_labels.find_frames(values.unlabelled)
    from trainer import checkpointing, interrupts, training

    logging.set_verbosity(logging.WARNING)  # Orbit prints what it logs
    try:
        rows = run(
            config,
            students,
            frames,
            values.model_dir,
            recipe=recipe,
            teacher_checkpoint=values.teacher_checkpoint,
            say=lambda line: print(line, flush=True),
        )
    except interrupts.Stopped as stopped:
        print(f"naive_student: {stopped}; the same command goes on from there", file=sys.stderr)
        return 128 + stopped.signum if stopped.signum else 1
    except (training.NonFiniteLoss, checkpointing.NonFiniteWeights) as error:
        print(f"naive_student: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return table(rows)


def main(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code."""
    return command.call(_program, _FLAGS, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
