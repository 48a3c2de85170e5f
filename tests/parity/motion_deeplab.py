"""The parity case of Motion-DeepLab: instances followed through two videos."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from deeplab2_kmax import structures
from deeplab2_kmax.postprocess import center_tracking
from tests import shared
from tests.parity import networks

NAME = "motion_deeplab_postprocess"
VIDEOS = ("short", "long")
CLASSES = structures.MaskClasses((11, 13), tuple(range(11)), ignore_label=255, label_divisor=1000)


def measure(prefix: str, mode: str) -> list[networks.Row]:
    """One row per output, of all frames together; `prefix` is one of VIDEOS, `mode` "graph" or "eager"."""
    manifest, arrays = shared.case(NAME)
    frames = list(zip(arrays[f"{prefix}_panoptic_pred"], arrays[f"{prefix}_frame_offset_map"]))
    tracking = center_tracking.CenterTracking(None, CLASSES, sigma=8.0)
    run = tracking.track
    if mode == "graph":
        panoptic, offsets = (tf.TensorSpec([1, *value.shape], value.dtype) for value in frames[0])
        run = tf.function(run, input_signature=[panoptic, offsets, tracking.spec()])
    tracks, found = tracking.start(), {}
    rows = np.full(arrays[f"{prefix}_center_list"].shape, -1)
    for index, (panoptic, offsets) in enumerate(frames):
        tracked = run(tf.constant(panoptic[np.newaxis]), tf.constant(offsets[np.newaxis]), tracks)
        tracks = tracked.tracks
        count = len(tracks.rows)
        rows[index, :count] = tracks.rows
        values = {
            "panoptic_with_track_ids": tracked.panoptic[0],
            "rendered_heatmap": tracked.heatmap[0],
            "next_tracking_id": tracks.next_number,
            "num_centers": count,
        }
        for name, value in values.items():
            found.setdefault(f"{prefix}_{name}", []).append(np.asarray(value))
    found[f"{prefix}_center_list"] = rows
    measured = []
    for name, spec in manifest["outputs"].items():
        if name.startswith(prefix):
            actual = np.asarray(found[name])
            if "exact_fraction" in spec["tolerance"]:
                measured.append(networks.Row(name, float(np.mean(actual != arrays[name])), 0.0))
            else:
                measured.append(networks.compare(name, actual, arrays[name], **spec["tolerance"]))
    return measured
