"""Video metrics against the official tools of their benchmarks."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import (
    depth_aware_quality,
    mots,
    region_boundary,
    segmentation_tracking_quality,
    video_panoptic_quality,
)
from tests import shared

MODES = ("eager", "graph", "xla")
GROUPS = ("", "_things", "_stuff")


def update(metric, mode, arrays, names, num_sequences, *, first=False, **more):
    """Feeds all sequences frame by frame, with their number or, with `first`, a mark of the first frame."""

    def step(*inputs):
        metric.update_state(*inputs)

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for sequence in range(num_sequences):
        for frame in range(len(arrays[f"{names[0]}_{sequence}"])):
            maps = [tf.constant(arrays[f"{name}_{sequence}"][frame]) for name in names]
            last = [tf.constant(arrays[f"{name}_{sequence}"][frame]) for name in more.get("after", ())]
            step(*maps, tf.constant(frame == 0) if first else tf.constant(sequence), *last)


def arguments(config):
    return 19, config["ignore_label"], config["label_divisor"], config["thing_classes"]


@pytest.mark.parametrize("mode", MODES)
def test_vpq_equals_the_cityscapes_vps_tool(mode):
    manifest, expected = shared.case("vpq")
    config = manifest["config"]
    metric = video_panoptic_quality.VideoPanopticQuality(*arguments(config), windows=config["windows"], max_segments=64)
    update(metric, mode, expected, ("gt", "pred"), config["num_sequences"], first=True)
    result = metric.result()
    for index, window in enumerate(config["windows"]):
        counts = np.stack([result[key][index] for key in ("tp", "fp", "fn")], axis=1)
        np.testing.assert_array_equal(counts, expected[f"tp_fp_fn_k{window}"])
        np.testing.assert_allclose(result["iou"][index], expected[f"iou_k{window}"], rtol=1e-12)
    summary = [np.stack([result[key + group] for key in ("pq", "sq", "rq", "n")], axis=1) for group in GROUPS]
    np.testing.assert_allclose(np.stack(summary, axis=1), expected["summary"], rtol=1e-12)
    np.testing.assert_allclose([result["vpq" + group] for group in GROUPS], expected["vpq"], rtol=1e-12)
    assert result["overflow"] == 0 and result["invalid"] == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prefix", ["", "weighted_"])
def test_stq_equals_the_implementation_of_step(mode, prefix):
    manifest, expected = shared.case("stq")
    config = manifest["config"]
    metric = segmentation_tracking_quality.SegmentationTrackingQuality(
        *arguments(config), max_segments=64, max_pairs=1024, max_sequences=3
    )
    update(metric, mode, expected, ("gt", "pred"), 3, after=("weights",) if prefix else ())
    assert metric.result()["unflushed"] == 10
    metric.flush()
    result = metric.result()
    for ours, theirs in (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU")):
        np.testing.assert_allclose(result[ours], expected[prefix + theirs], rtol=1e-9)
        np.testing.assert_allclose(result[f"{ours}_per_seq"], expected[f"{prefix}{theirs}_per_seq"], rtol=1e-9)
    np.testing.assert_array_equal(result["confusion_per_seq"], expected[f"{prefix}confusion_per_seq"])
    np.testing.assert_array_equal(result["length_per_seq"], expected["length_per_seq"])
    np.testing.assert_array_equal(result["num_tubes_per_seq"], expected["num_gt_tracks"])
    assert result["unflushed"] == 0 and result["overflow"] == 0 and result["invalid"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_dstq_equals_deeplab2(mode):
    manifest, expected = shared.case("dstq")
    config = manifest["config"]
    metric = depth_aware_quality.DepthAwareSegmentationTrackingQuality(
        *arguments(config),
        depth_thresholds=config["depth_thresholds"],
        max_segments=64,
        max_pairs=1024,
        max_sequences=3,
    )
    update(metric, mode, expected, ("gt", "pred", "depth_gt", "depth_pred"), 3)
    metric.flush()
    result = metric.result()
    for ours, theirs in (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU"), ("dstq", "DSTQ"), ("dq", "DQ")):
        np.testing.assert_allclose(result[ours], expected[theirs], rtol=1e-6)
    for index, threshold in enumerate(config["depth_thresholds"]):
        np.testing.assert_allclose(result["dstq_at"][index], expected[f"DSTQ_at_{threshold}"], rtol=1e-6)
        np.testing.assert_allclose(result["dq_at"][index], expected[f"DQ_at_{threshold}"], rtol=1e-6)
        for key in ("DSTQ", "DQ"):
            ours, theirs = result[f"{key.lower()}_at_per_seq"][:, index], expected[f"{key}_per_seq_at_{threshold}"]
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_array_equal(result["depth_inliers_per_seq"], expected["depth_inliers"])
    np.testing.assert_array_equal(result["depth_total_per_seq"], expected["depth_total"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("benchmark", "num_sequences", "abs_rel"), [("cs", 3, "sequence_abs_rel"), ("sk", 1, "abs_rel")]
)
def test_dvpq_equals_the_official_scripts(mode, benchmark, num_sequences, abs_rel):
    manifest, expected = shared.case("dvpq")
    config = {**manifest["config"], **manifest["config"][benchmark]}
    metric = depth_aware_quality.DepthAwareVideoPanopticQuality(
        *arguments(config),
        windows=config["windows"],
        depth_thresholds=config["depth_thresholds"],
        max_segments=64,
    )
    names = [f"{benchmark}_{name}" for name in ("gt", "pred", "depth_gt", "depth_pred")]
    update(metric, mode, expected, names, num_sequences, first=True)
    result = metric.result()
    for index, window in enumerate(config["windows"]):
        # The first without a look at depth.
        for level, threshold in enumerate([0, *config["depth_thresholds"]]):
            stats = expected[f"{benchmark}_stats_k{window}_l{threshold}"]
            for row, key in enumerate(("iou", "tp", "fn", "fp")):
                value = result[f"depth_{key}"][index, level - 1] if level else result[key][index]
                if key == "iou":
                    np.testing.assert_allclose(value, stats[row], rtol=1e-12)
                else:
                    np.testing.assert_array_equal(value, stats[row])
    pq = [tf.concat([result[f"pq{group}"][:, tf.newaxis], result[f"depth_pq{group}"]], axis=1) for group in GROUPS]
    np.testing.assert_allclose(np.stack(pq, axis=-1), expected[f"{benchmark}_pq"], rtol=1e-12)
    dvpq = [result["dvpq" + group] for group in GROUPS]
    np.testing.assert_allclose(dvpq, expected[f"{benchmark}_dvpq"], rtol=1e-12)
    theirs = expected[f"{benchmark}_abs_rel"][:, 1:]
    np.testing.assert_allclose(np.broadcast_to(np.reshape(result[abs_rel], [-1, 1]), theirs.shape), theirs, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_mots_equals_the_official_tools(mode):
    manifest, expected = shared.case("mots")
    config = manifest["config"]
    metric = mots.TrackingAndSegmentation(*arguments(config), max_segments=64, max_tracks=64)
    update(metric, mode, expected, ("gt", "pred"), config["num_sequences"])
    result = metric.result()
    for index in config["thing_classes"]:
        counts = [result[key][index] for key in ("masks", "tp", "fp", "fn", "ids", "ignored")]
        np.testing.assert_array_equal(counts, expected[f"counts_class{index}"])
        scores = [result[f"{key}_per_class"][index] for key in ("smotsa", "motsa", "motsp")] + [result["iou"][index]]
        np.testing.assert_allclose(scores, expected[f"scores_class{index}"], rtol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_region_and_boundary_equal_the_davis_tool(mode):
    manifest, expected = shared.case("jf_davis")
    metric = region_boundary.RegionAndBoundary(
        tolerance=manifest["config"]["boundary_tolerance"], max_objects=8, max_frames=24
    )
    frames = {"j": [], "f": []}
    for sequence in range(manifest["config"]["num_sequences"]):
        one = {f"{key}_0": expected[f"{key}_{sequence}"] for key in ("gt", "pred")}
        update(metric, mode, one, ("gt", "pred"), 1)
        for key, values in (("j", metric.j_frames), ("f", metric.f_frames)):
            frames[key].append(values.numpy()[: one["gt_0"].max(), 1 : len(one["gt_0"]) - 1].ravel())
        metric.flush()
    np.testing.assert_allclose(np.concatenate(frames["j"]), expected["J_frames"], atol=1e-9)
    np.testing.assert_allclose(np.concatenate(frames["f"]), expected["F_frames"], atol=1e-9)
    result = metric.result()
    keys = ("j_and_f", "j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay")
    np.testing.assert_allclose([result[key] for key in keys], expected["J_and_F"], atol=1e-9)
    assert result["num_objects"] == len(expected["objects"])
