"""Small raw video data sets in their true layouts, with labels that can be checked by hand.

A function writes the files of a data set below `root`. The gray value of an image tells its frame.
"""

import functools
import json

import numpy as np

from deeplab2_kmax.data import datasets
from tests import converters

# --- STEP ---

STEP_CLASSES = [[0, 11, 11], [13, 255, 11]]
STEP_INSTANCES = [[0, 1, 300], [2, 0, 0]]
STEP_LABEL = [[0, 11001, 11300], [13002, 255000, 11000]]  # the last person is crowd


def channels(classes, instances):
    """A label PNG of STEP and its relatives: red the class, green and blue the instance."""
    instances = np.asarray(instances)
    return np.stack([classes, instances // 256, instances % 256], axis=-1)


def step(root, split, lengths, *, ending=".png", first=0, label=(STEP_CLASSES, STEP_INSTANCES)):
    """Sequences by name with so many frames; `label` is the map of all of them, or None."""
    for name, length in lengths.items():
        for t in range(first, first + length):
            frame = f"{t:06d}"
            converters.save(root / "images" / split / name / f"{frame}{ending}", np.full((2, 3, 3), t))
            if label is not None:
                converters.save(root / "panoptic_maps" / split / name / f"{frame}.png", channels(*label))


def _kitti_step(root):
    step(root, "train", {"0000": 3})
    step(root, "val", {"0002": 2})
    return [f"--step_root={root}"]


def _motchallenge_step(root):
    label = [[0, 4, 4], [6, 255, 4]], STEP_INSTANCES
    step(root, "train", {"0002": 2, "0009": 2}, ending=".jpg", first=1, label=label)
    return [f"--step_root={root}", "--use_two_frames"]


# --- DVPS ---

DEPTH = [[0, 256, 25600], [20000, 300, 0]]  # none, 1 m, 100 m, ...


def cityscapes_dvps_label(t):
    """Of frame t: stuff, two cars whose second changes its id, void."""
    return [[7000, 13001, 32000], [0, 13002 + t, 18000]]


def cityscapes_dvps(root, split, frames=((0, 0), (0, 1), (0, 2), (7, 4)), *, labels=True):
    """Frames are pairs (sequence, frame)."""
    for sequence, t in frames:
        start = root / split / f"{sequence:06d}_{t:06d}_munster_000168_000019"
        converters.save(start.with_name(start.name + "_leftImg8bit.png"), np.full((2, 3, 3), 10 * sequence + t))
        if labels:
            converters.save16(start.with_name(start.name + "_gtFine_instanceTrainIds.png"), cityscapes_dvps_label(t))
            converters.save16(start.with_name(start.name + "_depth.png"), DEPTH)


SEMKITTI_LABEL = [[1, 5 * 65536 + 300, 255 * 65536], [8 * 65536, 18 * 65536, 7 * 65536 + 65535]]


def semkitti_dvps(root, split, frames=((0, 0), (0, 1), (3, 9), (3, 10)), *, published=True):
    """As it is published, or merged and renamed."""
    classes, instances = np.array([[0, 5, 255], [8, 18, 7]]), np.array([[1, 300, 0], [0, 0, 65535]])
    for sequence, t in frames:
        start = root / split / f"{sequence:06d}_{t:06d}"
        converters.save(start.with_name(start.name + "_leftImg8bit.png"), np.full((2, 3, 3), 10 * sequence + t))
        if published:
            converters.save(start.with_name(start.name + "_gtFine_class.png"), classes)
            converters.save16(start.with_name(start.name + "_gtFine_instance.png"), instances)
            converters.save16(start.with_name(start.name + "_depth_718.8560180664062.png"), DEPTH)
        else:
            converters.save(start.with_name(start.name + "_gtFine_instanceTrainIds.png"), channels(classes, instances))
            converters.save16(start.with_name(start.name + "_depth.png"), DEPTH)


def _cityscapes_dvps(root):
    cityscapes_dvps(root, "train")
    cityscapes_dvps(root, "test", labels=False)
    return [f"--dvps_root={root}"]


def _semkitti_dvps(root):
    semkitti_dvps(root, "val")
    return [f"--dvps_root={root}"]


# --- Cityscapes-VPS ---

VPS_CATEGORIES = [{"id": k, "name": name} for k, name in enumerate(datasets.lookup("cityscapes_vps").class_names)]
ROAD, PERSON, CAR = 0, 11, 13

# Segment ids of the frames of two videos; all but 7, which is road, are a category times 1000 and more. Id 0 is void.
VPS_VIDEOS = {
    "0005": [[13005, 13009, 0, 7], [13009, 13001, 11004, 7]],
    "0010": [[13009, 13009, 11004, 7]],
}
# Instances of a video count by their first appearance in the JSON: 13005, 13009, then 13001.
VPS_LABELS = {
    "0005": [[13001, 13002, 255000, 0], [13002, 13003, 11001, 0]],
    "0010": [[13001, 13001, 11001, 0]],
}


def vps_key(video, number):
    """What the file names of a frame have in common."""
    return f"{video}_{number:04d}_frankfurt_000000_{number:06d}"


def _vps_segments(ids, **changes):
    """`segments_info`; 13001 comes last."""
    numbers, areas = np.unique([i for i in ids if i], return_counts=True)
    return [
        {"id": int(i), "category_id": int(i) // 1000, "area": int(area), "iscrowd": 0, **changes}
        for i, area in sorted(zip(numbers, areas), key=lambda pair: (pair[0] == 13001, pair[0]))
    ]


def cityscapes_vps(root, split="val", *, kind="gt", categories=VPS_CATEGORIES, **changes):
    """`changes` replace fields of the segments."""
    annotations = []
    for video, clip in VPS_VIDEOS.items():
        for k, ids in enumerate(clip):
            name = vps_key(video, 5 * k)
            colors = np.stack([np.array([ids]) >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            converters.save(root / split / "img" / f"{name}_newImg8bit.png", np.full((1, 4, 3), 10 * k))
            converters.save(root / split / "panoptic_video" / f"{name}_final_mask.png", colors)
            segments = _vps_segments(ids, **changes)
            annotations.append({"image_id": name, "file_name": f"{name}_final_mask.png", "segments_info": segments})
    # A frame that nobody annotated, and a JSON whose order is not that of the frames.
    converters.save(root / split / "img" / f"{vps_key('0005', 3)}_newImg8bit.png", np.zeros((1, 4, 3)))
    content = {"annotations": annotations[::-1], "images": [], **({"categories": categories} if categories else {})}
    (root / f"panoptic_{kind}_{split}_city_vps.json").write_text(json.dumps(content))


def _cityscapes_vps(root):
    cityscapes_vps(root)
    return [f"--vps_root={root}", "--neighbors"]


# --- VIPSeg and VSPW ---

# Person is class 61 and has instances; grass, class 16, is stuff. 200 is a mistake of the authors.
VIPSEG_MASK = [[0, 16, 1605, 200], [61, 6100, 6101, 12399]]
VIPSEG_LABEL = [[0, 16000, 16000, 0], [61000, 61001, 61002, 123100]]
VSPW_MASK = [[0, 1, 124, 255], [61, 61, 2, 2]]
VSPW_LABEL = [[0, 1000, 124000, 0], [61000, 61000, 2000, 2000]]


def vipseg(root, **videos):
    """Splits with the names of their videos, of two frames each; those of `test` have no labels."""
    _clips(root, videos, "imgs/{}", "panomasks/{}", functools.partial(converters.save16, pixels=VIPSEG_MASK))
    return [f"--vipseg_root={root}"]


def vspw(root, **videos):
    """As `vipseg`."""
    _clips(root, videos, "data/{}/origin", "data/{}/mask", functools.partial(converters.save, pixels=VSPW_MASK))
    return [f"--vspw_root={root}"]


def _clips(root, videos, images, masks, save_mask):
    root.mkdir(parents=True, exist_ok=True)
    for split, names in videos.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            for t in (0, 30):
                converters.save(root / images.format(name) / f"{t:08d}.jpg", np.full((2, 4, 3), t))
                if split != "test":
                    save_mask(root / masks.format(name) / f"{t:08d}.png")


# --- WOD-PVPS ---

WOD_CAMERAS = ("front", "panorama")
WOD_SIZES = {"front": (2, 3), "panorama": (1, 4)}
WOD_NUM_CAMERAS = [[1, 2, 2, 1]]  # of a panorama


def wod_label(camera, t):
    """Of frame t: a car whose instance is the same for all cameras, void, and stuff whose class counts the frames."""
    if camera == "front":
        return [[200700, 0, 2500000], [(20 + t) * 100000, 0, 0]]
    return [[200700, 0, 0, (20 + t) * 100000]]


def wod_depth(camera, t):
    """Of frame t."""
    return np.full(WOD_SIZES[camera], 256 * t + 1)


def wod_pvps(root, split="val", sequences=("s1", "s2"), num_frames=3, cameras=WOD_CAMERAS, *, labels=True):
    """Frames 1000, 1001, ...."""
    for name in sequences:
        for camera in cameras:
            for t in range(num_frames):
                place = f"{split}/{name}/{camera}/100{t}"
                converters.save(root / "images" / f"{place}.png", np.full((*WOD_SIZES[camera], 3), 10 * t))
                if labels:
                    ids = np.array(wod_label(camera, t))
                    converters.save(root / "panoptic_maps" / f"{place}.png", channels(ids // 100000, ids % 100000))
                    converters.save16(root / "depth" / f"{place}.png", wod_depth(camera, t))
                    if camera == "panorama":
                        converters.save(root / "num_cameras" / f"{place}.png", WOD_NUM_CAMERAS)


def _wod_pvps(root):
    wod_pvps(root)
    dataset = "wod_pvps_depth_video_panoptic_seg_multicam"
    return [f"--wod_root={root}", f"--cameras={','.join(WOD_CAMERAS)}", f"--dataset={dataset}"]


CASES = (
    converters.Case("kitti_step", _kitti_step, {"train": 3, "val": 2}),
    converters.Case("motchallenge_step", _motchallenge_step, {"train": 4}),
    converters.Case("cityscapes_dvps", _cityscapes_dvps, {"train": 2, "test": 2}),
    converters.Case("semkitti_dvps", _semkitti_dvps, {"val": 2}),
    converters.Case("cityscapes_vps", _cityscapes_vps, {"val": 3}),
    converters.Case("vipseg", lambda root: vipseg(root, train=["b", "a"], test=["c"]), {"train": 4, "test": 2}),
    converters.Case("vspw", lambda root: vspw(root, val=["a"]), {"val": 2}),
    converters.Case("wod_pvps", _wod_pvps, {"val": 4}),
)
