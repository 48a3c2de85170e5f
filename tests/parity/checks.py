"""How parity cases of metrics are fed and compared."""

from typing import Callable, NamedTuple

import numpy as np
import tensorflow as tf

MODES = ("eager", "graph", "xla")
GROUPS = ("", "_things", "_stuff")


class Check(NamedTuple):
    """A value of ours and of theirs; without tolerances they must be equal."""

    what: str
    ours: np.ndarray
    theirs: np.ndarray
    rtol: float = 0.0
    atol: float = 0.0

    def difference(self) -> float:
        """The largest absolute difference; nan stands for nan."""
        ours, theirs = (np.asarray(each, np.float64) for each in (self.ours, self.theirs))
        assert (np.isnan(ours) == np.isnan(theirs)).all(), self.what
        return float(np.nanmax(np.abs(ours - theirs), initial=0.0))

    def hold(self) -> None:
        """Raises AssertionError where they are too far apart."""
        np.testing.assert_allclose(self.ours, self.theirs, rtol=self.rtol, atol=self.atol, err_msg=self.what)


class Case(NamedTuple):
    """One metric on one parity case."""

    title: str
    folder: str  # of the case
    count: Callable[[dict, dict], str]  # how much there is in the manifest and arrays
    measure: Callable[[str], list[Check]]  # of a mode


def update(metric, mode, inputs, *, any_size=True, fill=None):
    """Feeds tuples of arrays to the metric, eagerly, in a graph (of any height and width), or compiled.

    XLA compiles anew for every size. With `fill`, which must be void, maps are filled up to one size for it.
    """

    def step(*arrays):
        metric.update_state(*arrays)

    inputs = [[np.asarray(each) for each in arrays] for arrays in inputs]
    if mode == "xla" and fill is not None:
        size = np.max([arrays[0].shape for arrays in inputs], axis=0)
        inputs = [[_filled(each, size, fill) for each in arrays] for arrays in inputs]
    if mode == "graph" and any_size:
        specs = [tf.TensorSpec([None] * min(each.ndim, 2) + list(each.shape[2:]), each.dtype) for each in inputs[0]]
        step = tf.function(step, input_signature=specs)
    elif mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for arrays in inputs:
        step(*[tf.constant(each) for each in arrays])


def _filled(maps, size, fill):
    if maps.ndim < 2:
        return maps
    margin = [(0, whole - part) for part, whole in zip(maps.shape, size)]
    return np.pad(maps, margin, constant_values=fill if maps.dtype.kind == "i" else 0)


def images(arrays, config, *names):
    """The arrays of every image."""
    return [tuple(arrays[f"{name}_{i:03d}"] for name in names) for i in range(config["num_images"])]


def frames(arrays, num_sequences, names, *, marked=False, after=()):
    """The arrays of every frame, behind them the sequence's number or a mark of its first frame."""
    for sequence in range(num_sequences):
        for frame in range(len(arrays[f"{names[0]}_{sequence}"])):
            maps = [arrays[f"{name}_{sequence}"][frame] for name in names]
            yield (*maps, frame == 0 if marked else sequence, *[arrays[f"{name}_{sequence}"][frame] for name in after])


def void(config):
    """The label of void."""
    return config["ignore_label"] * config["label_divisor"]


def arguments(config):
    """Those of a metric of panoptic labels."""
    classes = config.get("num_classes", 19)
    return classes, config["ignore_label"], config["label_divisor"], config["thing_classes"]
