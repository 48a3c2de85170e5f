"""A few steps of training and an evaluation of the models of single pixels."""

import json

import numpy as np
import pytest

from deeplab2_kmax import config as configs
from tests import shared
from tests.trainer import tiny
from trainer import experiment

OVERRIDE = """
trainer_options {
  save_checkpoints_steps: 2 steps_per_loop: 2 save_summaries_steps: 2
  solver_options { training_number_of_steps: 2 warmup_steps: 1 }
}
evaluator_options { eval_interval: 100 save_predictions: true }
"""
MORE_TERMS = {"panoptic_deeplab": {"center_loss", "regression_loss"}, "spgnet": {"guide_loss"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, mode, value",
    [
        ("panoptic_deeplab", "train_and_eval", "evaluation/pq/PQ"),
        ("deeplab_v3_plus", "train_and_eval", "evaluation/iou/IoU"),
        ("panoptic_deeplab", "train", None),
        ("deeplab_v3", "train", None),
        ("lr_aspp", "train_and_eval", "evaluation/iou/IoU"),
        ("spgnet", "train_and_eval", "evaluation/iou/IoU"),
    ],
)
def test_train_and_evaluate(tmp_path, name, mode, value):
    tiny.write_records(tmp_path / "data", train=2, val=1)
    path = shared.ROOT / f"configs/tiny/{name}_synthetic.textproto"
    config = configs.load(path, [OVERRIDE], variables={"DATA": str(tmp_path / "data")})
    values = experiment.run(config, mode, tmp_path / "runs")
    folder = tmp_path / "runs" / f"tiny_{name}"
    train = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    terms = {key.removeprefix("losses/train_") for key in train[0] if key.startswith("losses/train_")}
    expected = {"semantic_loss", "total_loss"}
    assert terms == expected | MORE_TERMS.get(name, set())
    if value is None:
        return
    assert 0 <= values[value] <= 1
    assert np.isfinite(values["losses/eval_total_loss"])
    pictures = {path.name for path in (folder / "vis").iterdir()}
    assert "000000_semantic_prediction.png" in pictures
    assert ("000000_panoptic_prediction.png" in pictures) == (name == "panoptic_deeplab")
