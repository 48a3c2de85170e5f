"""The parity case of the IoU tracker: a video with gaps, and one with optical flow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from deeplab2_kmax.postprocess import iou_tracking
from tests import shared
from tests.parity import networks

CASE = "iou_tracker"
RULES = iou_tracking.Rules(thing_ids=(11, 13), label_divisor=10000)


def measure(mode: str) -> list[networks.Row]:
    """A row for each video and one for the number of tracks; the tracker has no graph, so `mode` changes nothing."""
    del mode
    _, arrays = shared.case(CASE)
    tracker = iou_tracking.IoUTracker(RULES)
    rows = [_row("tracked", tracker, arrays["panoptic"], arrays)]
    rows.append(networks.Row("next_track_id", abs(tracker.next_id - int(arrays["next_track_id"])), 0.0))
    flow = iou_tracking.Flow(arrays["flow"], arrays["occlusion"])
    rows.append(_row("flow_tracked", tracker, arrays["flow_panoptic"], arrays, flow))
    rows.append(_row("noflow_tracked", tracker, arrays["flow_panoptic"], arrays))
    return rows


def _row(
    name: str,
    tracker: iou_tracking.IoUTracker,
    frames: Iterable[np.ndarray],
    arrays: dict[str, np.ndarray],
    flow: iou_tracking.Flow | None = None,
) -> networks.Row:
    tracker.reset()
    found = [tracker(frame, flow if number else None) for number, frame in enumerate(frames)]
    return networks.Row(name, float(np.mean(np.stack(found) != arrays[name])), 0.0)
