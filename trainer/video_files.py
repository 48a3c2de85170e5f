"""What the prediction of a video leaves: a file for each frame in each format, and a moving picture."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deeplab2_kmax import visualize
from deeplab2_kmax.serving import point_cloud
from deeplab2_kmax.serving.prediction import Prediction
from trainer import animations, raw_formats

COCO, STEP, DVPS = "coco", "step", "dvps"
_FOLDERS = ("overlay", "panoptic", STEP, DVPS, "depth", "point_cloud")
FORMATS = (COCO, STEP, DVPS)


class Options(NamedTuple):
    """What is written, beside the overlays."""

    formats: Sequence[str] | None = None  # of FORMATS; None: coco and step, dvps too where there is depth
    animation: str | None = "gif"  # of animations.FORMATS
    fps: float = 10.0
    animation_side: int = 640  # pixels of the longer side at most
    camera: point_cloud.Camera | None = None  # for point clouds
    alpha: float = 0.6  # weight of the colours in the overlays
    names: bool = True  # of classes in the overlays


class VideoFiles:
    """Writes the predictions of videos, frame by frame; a context, whose end writes what lists the others.

    `overlay/<name>.png`, `panoptic/<name>.png` with panoptic.json, `step/<name>.png`, `dvps/<video>_<number>_*.png`,
    with depth `depth/<name>.png` (a picture) and `point_cloud/<name>.ply`; `<video>.gif` for every video.
    """

    def __init__(self, folder: pathlib.Path, options: Options):
        self._folder, self._options = folder, options
        self._coco = _CocoFile(folder / "panoptic.json") if self._has(COCO) else None
        self._animation: Any = None

    def __enter__(self) -> VideoFiles:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *unused: object) -> None:
        # Also where it is stopped: the list is of the frames that are there.
        self.end_video()
        if self._coco is not None:
            self._coco.close()

    def check(self, videos: Mapping[str, Mapping[str, pathlib.Path]]) -> None:
        """Sees to it that no frame is overwritten, and no file of another video.

        Raises:
            ValueError: a frame lies where files of the output go, or two videos have one name there.
        """
        ours = [(self._folder / name).resolve() for name in _FOLDERS]
        moving = {self._animation_path(video).resolve() for video in videos if self._options.animation}
        if len({_plain(video) for video in videos}) < len(videos):
            raise ValueError(
                f"two of the videos {', '.join(map(repr, videos))} have one name in the output, where signs other than "
                'letters and digits become "-" and a video without a folder is called "video": rename a folder'
            )
        for frames in videos.values():
            for path in frames.values():
                if path.resolve() in moving or any(folder in path.resolve().parents for folder in ours):
                    raise ValueError(f"{path} is an input and could be overwritten: choose another --output")

    def begin_video(self, name: str) -> None:
        """The frames that follow are of this video; its name is the relative path of its folder, "" for none."""
        self.end_video()
        options = self._options
        if options.animation:
            self._animation = animations.FORMATS[options.animation](self._animation_path(name), options.fps)

    def end_video(self) -> None:
        """Ends the moving picture."""
        if self._animation is not None:
            self._animation.close()
            self._animation = None

    def write(self, name: str, number: int, source: pathlib.Path, found: Prediction) -> None:
        """Writes a frame.

        Args:
            name: relative path without ending; its folder is the video.
            number: of the frame in its video.
            source: the picture.
            found: what was predicted for it.

        Raises:
            ValueError: a point cloud of a model without depth, or ids that a format cannot hold.
        """
        options, classes = self._options, found.classes
        drawn = found.draw(alpha=options.alpha, names=options.names)
        self._save("overlay", name, drawn)
        if self._animation is not None:
            self._animation.add(animations.shrink(drawn, options.animation_side))
        if self._coco is not None:
            self._save("panoptic", name, found.coco_ids())
            self._coco.add(found, f"{name}.png", int(name) if name.isdecimal() else name, source.name)
        if self._has(STEP):
            raw_formats.save_step(self._folder / STEP / name, found.panoptic, classes.label_divisor)
        if self._has(DVPS, default=found.depth is not None):
            path = pathlib.PurePath(name)
            video = path.parent.as_posix() if path.parent.name else ""
            stem = self._folder / DVPS / f"{_plain(video)}_{number:06d}_{path.name}"
            raw_formats.save_dvps(stem, found.panoptic, classes.label_divisor, found.depth)
        if found.depth is not None:
            self._save("depth", name, visualize.depth_picture(found.depth))
        if options.camera is not None:
            if found.depth is None:
                raise ValueError("a camera is for point clouds, but this model tells no depth: leave it out")
            target = self._target("point_cloud", f"{name}.ply")
            point_cloud.write_ply(target, point_cloud.points(found.depth, options.camera), found.image)

    def _has(self, name: str, *, default: bool = True) -> bool:
        return default if self._options.formats is None else name in self._options.formats

    def _animation_path(self, video: str) -> pathlib.Path:
        stem = self._folder / (video or "video")
        return stem.with_name(stem.name + animations.FORMATS[self._options.animation or ""].ending)

    def _save(self, kind: str, name: str, picture: np.ndarray) -> None:
        Image.fromarray(picture).save(self._target(kind, f"{name}.png"))

    def _target(self, kind: str, name: str) -> pathlib.Path:
        target = self._folder / kind / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


class _CocoFile:
    """A COCO panoptic JSON that is written as frames come; what it lists waits in a file, not in memory."""

    def __init__(self, path: pathlib.Path):
        self._path, self._unfinished = path, path.with_name(f".{path.name}.tmp")
        self._images: list[dict[str, Any]] = []
        self._categories: list[dict[str, Any]] = []
        self._file: Any = None

    def add(self, found: Prediction, file_name: str, image_id: int | str, picture_name: str) -> None:
        if self._file is None:
            self._file = self._unfinished.open("w", encoding="utf-8")
        self._file.write(", " if self._images else '{"annotations": [')
        self._file.write(json.dumps(found.coco_annotation(file_name, image_id)))
        height, width = found.panoptic.shape
        self._images.append({"id": image_id, "file_name": picture_name, "height": height, "width": width})
        self._categories = found.classes.categories()

    def close(self) -> None:
        if self._file is not None:
            rest = {"images": self._images, "categories": self._categories}
            self._file.write("], " + json.dumps(rest)[1:] + "\n")
            self._file.close()
            self._unfinished.replace(self._path)


def predict(
    predictor: Any,
    videos: dict[str, dict[str, pathlib.Path]],
    files: VideoFiles,
    *,
    say: Callable[[str], None],
    done: Callable[[str, str], None],
) -> tuple[int, int]:
    """Predicts videos, each from its first frame on, and writes what `files` writes.

    Args:
        predictor: a VideoPredictor.
        videos: frames in order, by their names; by the names of the videos.
        files: open.
        say: gets a line about a frame that is broken; the video goes on with the next one.
        done: gets the name of every frame that is written, and what there is to say.

    Returns:
        How many frames were written and how many were left out.
    """
    written = failed = 0
    for video, frames in videos.items():
        predictor.reset()
        files.begin_video(video)
        waiting: collections.deque[tuple[str, int, pathlib.Path]] = collections.deque()
        for number, (name, path) in enumerate(frames.items()):
            try:
                found = predictor(path)
            except ValueError as error:
                failed += 1
                say(f"skipped {error}")
                continue
            waiting.append((name, number, path))
            if found is not None:
                written += _write(files, waiting.popleft(), found, done)
        last = predictor.finish()
        if last is not None:
            written += _write(files, waiting.popleft(), last, done)
        files.end_video()
    return written, failed


def split(frames: dict[str, pathlib.Path]) -> dict[str, dict[str, pathlib.Path]]:
    """Frames by name -> videos: every folder is one, "" where names have none."""
    videos: dict[str, dict[str, pathlib.Path]] = {}
    for name, path in frames.items():
        folder = pathlib.PurePath(name).parent
        videos.setdefault(folder.as_posix() if folder.name else "", {})[name] = path
    return videos


def _plain(video: str) -> str:
    """The name of a video in the names of files, where "_" ends it."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in video or "video")


def _write(
    files: VideoFiles, frame: tuple[str, int, pathlib.Path], found: Prediction, done: Callable[[str, str], None]
) -> int:
    files.write(*frame, found)
    done(frame[0], f"{len(found.segments)} segments")
    return 1
