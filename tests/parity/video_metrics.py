"""The parity cases of video metrics: what ours gives, what the official tool gave."""

import functools

import numpy as np
import tensorflow as tf

from evaluation import (
    depth_aware_quality,
    mots,
    region_boundary,
    segmentation_tracking_quality,
    video_panoptic_quality,
)
from tests import shared
from tests.parity import checks


def _num_frames(manifest, arrays, name="gt"):
    maps = [each for key, each in arrays.items() if key.startswith(f"{name}_")]
    return f"{sum(map(len, maps))} frames of {len(maps)} video{'s' * (len(maps) > 1)}"


def _video_panoptic_quality(mode):
    manifest, expected = shared.case("vpq")
    config = manifest["config"]
    metric = video_panoptic_quality.VideoPanopticQuality(
        *checks.arguments(config), windows=config["windows"], max_segments=64
    )
    inputs = checks.frames(expected, config["num_sequences"], ("gt", "pred"), marked=True)
    checks.update(metric, mode, inputs, fill=checks.void(config))
    result = metric.result()
    rows = []
    for index, window in enumerate(config["windows"]):
        counts = np.stack([result[key][index] for key in ("tp", "fp", "fn")], axis=1)
        rows.append(checks.Check(f"counts of {window}", counts, expected[f"tp_fp_fn_k{window}"]))
        rows.append(checks.Check(f"iou of {window}", result["iou"][index], expected[f"iou_k{window}"], rtol=1e-12))
    summary = [np.stack([result[key + group] for key in ("pq", "sq", "rq", "n")], axis=1) for group in checks.GROUPS]
    return [
        *rows,
        checks.Check("summary", np.stack(summary, axis=1), expected["summary"], rtol=1e-12),
        checks.Check("vpq", [result["vpq" + group] for group in checks.GROUPS], expected["vpq"], rtol=1e-12),
        checks.Check("left out", result["overflow"] + result["invalid"], 0.0),
    ]


def _depth_aware_vpq(benchmark, num_sequences, abs_rel, mode):
    manifest, expected = shared.case("dvpq")
    config = {**manifest["config"], **manifest["config"][benchmark]}
    metric = depth_aware_quality.DepthAwareVideoPanopticQuality(
        *checks.arguments(config),
        windows=config["windows"],
        depth_thresholds=config["depth_thresholds"],
        max_segments=64,
    )
    names = [f"{benchmark}_{name}" for name in ("gt", "pred", "depth_gt", "depth_pred")]
    checks.update(metric, mode, checks.frames(expected, num_sequences, names, marked=True))
    result = metric.result()
    rows = []
    for index, window in enumerate(config["windows"]):
        # The first without a look at depth.
        for level, threshold in enumerate([0, *config["depth_thresholds"]]):
            stats = expected[f"{benchmark}_stats_k{window}_l{threshold}"]
            for row, key in enumerate(("iou", "tp", "fn", "fp")):
                value = result[f"depth_{key}"][index, level - 1] if level else result[key][index]
                rtol = 1e-12 if key == "iou" else 0.0
                rows.append(checks.Check(f"{key} of {window} at {threshold}", value, stats[row], rtol=rtol))
    pq = [
        tf.concat([result[f"pq{group}"][:, tf.newaxis], result[f"depth_pq{group}"]], axis=1) for group in checks.GROUPS
    ]
    theirs = expected[f"{benchmark}_abs_rel"][:, 1:]
    ours = np.broadcast_to(np.reshape(result[abs_rel], [-1, 1]), theirs.shape)
    dvpq = [result["dvpq" + group] for group in checks.GROUPS]
    return [
        *rows,
        checks.Check("pq", np.stack(pq, axis=-1), expected[f"{benchmark}_pq"], rtol=1e-12),
        checks.Check("dvpq", dvpq, expected[f"{benchmark}_dvpq"], rtol=1e-12),
        checks.Check("abs_rel", ours, theirs, rtol=1e-12),
    ]


