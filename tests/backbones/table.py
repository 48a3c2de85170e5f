"""Every backbone with its sizes and options, as docs/backbones.md.

`python -m tests.backbones.table`, run in the checkout, writes the page anew; it takes some minutes.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from deeplab2_kmax import backbones
from tests import backbone_checks, shared

PAGE = shared.ROOT / "docs/backbones.md"

INTRODUCTION = """# Backbones

`build_backbone(name, ...)` gives the network of a name, in a config `model_options { backbone { name: "..." } }`. It
maps images [B, H, W, 3] in [-1, 1] to a `Pyramid`: levels 1 to 5, un-activated as `stage1` to `stage5` and activated
as `res1` to `res5`, and `output`, the last feature, activated. `backbone.channels` and `backbone.strides` are those of
the levels.

**Sizes.** Images have sides of the form 32 k + 1, so that a feature of stride s has sides (side - 1) / s + 1 and its
pixel i lies exactly on the image's pixel i s. Other sides work too (a side is divided by each stride of 2 and rounded
up), and may change from call to call.

Level n has stride 2^n, or the output stride where that is smaller; ConvNeXt has stride 4 at level 1 as well. Below
output stride 32 convolutions dilate instead of striding, so the same weights give the same features on a finer grid.
That holds for convolutions alone: squeeze-and-excite, attention and switchable atrous convolution see another grid.

**kMaX-DeepLab** takes each of these as `kmax_<name>`, with output stride 32 and drop path that grows linearly, except
`max_deeplab_s`, `max_deeplab_l` and `max_deeplab_l_backbone`. `kmax_axial_resnet50` is `max_deeplab_s_backbone` with
GELU.

**Options** are fields of `BackboneOptions`; a value that a backbone does not have is an error. The width of
`axial_*_s`, `_m` and `_xl` is the default of `backbone_width_multiplier`, so a value given takes its place. The
schedule of drop path is chosen where drop path starts at a stride (`drop_path_schedule`: the ResNets), elsewhere it is
linear.

| In the table | Field |
| --- | --- |
{options}

Numbers are those of trainable parameters with default options, without a classification head. Written by
`python -m tests.backbones.table`.

| Names | Output strides | Parameters | Options |
| --- | --- | ---: | --- |
"""

OPTIONS = {
    "SE": "use_squeeze_and_excite",
    "gate": "squeeze_and_excite_gate",
    "SAC": "use_sac_beyond_stride",
    "stem": "stem_width_multiplier",
    "width": "backbone_width_multiplier",
    "layers": "backbone_layer_multiplier",
    "reduced": "reduce_last_block_filters",
    "windows": "window_size",
    "global end": "global_attention_at_end_of_moat_stage",
    "drop path": "drop_path_keep_prob",
    "recompute": "recompute_stages",
    "RFP": "rfp_steps",
}


def names() -> list[tuple[str, ...]]:
    """The names of every network but those for kMaX-DeepLab, one tuple for each."""
    rows: dict[object, list[str]] = {}
    for name, build in backbones.BACKBONES.items():
        if not name.startswith("kmax_"):
            options = {key: value for key, value in build.keywords.items() if key != "name"}
            rows.setdefault((build.func, repr(sorted(options.items()))), []).append(name)
    return [tuple(same) for same in rows.values()]


def line(row: tuple[str, ...]) -> str:
    """One network's line of the table, but for its parameters, for which it has `{}`."""
    allowed = backbones.FIXED_OPTIONS[row[0]]
    strides = [str(stride) for stride in allowed.get("output_stride", (4, 8, 16, 32))]
    free = [word for word, field in OPTIONS.items() if field not in allowed or len(_kinds(allowed[field])) > 1]
    return f"| {', '.join(f'`{name}`' for name in row)} | {', '.join(strides)} | {{}} | {', '.join(free)} |"


def _kinds(values: Iterable[object]) -> list[object]:
    """The values that differ in effect: -1 and 0 both switch something off."""
    return [value for value in values if value != -1] or [-1]


def parameters(name: str) -> int:
    """Trainable parameters of the network in full."""
    with tf.Graph().as_default():  # in which variables have shapes, but no values
        return backbone_checks.count_parameters(backbones.BACKBONES[name](**_NEEDED.get(name, {})))[0]


# Options without which a backbone is not built.
_NEEDED = {name: {"use_squeeze_and_excite": True} for name in ("mobilenet_v3_small", "mobilenet_v3_large")}


def main() -> None:
    """Writes the page."""
    options = "\n".join(f"| {word} | `{field}` |" for word, field in OPTIONS.items())
    lines = [line(row).format(f"{parameters(row[0]):,}") for row in names()]
    PAGE.write_text(INTRODUCTION.replace("{options}", options) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
