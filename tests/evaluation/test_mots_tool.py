"""MOTS scores of random videos against TrackEval, on files of its format (`pip install trackeval`)."""

import numpy as np
import pytest
import tensorflow as tf

from evaluation import mots

trackeval = pytest.importorskip("trackeval", reason="needs the package trackeval")
mask_utils = pytest.importorskip("pycocotools.mask", reason="needs the package pycocotools")

VOID, LENGTH, SIZE = 2550, 12, (40, 61)
CLASSES = {"car": 0, "pedestrian": 1}  # 1 and 2 in the files


def video(seed):
    rng = np.random.default_rng(seed)
    maps = np.full((2, LENGTH, *SIZE), 20, np.int32)
    for label in [0, 1, 2, 3, 11, 12, VOID]:
        top, left, height, width = (
            rng.integers(0, 26),
            rng.integers(0, 36),
            rng.integers(6, 14),
            rng.integers(8, 20),
        )
        for frame in range(LENGTH):
            for side in range(2):
                if rng.uniform() < 0.85:
                    drawn = rng.choice([label, 4, 13]) if side and rng.uniform() < 0.2 else label
                    place = left + frame // 2 + side * rng.integers(0, 4)
                    maps[side, frame, top : top + height, place : place + width] = drawn
    # An IoU of exactly one half is a match for TrackEval, and none for the MOTS tools: no such pair.
    for true, pred in zip(*maps):
        for g, p in {(g, p) for g, p in zip(true.flat, pred.flat) if g < 20 and p < 20}:
            both = (true == g) & (pred == p)
            if 2 * both.sum() == ((true == g) | (pred == p)).sum():
                pred[tuple(np.argwhere(both)[0])] = 20
    return maps


def lines(frames, is_truth):
    """`time id class height width run-length code`; id and class 10000 and 10 for what is ignored."""
    for time, labels in enumerate(frames):
        masks = {}
        if is_truth:
            masks["10000 10"] = (labels >= VOID) | ((labels < 20) & (labels % 10 == 0))
        for label in np.unique(labels[labels < 20]):
            if label % 10 or not is_truth:
                masks[f"{(label // 10 + 1) * 1000 + label % 10} {label // 10 + 1}"] = labels == label
        for head, mask in masks.items():
            if mask.any():
                code = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
                yield f"{time} {head} {SIZE[0]} {SIZE[1]} {code}"


@pytest.mark.parametrize("seed", range(3))
def test_mots_equals_trackeval(seed, tmp_path):
    names = {f"{seed:02d}{i}": LENGTH for i in range(2)}
    videos = [video(10 * seed + i) for i in range(2)]
    folders = tmp_path / "truth" / "label_02", tmp_path / "found" / "ours" / "data"
    metric = mots.TrackingAndSegmentation(3, 255, 10, (0, 1), max_segments=32, max_tracks=32)
    for side, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for name, maps in zip(names, videos):
            (folder / f"{name}.txt").write_text("\n".join(lines(maps[side], side == 0)) + "\n")
    for sequence, maps in enumerate(videos):
        metric.update_state(tf.constant(maps[0]), tf.constant(maps[1]), sequence)
    options = {"GT_FOLDER": str(tmp_path / "truth"), "TRACKERS_FOLDER": str(tmp_path / "found"), "SEQ_INFO": names}
    dataset = trackeval.datasets.KittiMOTS({**options, "PRINT_CONFIG": False})
    clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False})
    result = metric.result()
    for name, index in CLASSES.items():
        found = {}
        for sequence in names:
            raw = dataset.get_raw_seq_data("ours", sequence)
            found[sequence] = clear.eval_sequence(dataset.get_preprocessed_seq_data(raw, name))
        theirs = clear.combine_sequences(found)
        for ours, key in (("tp", "CLR_TP"), ("fp", "CLR_FP"), ("fn", "CLR_FN"), ("ids", "IDSW")):
            assert result[ours][index] == theirs[key], (name, key)
        assert theirs["CLR_TP"] > 0
        for ours, key in (("smotsa", "sMOTA"), ("motsa", "MOTA"), ("motsp", "MOTP")):
            np.testing.assert_allclose(result[f"{ours}_per_class"][index], theirs[key], rtol=1e-9)
