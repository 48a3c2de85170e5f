"""The parity cases of ViP-DeepLab: two frames segmented together, and the ids of stitched maps."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.models import outputs
from deeplab2_kmax.postprocess import center_grouping, stitching, two_frames
from tests import shared
from tests.parity import networks

CLASSES = structures.MaskClasses(tuple(range(11, 19)), tuple(range(11)), ignore_label=32, label_divisor=1000)
RULES = center_grouping.Rules(center_threshold=0.1, nms_kernel=13, stuff_area=96)
PARTS = ("a", "b", "c")
OFFSETS = {"stitched": None, "stitched_offset128": 128}


def measure_two_frames(mode: str) -> list[networks.Row]:
    """One row per map; `mode` is "graph" or "eager"."""
    manifest, arrays = shared.case("vip_deeplab_two_frame")
    given = {name: tf.constant(arrays[name]) for name in manifest["inputs"]}
    current = {name: given[f"current_{theirs}"] for name, theirs in _maps("offset_map")}
    following = {name: given[f"next_{theirs}"] for name, theirs in _maps("frame_offset_map")}
    postprocess = two_frames.TwoFrames(RULES, CLASSES)

    def run() -> structures.PairMaps:
        size = tuple(given["next_offset_map"].shape[1:3])
        return postprocess(current, following, given["next_offset_map"], size)

    maps = (run if mode == "eager" else tf.function(run))()
    named = outputs.deeplab2_outputs(structures.DeepLabOutput(given["current_semantic_scores"], maps=maps))
    return [_row(name, named[name], arrays[name], spec) for name, spec in manifest["outputs"].items()]


def measure_stitching(mode: str) -> list[networks.Row]:
    """One row per part and offset, and one for all parts in one batch."""
    manifest, arrays = shared.case("vip_deeplab_stitching")

    rows = []
    for name, offset in OFFSETS.items():
        stitch = functools.partial(stitching.stitch, label_divisor=1000, offset=offset)
        if mode == "graph":
            stitch = tf.function(stitch, input_signature=[tf.TensorSpec([None, None, None], tf.int32)] * 2)
        for parts in (*PARTS, PARTS):
            carried, own, expected = (
                np.concatenate([arrays[f"{part}_{what}"] for part in parts])
                for what in ("concat_next_panoptic", "next_panoptic", name)
            )
            spec = manifest["outputs"][f"{parts[0]}_{name}"]
            rows.append(
                _row(f"{''.join(parts)}_{name}", stitch(tf.constant(carried), tf.constant(own)), expected, spec)
            )
    return rows


def _maps(offsets: str) -> list[tuple[str, str]]:
    return [
        ("semantic_logits", "semantic_scores"),
        ("center_heatmap", "center_heatmap"),
        ("offset_map", offsets),
    ]


def _row(name: str, actual: tf.Tensor, expected: np.ndarray, spec: dict) -> networks.Row:
    if "exact_fraction" in spec["tolerance"]:
        return networks.Row(name, float(np.mean(np.asarray(actual) != expected)), 0.0)
    return networks.compare(name, np.asarray(actual), expected, **spec["tolerance"])
