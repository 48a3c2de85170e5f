"""The benchmark of the training step, on the tiny network; its figures are nothing to test."""

import math

import pytest

from benchmarks import train_step
from deeplab2_kmax import config

COMBINED = """
trainer_options { precision: BFLOAT16 solver_options { gradient_accumulation_steps: 2 } }
model_options {
  max_deeplab { kmax { recompute_pixel_decoder: true recompute_transformer_decoder: true recompute_heads: true } }
}
"""


@pytest.mark.parametrize("variant", train_step.VARIANTS)
def test_variants_are_configs(variant):
    options = train_step._config(variant, crop=65, batch=2)
    assert options.train_dataset_options.crop_size == [65, 65] and options.train_dataset_options.batch_size == 2
    stages = options.model_options.backbone.recompute_stages
    assert list(stages) == ([1, 2, 3] if "early" in variant else [1, 2, 3, 4, 5] if "recompute" in variant else [])
    assert ("accumulation" in variant) == (options.trainer_options.solver_options.gradient_accumulation_steps == 2)


@pytest.mark.slow
def test_bfloat16_recomputation_and_accumulation_combine():
    figures = train_step.measure(config.load(train_step.TINY, [COMBINED]), repeats=1)
    assert math.isfinite(figures["loss"]) and figures["step_ms"] > 0 and figures["peak_memory_mb"] > 0
