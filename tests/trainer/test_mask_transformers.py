"""A few steps of training and an evaluation of the families and options beside plain kMaX-DeepLab."""

import json

import numpy as np
import pytest

from tests.trainer import tiny
from trainer import experiment

OVERRIDE = """
model_options { max_deeplab { %s } }
trainer_options {
  save_checkpoints_steps: 2 steps_per_loop: 2 save_summaries_steps: 2
  solver_options { training_number_of_steps: 2 warmup_steps: 1 ema_decay: 0 }
}
evaluator_options { eval_interval: 100 }
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, term",
    [("cmt {}", "aux_2reference_mask_loss"), ("remax { remask_blocks: [0, 1] }", "aux_1semantic_loss")],
    ids=["cmt_deeplab", "remax"],
)
def test_train_and_evaluate(tmp_path, changes, term):
    tiny.write_records(tmp_path / "data", train=2, val=1)
    config = tiny.load(tmp_path, OVERRIDE % changes)
    values = experiment.run(config, "train_and_eval", tmp_path / "runs")
    assert 0 <= values["evaluation/pq/PQ"] <= 1
    assert np.isfinite(values["losses/eval_total_loss"])
    assert not [name for name in values if "aux" in name]
    folder = tmp_path / "runs" / "tiny"
    train = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert train[0][f"losses/train_{term}"] > 0
    pictures = {path.name for path in (folder / "vis").iterdir()}
    assert {"000000_clusters_0.png", "000000_clusters_2.png"} <= pictures
