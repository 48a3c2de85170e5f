"""The parity cases of ViP-DeepLab: two frames segmented together, and the ids of stitched maps."""

from __future__ import annotations

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

    def run(parts: tuple[str, ...], offset: int | None) -> tf.Tensor:
        carried, own = (
            tf.concat([tf.constant(arrays[f"{part}_{name}_panoptic"]) for part in parts], axis=0)
            for name in ("concat_next", "next")
        )
        return stitching.stitch(carried, own, label_divisor=1000, offset=offset)

    stitch = run if mode == "eager" else tf.function(run, reduce_retracing=True)
    rows = []
    for name, offset in OFFSETS.items():
        for part in PARTS:
            spec = manifest["outputs"][f"{part}_{name}"]
            rows.append(_row(f"{part}_{name}", stitch((part,), offset), arrays[f"{part}_{name}"], spec))
        whole = np.concatenate([arrays[f"{part}_{name}"] for part in PARTS])
        rows.append(_row(f"batch_{name}", stitch(PARTS, offset), whole, spec))
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
