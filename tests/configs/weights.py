"""The weights of some shipped configs and how the solver treats them, committed so that a review sees what changes.

`python -m tests.configs.weights`, run in the checkout, writes the tables anew.
"""

import deeplab2_kmax as dk
from tests.configs import resolved
from trainer import state

NAMES = ("tiny/kmax_synthetic", "tiny/max_deeplab_synthetic", "coco/kmax_deeplab/resnet50")


def table_of(name: str) -> str:
    """One line per trainable variable: path, shape, decay, learning-rate factor."""
    config = dk.load_config(resolved.CONFIGS / f"{name}.textproto")
    model = dk.build_model(config, postprocess=False)
    model.build_variables()
    lines = []
    for row in state.variable_table(config, model):
        decay = "decayed" if row.decayed else "-"
        lines.append(f"{row.name} {'x'.join(map(str, row.shape))} {decay} {row.learning_rate_factor:g}")
    return "\n".join(sorted(lines)) + "\n"


def golden_path(name: str):
    """Where the committed table lies."""
    return resolved.GOLDEN / f"{name}.weights.txt"


if __name__ == "__main__":
    for name in NAMES:
        golden_path(name).write_text(table_of(name))
