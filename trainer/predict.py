"""Predicts pictures and videos: overlays, COCO panoptic PNGs and one COCO panoptic JSON, and more for videos.

python trainer/predict.py --model=exported --input=photos --output=predictions
python trainer/predict.py --config_file=X.textproto --checkpoint_path=runs/X --input='clip/*.png' --output=predictions

The output folder holds overlay/<name>.png, panoptic/<name>.png and panoptic.json, which evaluation/evaluate.py reads.

python trainer/predict.py --video --model=exported --input=clips --output=predictions

takes every folder of frames as a video: ids are those of tracks, see docs/video.md. Models of video always do.
"""

from __future__ import annotations

import glob
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags
from PIL import Image

from evaluation import command

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_VIDEO_FORMATS = ("coco", "step", "dvps")

_MODEL = flags.DEFINE_string("model", None, "SavedModel folder, as trainer/export_model.py writes it.")
_DATASET = flags.DEFINE_string("dataset", None, "Data set, or class file, of a SavedModel of another program.")
_CONFIG = flags.DEFINE_string("config_file", None, "Instead of --model: the experiment, with --checkpoint_path.")
_CHECKPOINT = flags.DEFINE_string("checkpoint_path", None, "Checkpoint prefix, or a folder: its newest checkpoint.")
_PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "With --config_file: arithmetic.")
_OVERRIDE = flags.DEFINE_multi_string("override", [], "With --config_file: text of ExperimentOptions laid over it.")
_SET = flags.DEFINE_multi_string("set", [], "With --config_file: NAME=value for a placeholder ${NAME}.")
_INPUT = flags.DEFINE_multi_string(
    "input", [], "Picture, folder of pictures or video frames (subfolders too), or glob in quotes; repeatable."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.")
_NAMES = flags.DEFINE_bool("names", True, "Write class names into the overlays.")
_ALPHA = flags.DEFINE_float("alpha", 0.6, "Weight of the colours in the overlays.", lower_bound=0, upper_bound=1)
_VIDEO = flags.DEFINE_bool(
    "video", None, "Every folder of frames is a video, with tracks. Default: if the model is one of videos."
)
_FORMATS = flags.DEFINE_list(
    "formats", None, "Of videos: any of coco, step, dvps. Default: coco and step, dvps too where there is depth."
)
_ANIMATION = flags.DEFINE_enum(
    "animation", "gif", ["gif", "apng", "mp4", "none"], "Of videos: the overlays as a moving picture (mp4: OpenCV)."
)
_FPS = flags.DEFINE_float("fps", 10, "Frames per second of the animation.", lower_bound=0.1, upper_bound=50)
_SIDE = flags.DEFINE_integer("animation_side", 640, "Longer side of the animation, in pixels.", lower_bound=16)
_CAMERA = flags.DEFINE_string(
    "camera", None, "Of videos with depth: fx,fy,cx,cy in pixels of the frames, to write point clouds (PLY)."
)
_OF_VIDEOS = (_FORMATS, _ANIMATION, _FPS, _SIDE, _CAMERA)
_MEGAPIXELS = flags.DEFINE_float("max_megapixels", 100, "Larger pictures are skipped.", lower_bound=0)


def find_pictures(sources: Iterable[str]) -> dict[str, pathlib.Path]:
    """The pictures behind paths, folders and globs, by name: the path within its folder, without the ending.

    Of several folders each has its own name before it. Frames are in the order of the numbers in their names.

    Raises:
        ValueError: a source that gives no picture.
    """
    found: dict[str, pathlib.Path] = {}
    known: set[pathlib.Path] = set()
    sources = list(sources)
    prefixes = _prefixes(path for path in map(pathlib.Path, sources) if path.is_dir())
    for source in sources:
        path = pathlib.Path(source)
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            pictures = [(prefixes[path] / p.relative_to(path), p) for p in inside]
        elif path.exists():
            pictures = [(pathlib.Path(path.name), path)]
        else:
            matches = [pathlib.Path(p) for p in glob.glob(source, recursive=True)]
            pictures = [(pathlib.Path(p.name), p) for p in matches if p.is_file()]
        if not pictures:
            raise ValueError(f"--input={source}: there is no picture there ({', '.join(SUFFIXES)})")
        for inner, picture in sorted(pictures, key=lambda pair: _natural(str(pair[1]))):
            if picture.resolve() not in known:
                known.add(picture.resolve())
                found[_free_name(inner, found)] = picture
    return found


def predict(
    predictor: Callable[[Any], Any],
    pictures: dict[str, pathlib.Path],
    output: pathlib.Path,
    *,
    alpha: float = 0.6,
    names: bool = True,
) -> tuple[int, int]:
    """Predicts pictures one after the other and writes the files of all that work.

    Returns:
        How many worked and how many did not; each of these got one line on standard error.

    Raises:
        ValueError: an output file would overwrite one of the pictures.
    """
    _refuse_to_overwrite(pictures, output)
    output.mkdir(parents=True, exist_ok=True)
    images, annotations, failed = [], [], 0
    progress = _Progress(len(pictures))
    try:
        for name, path in pictures.items():
            try:
                result = predictor(path)
            except ValueError as error:
                failed += 1
                progress.note(f"skipped {error}")
                continue
            file_name = f"{name}.png"
            drawn = result.draw(alpha=alpha, names=names)
            for folder, picture in (("overlay", drawn), ("panoptic", result.coco_ids())):
                target = output / folder / file_name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(target)
            # COCO's images are named after their numbers.
            image_id = int(name) if name.isdecimal() else name
            height, width = result.panoptic.shape
            images.append({"id": image_id, "file_name": path.name, "height": height, "width": width})
            annotations.append(result.coco_annotation(file_name, image_id))
            progress.step(name, f"{len(result.segments)} segments")
    finally:  # also where it is stopped: the list is of the files that are there
        if annotations:
            content = {"images": images, "annotations": annotations, "categories": predictor.classes.categories()}
            target = output / "panoptic.json"
            unfinished = target.with_name(".panoptic.json.tmp")
            unfinished.write_text(json.dumps(content) + "\n")
            unfinished.replace(target)
    return len(annotations), failed


def main(argv: list[str]) -> int:
    """Exit code 2 where the flags or the model are wrong, 1 where no picture worked, 130 after Ctrl-C, else 0."""
    try:
        _check_flags(argv)
        pictures = find_pictures(_INPUT.value)
        output = pathlib.Path(_OUTPUT.value)
        _refuse_to_overwrite(pictures, output)
        predictor, is_video = _predictor()
        begin = time.monotonic()
        if is_video:
            done, failed = _predict_video(predictor, pictures, output)
        else:
            done, failed = predict(predictor, pictures, output, alpha=_ALPHA.value, names=_NAMES.value)
    except (ValueError, OSError) as error:
        print(f"predict: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npredict: stopped; what was predicted before is in {_OUTPUT.value}", file=sys.stderr)
        return 130
    seconds = time.monotonic() - begin
    speed = f", {seconds / done:.2f} s each" if done else ""
    skipped = f", {failed} skipped" if failed else ""
    what = "frames" if is_video else "pictures"
    where = f"; results in {output}" if done else ""
    print(f"{done} of {len(pictures)} {what} predicted{skipped}{speed}{where}")
    return 0 if done else 1


def _check_flags(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ValueError(f"unexpected argument {argv[1]!r}; pictures are named by --input (put globs in quotes)")
    if not _INPUT.value:
        raise ValueError("--input is missing; see --help")
    if not _OUTPUT.value:
        raise ValueError("--output is missing; see --help")
    if pathlib.Path(_OUTPUT.value).exists() and not pathlib.Path(_OUTPUT.value).is_dir():
        raise ValueError(f"--output={_OUTPUT.value} is a file, expected a folder")
    if bool(_MODEL.value) == bool(_CONFIG.value):
        raise ValueError("expected either --model, or --config_file with --checkpoint_path")
    if _CONFIG.value and not _CHECKPOINT.value:
        raise ValueError("--checkpoint_path is missing, the checkpoint for --config_file")
    for name in _FORMATS.value or ():
        if name not in _VIDEO_FORMATS:
            raise ValueError(f"--formats: expected any of {', '.join(_VIDEO_FORMATS)}, got {name!r}")
    _camera()


def _camera() -> Any:
    from deeplab2_kmax.serving import point_cloud

    return point_cloud.parse_camera(_CAMERA.value) if _CAMERA.value is not None else None


def _predictor() -> tuple[Any, bool]:
    """A Predictor or a VideoPredictor, and which of them."""
    # TensorFlow loads only once the flags are right.
    from deeplab2_kmax import config as configs
    from deeplab2_kmax.serving.predictor import Predictor
    from deeplab2_kmax.serving.video import VideoPredictor

    limit = int(_MEGAPIXELS.value * 1e6)
    kind = Predictor if _VIDEO.value is False else VideoPredictor
    found: Any
    if _MODEL.value:
        found = kind(_MODEL.value, dataset=_DATASET.value, pixel_limit=limit)
    else:
        variables = configs.parse_variables(_SET.value)
        config = configs.load(_CONFIG.value, _OVERRIDE.value, variables=variables)
        found = kind.from_config(config, _CHECKPOINT.value, precision=_PRECISION.value, pixel_limit=limit)
    if _VIDEO.value is None and found.pictures is not None:
        found = found.pictures
    is_video = isinstance(found, VideoPredictor)
    given = [flag.name for flag in _OF_VIDEOS if flag.present]
    if given and not is_video:
        raise ValueError(f"--{given[0]} is for videos: add --video, or leave it out")
    return found, is_video


def _predict_video(predictor: Any, pictures: dict[str, pathlib.Path], output: pathlib.Path) -> tuple[int, int]:
    from trainer import video_files

    options = video_files.Options(
        formats=_FORMATS.value,
        animation=None if _ANIMATION.value == "none" else _ANIMATION.value,
        fps=_FPS.value,
        animation_side=_SIDE.value,
        camera=_camera(),
        alpha=_ALPHA.value,
        names=_NAMES.value,
    )
    progress = _Progress(len(pictures))
    with video_files.VideoFiles(output, options) as files:
        videos = video_files.split(pictures)
        files.check(videos)
        return video_files.predict(predictor, videos, files, say=progress.note, done=progress.step)


def _refuse_to_overwrite(pictures: dict[str, pathlib.Path], output: pathlib.Path) -> None:
    inputs = {path.resolve() for path in pictures.values()}
    for name in pictures:
        for folder in ("overlay", "panoptic"):
            if (output / folder / f"{name}.png").resolve() in inputs:
                raise ValueError(
                    f"{output / folder / name}.png is an input and would be overwritten: choose another --output"
                )


def _prefixes(folders: Iterable[pathlib.Path]) -> dict[pathlib.Path, pathlib.Path]:
    """What stands before the names of the pictures of every folder: nothing if there is one folder."""
    found: dict[pathlib.Path, pathlib.Path] = {}
    for folder in dict.fromkeys(folders):
        name, number = folder.resolve().name, 1
        while pathlib.Path(name) in found.values():
            number += 1
            name = f"{folder.resolve().name}_{number}"
        found[folder] = pathlib.Path(name)
    return found if len(found) > 1 else dict.fromkeys(found, pathlib.Path())


def _free_name(inner: pathlib.Path, taken: dict[str, pathlib.Path]) -> str:
    """The path without its ending; with it, or with a number, where another picture has that name."""
    plain = inner.with_suffix("").as_posix()
    candidates: Iterator[str] = iter([plain, f"{plain}_{inner.suffix[1:].lower()}"])
    number = 2
    name = next(candidates)
    while name in taken:
        name = next(candidates, f"{plain}_{number}")
        number += 1
    return name


def _natural(text: str) -> list[Any]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


class _Progress:
    """A line that is written over on a terminal, a line per picture elsewhere."""

    def __init__(self, total: int):
        self.total, self.done, self.begin = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self, name: str, what: str) -> None:
        self.done += 1
        left = (time.monotonic() - self.begin) / self.done * (self.total - self.done)
        text = f"[{self.done}/{self.total}] {name}: {what}" + (f", {left:.0f} s left" if self.done < self.total else "")
        end = "\n" if not self.terminal or self.done == self.total else ""
        print(("\r\033[K" if self.terminal else "") + text, file=sys.stderr, end=end, flush=True)

    def note(self, text: str) -> None:
        self.done += 1
        print(("\r\033[K" if self.terminal else "") + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command.run(main)
