"""Checkpoints whose first or last layer is made to fit another model.

    python -m deeplab2_kmax.checkpoints.surgery --checkpoint=panoptic/ckpt-60000 --output=start --input_channels=7
    python -m deeplab2_kmax.checkpoints.surgery --checkpoint=CITYSCAPES --output=start --classes=1,2,8,10,11,12,18

The first line widens the first layer of a model of images to Motion-DeepLab's input: weights for the current frame are
kept, those for the previous frame and its centres are zero, so that nothing changes at the start. The second one keeps
some classes of a semantic head, in the order given: those of MOTChallenge-STEP among the 19 of Cityscapes. Checkpoints
are DeepLab2's or ours; the new one has the same names, without the state of an optimiser, and goes into
`model_options.initial_checkpoint`.

Exit code 0: written; 2: one line says what is wrong.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import flags

from deeplab2_kmax.checkpoints import first_layer, restore
from deeplab2_kmax.data.convert import command

Shape = tuple[int, ...]

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_OPTIMIZER = re.compile(r"^(optimizer|backbone_optimizer)(/|$)|/\.OPTIMIZER_SLOT/")
_KERNEL = re.compile(r"(^|/)kernel$")
# The semantic head's last layer, in the names of DeepLab2 and in ours.
_LAST = re.compile(r"(^|/)(semantic_last_layer(/_conv)?|semantic_head/last)/(kernel|bias)$")
# The object graph of a checkpoint, which belongs to its names.
_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_SHOWN = 4


def operate(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    input_channels: int = 0,
    classes: Sequence[int] = (),
) -> dict[str, tuple[Shape, Shape]]:
    """Writes a checkpoint with other first or last layers.

    Args:
        checkpoint: prefix, or a folder, of which the newest one is taken.
        output: prefix of the new one.
        input_channels: of the first layer; 0: as they are.
        classes: rows of the semantic head's last layer to keep, in this order; none: as they are.

    Returns:
        The old and the new shape of every changed variable, by name.

    Raises:
        ValueError: nothing to do, the checkpoint does not have what is to be changed, or a checkpoint of a training
            would be overwritten.
    """
    if not input_channels and not classes:
        raise ValueError("nothing to change: set --input_channels, --classes, or both")
    reader, prefix = restore.open_checkpoint(checkpoint)
    if os.path.abspath(os.fspath(output)) == os.path.abspath(prefix):
        raise ValueError(f"--output is the checkpoint itself, {prefix}: choose another name")
    if os.path.exists(f"{os.fspath(output)}.index"):
        there, _ = restore.open_checkpoint(output)
        if any(_OPTIMIZER.search(name) for name in there.get_variable_to_shape_map()):
            raise ValueError(f"--output={os.fspath(output)} is a checkpoint of a training already: choose another name")
    values = {
        name.removesuffix(_SUFFIX): reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not _OPTIMIZER.search(name)
    }
    changed: dict[str, np.ndarray] = {}
    if input_channels:
        changed.update(_widened(values, input_channels, prefix))
    if classes:
        changed.update(_transplanted(values, classes, prefix))
    shapes = {name: (values[name].shape, value.shape) for name, value in changed.items()}
    values.update(changed)
    os.makedirs(os.path.dirname(os.path.abspath(os.fspath(output))), exist_ok=True)
    stored = set(reader.get_variable_to_shape_map())
    names = [name + _SUFFIX if name + _SUFFIX in stored else name for name in values]
    tf.raw_ops.SaveV2(
        prefix=os.fspath(output),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.convert_to_tensor(value) for value in values.values()],
    )
    return shapes


def _widened(values: dict[str, np.ndarray], channels: int, source: str) -> dict[str, np.ndarray]:
    if channels <= first_layer.COLORS:
        raise ValueError(f"--input_channels: expected more than the {first_layer.COLORS} of colours, got {channels}")
    kernels = {name: value for name, value in values.items() if name != _GRAPH and _KERNEL.search(name)}
    first = {
        name: value for name, value in kernels.items() if np.ndim(value) == 4 and value.shape[2] == first_layer.COLORS
    }
    if not first:
        raise ValueError(
            f"{source} has no kernel [k, k, {first_layer.COLORS}, C], which would read colours; its kernels begin with "
            f"{sorted(kernels)[:_SHOWN]}"
        )
    return {name: first_layer.widen(value, channels) for name, value in first.items()}


def _transplanted(values: dict[str, np.ndarray], classes: Sequence[int], source: str) -> dict[str, np.ndarray]:
    last = {name: value for name, value in values.items() if _LAST.search(name)}
    if not last:
        raise ValueError(
            f"{source} has no last layer of a semantic head (semantic_last_layer or semantic_head/last); it begins "
            f"with {sorted(values)[:_SHOWN]}"
        )
    count = min(value.shape[-1] for value in last.values())
    beyond = [number for number in classes if not 0 <= number < count]
    if beyond:
        raise ValueError(f"--classes: expected numbers from 0 to {count - 1}, of this head's {count}, got {beyond}")
    return {name: value[..., list(classes)] for name, value in last.items()}


def _operate(values: flags.FlagValues) -> str:
    for name in ("checkpoint", "output"):
        if not values[name].value:
            raise ValueError(f"--{name} is not set; see --help")
    try:
        classes = [int(number) for number in values.classes]
    except ValueError:
        raise ValueError(f"--classes: expected numbers, as in 1,2,8, got {','.join(values.classes)!r}") from None
    changed = operate(values.checkpoint, values.output, input_channels=values.input_channels, classes=classes)
    lines = [f"{name}: {old} -> {new}" for name, (old, new) in sorted(changed.items())]
    return "\n".join([*lines, f"wrote {values.output}"])


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("checkpoint", "", "Prefix of a checkpoint, or a folder with some.", flag_values=values)
    flags.DEFINE_string("output", "", "Prefix of the new checkpoint.", flag_values=values)
    flags.DEFINE_integer(
        "input_channels", 0, "Channels of the first layer's input; 0: as they are.", 0, flag_values=values
    )
    flags.DEFINE_list("classes", [], "Numbers of the classes to keep; none: as they are.", flag_values=values)
    return values


def main(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code."""
    return command.call(_operate, _flags(), __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
