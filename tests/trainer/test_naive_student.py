"""Naive-Student: the configs of its phases, their order, and what a second run does. Training itself is faked."""

import json
import pathlib
import shutil

import pytest

from deeplab2_kmax import config as configs
from deeplab2_kmax.protos import config_pb2, dataset_pb2
from deeplab2_kmax.serving import pseudo_labels
from tests import shared
from tests.trainer import tiny
from trainer import checkpointing, experiment, interrupts, naive_student

CONFIG = shared.ROOT / "configs/tiny/panoptic_deeplab_synthetic.textproto"
PQ = naive_student.FIGURES["PQ"]


@pytest.fixture(scope="module")
def config():
    return configs.load(CONFIG, variables={"DATA": "data"})


def test_a_student_has_its_share_of_human_labels(config):
    made = naive_student.student_config(config, "pseudo/*", human_share=0.25)
    data = made.train_dataset_options
    assert [(part.dataset, list(part.file_pattern), part.weight) for part in data.mixture] == [
        ("synthetic_panoptic", ["data/train-*.tfrecord"], 0.25),
        ("synthetic_panoptic", ["pseudo/*"], 0.75),
    ]
    assert not data.file_pattern and made.experiment_name == "student"
    # A mixture keeps its proportions.
    config_of_two = naive_student.student_config(made, "more/*", human_share=0.5)
    weights = [part.weight for part in config_of_two.train_dataset_options.mixture]
    assert weights == pytest.approx([0.125, 0.375, 0.5])
    alone = naive_student.student_config(made, "pseudo/*", human_share=0).train_dataset_options
    assert not alone.mixture and list(alone.file_pattern) == ["pseudo/*"]


def test_fine_tuning_goes_on_from_the_student_on_human_labels(config):
    given = configs.load(CONFIG, ["model_options { backbone { pretrained_weights: 'x' } }"], variables={"DATA": "data"})
    made = naive_student.fine_tune_config(given, "runs/student", 7)
    assert made.model_options.initial_checkpoint == "runs/student"
    assert not made.model_options.backbone.pretrained_weights
    assert made.train_dataset_options == config.train_dataset_options
    solver, before = made.trainer_options.solver_options, config.trainer_options.solver_options
    assert solver.training_number_of_steps == 7 and solver.warmup_steps == 0
    assert solver.base_learning_rate == pytest.approx(before.base_learning_rate / 10)
    configs.check(made)


class Fakes:
    """Records what the phases ask for and leaves their files; every training gives one more percent."""

    def __init__(self, monkeypatch, root):
        self.calls = []
        self.root = root
        self.stop_after = None  # calls of training, of which the last one trains and then is stopped
        monkeypatch.setattr(experiment, "run", self.train)
        monkeypatch.setattr(naive_student, "_check_training", lambda config: None)  # there are no records
        monkeypatch.setattr(pseudo_labels, "make", self.label)

    def train(self, config, mode, folder, *, num_gpus):
        assert num_gpus == 0
        checkpoint = folder / config.experiment_name
        self.calls.append((mode, self._name(checkpoint)))
        trained = checkpointing.newest(checkpoint) is not None
        checkpoint.mkdir(exist_ok=True)
        for ending in ("index", "data-00000-of-00001"):
            (checkpoint / f"ckpt-1.{ending}").write_text(config.experiment_name)
        checkpointing.write_state(checkpoint, ["ckpt-1"])
        if len(self.calls) == self.stop_after:
            raise interrupts.Stopped(2)
        # As the program does: a run that is at its last step neither trains nor evaluates.
        return {} if trained and mode != "eval" else {PQ: len(self.calls) / 100}

    def label(self, config, checkpoint, frames, output_dir, *, source):
        self.calls.append(("label", self._name(checkpoint)))
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "train-00000-of-00001.tfrecord").write_text("")
        return {"source": {"checkpoint": checkpoint, "scales": list(config.evaluator_options.eval_scales)}}, "labelled"

    def _name(self, path):
        return str(pathlib.Path(path).relative_to(self.root))


def run(config, root, lines, **options):
    recipe = naive_student.Recipe(scales=options.pop("scales", (1.0,)), mirrored=False, **options)
    return naive_student.run(config, [config, config], [], root, recipe=recipe, say=lines.append)


def test_every_student_teaches_the_next_and_a_second_run_goes_on(config, tmp_path, monkeypatch):
    fakes = Fakes(monkeypatch, tmp_path / config.experiment_name)
    lines = []
    rows = run(config, tmp_path, lines)
    order = [
        ("train_and_eval", "teacher"),
        ("label", "teacher"),
        ("train_and_eval", "round1/student"),
        ("train_and_eval", "round1/fine_tuned"),
        ("label", "round1/fine_tuned"),
        ("train_and_eval", "round2/student"),
        ("train_and_eval", "round2/fine_tuned"),
    ]
    assert fakes.calls == order
    assert [row.values[PQ] for row in rows] == [0.01, 0.03, 0.04, 0.06, 0.07]
    assert lines[0].startswith("naive_student [1/7] teacher on human labels: 20 steps")
    assert lines[-1].startswith("naive_student [7/7] round 2, fine-tuning: PQ 7.0")
    assert naive_student.table(rows).splitlines()[0] == "teacher on human labels  PQ 1.0"
    written = configs.load(tmp_path / config.experiment_name / "round2/fine_tuned.textproto")
    assert written.trainer_options.solver_options.training_number_of_steps == 4  # a fifth

    # Stopped before the last phase: only that is done again (labels look after themselves).
    journal = tmp_path / config.experiment_name / naive_student.JOURNAL
    content = json.loads(journal.read_text())
    del content["phases"]["round 2, fine-tuning"]
    journal.write_text(json.dumps(content))
    fakes.calls.clear()
    again = run(config, tmp_path, lines)
    assert fakes.calls == [order[1], order[4], order[6], ("eval", "round2/fine_tuned")]
    assert again[:-1] == rows[:-1] and again[-1].values == {PQ: 0.04}

    fakes.calls.clear()
    with pytest.raises(ValueError, match="round1/pseudo_labels was made with another config"):
        run(config, tmp_path, lines, scales=(0.5,))
    assert not fakes.calls  # the labels that are there are not lost
    journal.write_text("{}")
    with pytest.raises(ValueError, match="no journal of this program"):
        run(config, tmp_path, lines)


