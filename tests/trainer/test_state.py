"""How the solver treats the variables of a whole model."""

import numpy as np
import pytest

from deeplab2_kmax import architectures
from deeplab2_kmax import config as configs
from deeplab2_kmax.checkpoints import pretrained, report, restore
from tests import shared
from tests.trainer import tiny
from trainer import optimizers, state


def test_variable_table(tmp_path):
    config = tiny.load(tmp_path, "trainer_options { solver_options { backbone_learning_rate_multiplier: 0.5 } }")
    model = architectures.build_model(config)
    model.build_variables()
    rows = {row.name: row for row in state.variable_table(config, model)}
    assert len(rows) == len(model.trainable_variables)
    assert rows["backbone/convs/0/kernel"] == optimizers.Row("backbone/convs/0/kernel", (3, 3, 3, 8), True, 0.5)
    factors = {name.split("/")[0]: row.learning_rate_factor for name, row in rows.items()}
    assert set(factors) == {"backbone", "pixel_decoder", "transformer_decoder", "mask_predictor", "semantic_head"}
    assert all((factor == 0.5) == (part == "backbone") for part, factor in factors.items())
    decayed = {name.rsplit("/", 1)[-1] for name, row in rows.items() if row.decayed}
    assert all(leaf.endswith(("kernel", "weight")) for leaf in decayed)
    kept = {name.rsplit("/", 1)[-1] for name, row in rows.items() if not row.decayed}
    assert {"gamma", "beta", "bias"} <= kept
    assert not any(leaf.endswith(("kernel", "weight")) for leaf in kept)


@pytest.mark.slow
def test_variable_table_of_the_published_model():
    config = configs.load(shared.ROOT / "configs" / "coco" / "kmax_deeplab" / "axial_resnet50.textproto")
    model = architectures.build_model(config)
    model.build_variables()
    rows = state.variable_table(config, model)
    counts = {}
    for row in rows:
        key = (row.name.rsplit("/", 1)[-1], row.decayed)
        counts[key] = counts.get(key, 0) + 1
    assert counts == {
        ("kernel", True): 164,
        ("qkv_kernel", True): 28,
        ("depthwise_kernel", True): 10,
        ("gamma", False): 279,
        ("beta", False): 279,
        ("embeddings", False): 84,
        ("bias", False): 15,
        ("cluster_centers", False): 1,
    }
    slow = [row for row in rows if row.learning_rate_factor != 1.0]
    assert len(slow) == 301
    assert sum(int(np.prod(row.shape)) for row in slow) == 41343424


def test_weights_of_other_libraries(tmp_path, monkeypatch):
    """A file in initial_checkpoint goes the same way as pretrained_weights; evaluation takes checkpoints only."""
    calls = []
    monkeypatch.setattr(
        pretrained, "load_pretrained", lambda backbone, path, *, format: calls.append((path, format)) or path
    )
    options = 'model_options { initial_checkpoint: "w.safetensors" backbone { pretrained_format: "timm" } }'
    config = tiny.load(tmp_path, options)
    model = architectures.build_model(config)
    assert state._initialise(config, model, tmp_path, trains=True) == "w.safetensors"
    config.model_options.backbone.pretrained_weights = "other.h5"
    assert state._initialise(config, model, tmp_path, trains=True) == "other.h5\nw.safetensors"
    assert calls == [("w.safetensors", "timm"), ("other.h5", "timm"), ("w.safetensors", "timm")]
    with pytest.raises(ValueError, match="no checkpoint w.safetensors"):
        state._initialise(config, model, tmp_path, trains=False)


def test_part_of_a_checkpoint(tmp_path, monkeypatch):
    given = {}

    def load(model, path, **options):
        given.update(options)
        return report.Report(path)

    monkeypatch.setattr(restore, "load_initial", load)
    options = (
        'model_options { initial_checkpoint: "ckpt" skip_from_initial_checkpoint: "transformer_class_head" '
        "allow_partial_backbone: true }"
    )
    config = tiny.load(tmp_path, options)
    model = architectures.build_model(config)
    assert "ckpt" in state._initialise(config, model, tmp_path, trains=True)
    assert list(given["skip"]) == ["transformer_class_head"] and given["allow_partial_backbone"]
    state._initialise(config, model, tmp_path, trains=False)
    assert not given["skip"] and not given["allow_partial_backbone"]