def _segmentation_tracking_quality(prefix, mode):
    manifest, expected = shared.case("stq")
    metric = segmentation_tracking_quality.SegmentationTrackingQuality(
        *checks.arguments(manifest["config"]), max_segments=64, max_pairs=1024, max_sequences=3
    )
    checks.update(metric, mode, checks.frames(expected, 3, ("gt", "pred"), after=("weights",) if prefix else ()))
    unflushed = metric.result()["unflushed"]
    metric.flush()
    result = metric.result()
    rows = [checks.Check("unflushed", unflushed, float(len(expected["gt_2"])))]
    for ours, theirs in (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU")):
        rows.append(checks.Check(ours, result[ours], expected[prefix + theirs], rtol=1e-9))
        theirs = expected[f"{prefix}{theirs}_per_seq"]
        rows.append(checks.Check(f"{ours} per sequence", result[f"{ours}_per_seq"], theirs, rtol=1e-9))
    return [
        *rows,
        checks.Check("confusion", result["confusion_per_seq"], expected[f"{prefix}confusion_per_seq"]),
        checks.Check("lengths", result["length_per_seq"], expected["length_per_seq"]),
        checks.Check("tubes", result["num_tubes_per_seq"], expected["num_gt_tracks"]),
        checks.Check("left out", result["unflushed"] + result["overflow"] + result["invalid"], 0.0),
    ]


def _depth_aware_stq(mode):
    manifest, expected = shared.case("dstq")
    thresholds = manifest["config"]["depth_thresholds"]
    metric = depth_aware_quality.DepthAwareSegmentationTrackingQuality(
        *checks.arguments(manifest["config"]),
        depth_thresholds=thresholds,
        max_segments=64,
        max_pairs=1024,
        max_sequences=3,
    )
    checks.update(metric, mode, checks.frames(expected, 3, ("gt", "pred", "depth_gt", "depth_pred")))
    metric.flush()
    result = metric.result()
    names = (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU"), ("dstq", "DSTQ"), ("dq", "DQ"))
    rows = [checks.Check(ours, result[ours], expected[theirs], rtol=1e-6) for ours, theirs in names]
    for index, threshold in enumerate(thresholds):
        for ours, theirs in (("dstq", "DSTQ"), ("dq", "DQ")):
            value = result[f"{ours}_at"][index]
            rows.append(checks.Check(f"{ours} at {threshold}", value, expected[f"{theirs}_at_{threshold}"], rtol=1e-6))
            value = result[f"{ours}_at_per_seq"][:, index]
            theirs = expected[f"{theirs}_per_seq_at_{threshold}"]
            rows.append(checks.Check(f"{ours} at {threshold} per sequence", value, theirs, rtol=1e-6))
    return [
        *rows,
        checks.Check("inliers", result["depth_inliers_per_seq"], expected["depth_inliers"]),
        checks.Check("pixels", result["depth_total_per_seq"], expected["depth_total"]),
    ]


def _mots(mode):
    manifest, expected = shared.case("mots")
    metric = mots.TrackingAndSegmentation(*checks.arguments(manifest["config"]), max_segments=64, max_tracks=64)
    inputs = checks.frames(expected, manifest["config"]["num_sequences"], ("gt", "pred"))
    checks.update(metric, mode, inputs, fill=checks.void(manifest["config"]))
    result = metric.result()
    rows = []
    for index in manifest["config"]["thing_classes"]:
        counts = [result[key][index] for key in ("masks", "tp", "fp", "fn", "ids", "ignored")]
        scores = [result[f"{key}_per_class"][index] for key in ("smotsa", "motsa", "motsp")] + [result["iou"][index]]
        rows.append(checks.Check(f"counts of class {index}", counts, expected[f"counts_class{index}"]))
        rows.append(checks.Check(f"scores of class {index}", scores, expected[f"scores_class{index}"], rtol=1e-9))
    return rows


def _region_and_boundary(mode):
    manifest, expected = shared.case("jf_davis")
    metric = region_boundary.RegionAndBoundary(
        tolerance=manifest["config"]["boundary_tolerance"], max_objects=8, max_frames=24
    )
    of_frames: dict[str, list] = {"j": [], "f": []}
    for sequence in range(manifest["config"]["num_sequences"]):
        one = {f"{key}_0": expected[f"{key}_{sequence}"] for key in ("gt", "pred")}
        checks.update(metric, mode, checks.frames(one, 1, ("gt", "pred")), any_size=False)
        for key, values in (("j", metric.j_frames), ("f", metric.f_frames)):
            of_frames[key].append(values.numpy()[: one["gt_0"].max(), 1 : len(one["gt_0"]) - 1].ravel())
        metric.flush()
    result = metric.result()
    keys = ("j_and_f", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
    return [
        checks.Check("j of frames", np.concatenate(of_frames["j"]), expected["J_frames"], atol=1e-9),
        checks.Check("f of frames", np.concatenate(of_frames["f"]), expected["F_frames"], atol=1e-9),
        checks.Check("j and f", [result[key] for key in keys], expected["J_and_F"], atol=1e-9),
        checks.Check("objects", result["num_objects"], float(len(expected["objects"]))),
    ]


CASES = {
    "vpq": checks.Case("VPQ", "vpq", _num_frames, _video_panoptic_quality),
    "stq": checks.Case("STQ, AQ, SQ", "stq", _num_frames, functools.partial(_segmentation_tracking_quality, "")),
    "stq_weighted": checks.Case(
        "STQ, weighted", "stq", _num_frames, functools.partial(_segmentation_tracking_quality, "weighted_")
    ),
    "dvpq_cityscapes": checks.Case(
        "DVPQ (Cityscapes)",
        "dvpq",
        functools.partial(_num_frames, name="cs_gt"),
        functools.partial(_depth_aware_vpq, "cs", 3, "sequence_abs_rel"),
    ),
    "dvpq_semkitti": checks.Case(
        "DVPQ (SemKITTI)",
        "dvpq",
        functools.partial(_num_frames, name="sk_gt"),
        functools.partial(_depth_aware_vpq, "sk", 1, "abs_rel"),
    ),
    "dstq": checks.Case("DSTQ", "dstq", _num_frames, _depth_aware_stq),
    "mots": checks.Case("MOTSA, sMOTSA, MOTSP", "mots", _num_frames, _mots),
    "j_and_f": checks.Case("J&F (DAVIS)", "jf_davis", _num_frames, _region_and_boundary),
}