def test_a_phase_that_was_stopped_goes_on_as_it_began(config, tmp_path, monkeypatch):
    fakes = Fakes(monkeypatch, tmp_path / config.experiment_name)
    fakes.stop_after = 3
    with pytest.raises(interrupts.Stopped):
        run(config, tmp_path, [])
    fakes.stop_after = None
    with pytest.raises(ValueError, match="round1/student was made with another config"):
        run(config, tmp_path, [], human_share=0.5)
    assert [name for _, name in fakes.calls] == ["teacher", "teacher", "round1/student", "teacher"]
    # Without the folder it begins anew.
    shutil.rmtree(tmp_path / config.experiment_name / "round1/student")
    assert len(run(config, tmp_path, [], human_share=0.5)) == 5


def test_a_given_teacher_is_not_trained_and_fine_tuning_can_be_left_out(config, tmp_path, monkeypatch):
    fakes = Fakes(monkeypatch, tmp_path)
    recipe = naive_student.Recipe(scales=(1.0,), mirrored=False, fine_tune_steps=0)
    teacher = str(tmp_path / "given")
    pathlib.Path(f"{teacher}.index").write_text("")
    rows = naive_student.run(
        config, [config], [], tmp_path, recipe=recipe, teacher_checkpoint=teacher, say=lambda line: None
    )
    assert fakes.calls == [("label", "given"), ("train_and_eval", f"{config.experiment_name}/round1/student")]
    assert [row.phase for row in rows] == ["round 1, student"]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("train", {"dataset": "coco_panoptic"}, "round 1: the student learns coco_panoptic"),
        ("train", {"use_next_frame": True}, "round 1: the student learns from two frames"),
        ("train", {"file_pattern": ["nowhere/*"]}, "expected a pattern that matches files, got 'nowhere"),
        ("eval", {"file_pattern": ["cut/*"]}, "cut/a.tfrecord is cut in the middle of record 0"),
    ],
)
def test_a_student_that_cannot_learn_is_refused_before_its_teacher_is_trained(
    config, tmp_path, monkeypatch, part, change, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "run", None)
    tiny.write_records(tmp_path / "data", train=1, val=1)
    (tmp_path / "cut").mkdir()
    record = (tmp_path / "data/val-00000-of-00001.tfrecord").read_bytes()
    (tmp_path / "cut/a.tfrecord").write_bytes(record[:-1])
    student = config_pb2.ExperimentOptions()
    student.CopyFrom(config)
    options = student.train_dataset_options if part == "train" else student.eval_dataset_options
    for name in change:
        options.ClearField(name)
    options.MergeFrom(dataset_pb2.DatasetOptions(**change))
    with pytest.raises(ValueError, match=message):
        naive_student.run(config, [student], [], tmp_path, recipe=naive_student.Recipe())


def test_a_teacher_without_instances_cannot_teach_them(config, tmp_path):
    teacher = config_pb2.ExperimentOptions()
    teacher.CopyFrom(config)
    teacher.model_options.panoptic_deeplab.instance.enable = False
    for options, names in (
        (teacher.trainer_options.loss_options, ("center_loss", "regression_loss")),
        (teacher.evaluator_options, ("center_score_threshold", "nms_kernel")),
    ):
        for name in names:
            options.ClearField(name)
    with pytest.raises(ValueError, match="round 1: the student learns instances"):
        naive_student.run(teacher, [config], [], tmp_path, recipe=naive_student.Recipe())


def test_bad_flags_are_one_line(capsys):
    program = ["trainer/naive_student.py"]
    assert naive_student.main(program) == 2
    assert capsys.readouterr().err == "naive_student: --config_file is missing; see --help\n"
    more = [f"--student_config_file={CONFIG}"] * 2
    assert naive_student.main([*program, f"--config_file={CONFIG}", "--model_dir=x", "--rounds=1", *more]) == 2
    assert "2 of them, but only 1 rounds" in capsys.readouterr().err


@pytest.mark.slow
def test_a_round(tmp_path, capsys):
    tiny.write_records(tmp_path / "data", train=3, val=1)
    steps = "solver_options { training_number_of_steps: 2 warmup_steps: 1 }"
    flags = [
        f"--config_file={CONFIG}",
        f"--set=DATA={tmp_path / 'data'}",
        f"--unlabelled={tmp_path / 'data'}/val-*.tfrecord",
        f"--model_dir={tmp_path / 'runs'}",
        f"--override=trainer_options {{ steps_per_loop: 2 {steps} }}",
        *("--rounds=1", "--scales=1", "--fine_tune_steps=1"),
    ]
    assert naive_student.main(["naive_student", *flags]) == 0
    first = capsys.readouterr().out
    assert "[4/4] round 1, fine-tuning: PQ" in first and first.splitlines()[-1].startswith("round 1, fine-tuning")
    assert naive_student.main(["naive_student", *flags]) == 0
    assert capsys.readouterr().out.count("done before") == 3
