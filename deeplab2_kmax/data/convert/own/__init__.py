"""A data set of your own -> TFRecords, the table of its classes, a config that trains, and a report.

    python -m deeplab2_kmax.data.convert.own --images=photos --annotations=annotations.json --output_dir=records

--format is found out where it is not set. What --annotations names:

    coco_panoptic   JSON file; its PNGs in --panoptic_dir, or in the folder beside it that has its name
    coco_instances  JSON file with polygons or run lengths
    semantic_png    folder of PNGs with the class of every pixel: <image>.png
    instance_png    folder of PNGs with the instance of every pixel; classes in the PNGs of --semantic_dir
    labelme         folder of JSON files: <image>.json
    yolo_seg        folder of text files: <image>.txt; names of the classes in data.yaml there or above, or --classes
    cvat            XML file, "CVAT for images"
    voc             folder with SegmentationClass, SegmentationObject and labelmap.txt (the last two may be missing)

Written are train-*.tfrecord, val-*.tfrecord and their manifests, classes.json, config.textproto and report.html.
Everything is read once before the first file is written; docs/own_data.md tells the rest.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from absl import flags

from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import command, files, parallel, writer
from deeplab2_kmax.data.convert.own import classes, experiment, formats, inspection, labels, page, pictures, sources
from deeplab2_kmax.data.convert.own.annotations import Annotations, Options

TRAIN, VAL = "train", "val"
_FOLDERS = {TRAIN: ("train", "training"), VAL: ("val", "valid", "validation")}
_BACKGROUND = ("auto", "class", "void")

_FLAGS = command.new_flags(num_shards=16)
flags.DEFINE_string("images", "", "Folder of images; subfolders too. voc: JPEGImages.", flag_values=_FLAGS)
flags.DEFINE_string("annotations", "", "File or folder, see above.", flag_values=_FLAGS)
flags.DEFINE_enum("format", formats.AUTO, [formats.AUTO, *formats.FORMATS], "See above.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "coco_panoptic: folder of the PNGs.", flag_values=_FLAGS)
flags.DEFINE_string("semantic_dir", "", "instance_png: folder of PNGs with the class of pixels.", flag_values=_FLAGS)
flags.DEFINE_string("val_images", "", "Validation images, where they have a folder.", flag_values=_FLAGS)
flags.DEFINE_string("val_annotations", "", "Their annotations.", flag_values=_FLAGS)
flags.DEFINE_string("val_panoptic_dir", "", "As --panoptic_dir.", flag_values=_FLAGS)
flags.DEFINE_string("val_semantic_dir", "", "As --semantic_dir.", flag_values=_FLAGS)
flags.DEFINE_float(
    "val_share",
    0.1,
    "Otherwise the part of the images kept for validation, chosen by their names alone; 0: none.",
    0,
    0.9,
    flag_values=_FLAGS,
)
flags.DEFINE_string(
    "classes", "", "Names with commas, or a file: .txt, .json, .yaml. In order of their numbers.", flag_values=_FLAGS
)
flags.DEFINE_string("things", "", "Classes with instances: names, numbers, ranges (0-90), or all.", flag_values=_FLAGS)
flags.DEFINE_string("stuff", "", "Classes without instances, likewise.", flag_values=_FLAGS)
flags.DEFINE_enum(
    "background",
    "auto",
    list(_BACKGROUND),
    "Pixels that no outline covers: a class of their own, or void. auto: a class where all classes are things.",
    flag_values=_FLAGS,
)
flags.DEFINE_string("annotation_suffix", "", "End of the annotations' names, after the image's.", flag_values=_FLAGS)
flags.DEFINE_list("void_values", None, "Values of PNGs that mean void; 255 if not set.", flag_values=_FLAGS)
flags.DEFINE_string(
    "no_instance",
    "0",
    "instance_png: value that means no instance; none: every value is one; class: the value of the class map.",
    flag_values=_FLAGS,
)
flags.DEFINE_integer(
    "instance_divisor", 0, "instance_png: the values are class * divisor + instance.", 0, flag_values=_FLAGS
)
flags.DEFINE_integer("label_divisor", 1000, "Of the panoptic ids; above the instances.", 2, flag_values=_FLAGS)
flags.DEFINE_bool("skip_bad", False, "Leave out images that cannot be used, and tell.", flag_values=_FLAGS)
flags.DEFINE_float("max_megapixels", 100.0, "Larger images are not used.", 0, flag_values=_FLAGS)
flags.DEFINE_string("name", "own", "Name of the data set.", flag_values=_FLAGS)
flags.DEFINE_integer("max_crop", 641, "Longest side of the config's crop.", 33, flag_values=_FLAGS)


class Survey(NamedTuple):
    """All that is known before the records are written."""

    format: str
    dataset: datasets.Dataset
    table: labels.Table
    splits: dict[str, list[labels.Item]]
    seen: dict[str, list[inspection.Seen]]  # by split, one per item
    problems: list[sources.Problem]


def survey(values: flags.FlagValues) -> Survey:
    """Reads all images and labels.

    Raises:
        ValueError: flags that name nothing, or images that cannot be used.
    """
    if not re.fullmatch(r"[\w.-]+", values.name):
        raise ValueError(f"--name: expected letters, digits, dots, underscores or dashes, got {values.name!r}")
    options = _options(values)
    found: dict[str, Annotations] = {}
    chosen = ""
    for split, source in _sources(values).items():
        chosen = formats.detect(source, options) if values.format == formats.AUTO else values.format
        if formats.FORMATS[chosen].what.split()[0] == "folder":
            files.folder(str(source.annotations), "annotations")
        else:
            files.file(str(source.annotations), "annotations")
        found[split] = formats.FORMATS[chosen].read(source, options)
    problems = [problem for one in found.values() for problem in one.problems]
    splits = {split: one.items for split, one in found.items()}
    if list(splits) == [""]:
        splits = _split(found[""], values.val_share)
    known, bad = _classes(values, list(found.values()), [item for items in splits.values() for item in items])
    problems += bad
    splits = _without(splits, [problem.image for problem in bad], problems)
    _refuse(values, problems)
    first = next(iter(found.values()))
    background = values.background == "class" or (
        values.background == "auto" and first.sparse and all(one.thing for one in known)
    )
    if background and not first.sparse:
        raise ValueError(f"--background=class: {chosen} says what every pixel is")
    dataset, table = classes.table(known, name=values.name, label_divisor=values.label_divisor, background=background)
    everything = [item for items in splits.values() for item in items]
    looks = inspection.survey(
        everything, table, max_pixels=round(values.max_megapixels * 1e6), num_processes=values.num_processes
    )
    bad = [
        sources.Problem(item.name, look.problem, image=item.image)
        for item, look in zip(everything, looks)
        if look.problem
    ]
    problems += bad
    _refuse(values, problems)
    problems += [sources.Problem(look.name, note, lost=False) for look in looks for note in look.notes]
    splits = _without(splits, [problem.image for problem in bad], problems)
    seen = iter([look for look in looks if not look.problem])
    return Survey(
        chosen,
        dataset,
        table,
        splits,
        {split: [next(seen) for _ in items] for split, items in splits.items()},
        problems,
    )


def encode(item: labels.Item, *, table: Sequence[Any], max_pixels: int, label_format: str) -> bytes:
    """Serialises one image."""
    picture = pictures.read(item, max_pixels=max_pixels)
    label = item.label.read(picture.size, labels.Table.from_json(table)).label
    return example.encode_example(picture.data, label, filename=item.name, label_format=label_format)


def plan(values: flags.FlagValues) -> list[writer.Split]:
    """What the flags ask for."""
    return _plan(values, survey(values))


def _plan(values: flags.FlagValues, found: Survey) -> list[writer.Split]:
    options = {"table": found.table.to_json(), "max_pixels": round(values.max_megapixels * 1e6)}
    inputs = [path for path in (values.annotations, values.val_annotations) if path and pathlib.Path(path).is_file()]
    return [
        command.split(values, split, items, encode, root=values.images, inputs=inputs, **options)
        for split, items in found.splits.items()
    ]


def main(argv: Sequence[str]) -> int:
    """Runs the converter and returns its exit code."""
    surveyed: list[Survey] = []

    def planned(values: flags.FlagValues) -> list[writer.Split]:
        surveyed.append(survey(values))
        return _plan(values, surveyed[0])

    def finish(values: flags.FlagValues) -> str:
        return _finish(values, surveyed[0])

    return command.run(planned, _FLAGS, __doc__ or "", argv, finish=finish)


def _finish(values: flags.FlagValues, found: Survey) -> str:
    """Writes what belongs to the records, and says what there is."""
    folder = pathlib.Path(values.output_dir).absolute()
    config = experiment.make(found.dataset, found.seen, folder, max_crop=values.max_crop)
    writer.write_text(folder / experiment.CLASSES, datasets.to_json(found.dataset))
    writer.write_text(folder / experiment.CONFIG, config.text)
    report = page.make(found, config, shown=values.output_dir)
    writer.write_text(folder / page.NAME, report)
    told = f", {len(found.problems)} problems" if found.problems else ""
    return (
        f"{found.format}: {found.dataset.num_classes} classes ({len(found.dataset.thing_ids)} things){told}; see "
        f"{folder / page.NAME}\nTrain: python trainer/train.py --config_file={folder / experiment.CONFIG} "
        "--mode=train_and_eval --model_dir=runs"
    )


def _sources(values: flags.FlagValues) -> dict[str, sources.Source]:
    """Folders and files by split; the key "" is all images, which are still to be split."""
    if not values.annotations:
        raise ValueError("--annotations is missing; see --help")
    annotations = pathlib.Path(values.annotations)
    if not annotations.exists():
        raise ValueError(f"--annotations: there is no file or folder {annotations}")
    if not values.images and (annotations / "JPEGImages").is_dir():
        values.images = str(annotations / "JPEGImages")
    images = files.folder(values.images, "images")
    second = _second(values.panoptic_dir, values.semantic_dir, "")
    whole = sources.Source(images, annotations, second)
    val_flags = [name for name in ("val_annotations", "val_panoptic_dir", "val_semantic_dir") if values[name].value]
    if values.val_images:
        if not values.val_annotations:
            values.val_annotations = values.annotations if annotations.is_file() else ""
        path = pathlib.Path(values.val_annotations)
        if not values.val_annotations or not path.exists():
            raise ValueError(f"--val_annotations: there is no file or folder {values.val_annotations!r}")
        val_second = _second(values.val_panoptic_dir, values.val_semantic_dir, "val_")
        return {TRAIN: whole, VAL: sources.Source(files.folder(values.val_images, "val_images"), path, val_second)}
    if val_flags:
        raise ValueError(f"--{val_flags[0]} needs --val_images")
    parts = {split: _part(whole, names) for split, names in _FOLDERS.items()}
    if all(parts.values()):
        return {split: part for split, part in parts.items() if part is not None}
    return {"": whole}


def _second(panoptic_dir: str, semantic_dir: str, prefix: str) -> pathlib.Path | None:
    if panoptic_dir and semantic_dir:
        raise ValueError(f"--{prefix}panoptic_dir and --{prefix}semantic_dir belong to different formats; set one")
    if panoptic_dir:
        return files.folder(panoptic_dir, f"{prefix}panoptic_dir")
    return files.folder(semantic_dir, f"{prefix}semantic_dir") if semantic_dir else None


def _part(whole: sources.Source, names: Sequence[str]) -> sources.Source | None:
    """The subfolders of one split, where images and annotations both have them."""
    for name in names:
        paths = [path / name for path in whole if path is not None]
        if all(path.is_dir() for path in paths):
            return sources.Source(*paths)
    return None


def _options(values: flags.FlagValues) -> Options:
    none: int | str | None = None
    if values.no_instance.isdigit():
        none = int(values.no_instance)
    elif values.no_instance == labels.CLASS:
        none = labels.CLASS
    elif values.no_instance != "none":
        raise ValueError(f"--no_instance: expected a number, class or none, got {values.no_instance!r}")
    if none == labels.CLASS and not values.semantic_dir:
        raise ValueError("--no_instance=class needs --semantic_dir")
    void = None
    if values.void_values is not None:
        if not all(value.isdigit() for value in values.void_values):
            raise ValueError(f"--void_values: expected numbers with commas, got {','.join(values.void_values)!r}")
        void = tuple(int(value) for value in values.void_values)
    given = tuple(classes.parse(values.classes)) if values.classes else ()
    return Options(given, values.annotation_suffix, void, none, values.instance_divisor)


def _classes(
    values: flags.FlagValues, found: Sequence[Annotations], items: Sequence[labels.Item]
) -> tuple[list[classes.Class], list[sources.Problem]]:
    """The classes, their kinds decided, and labels that could not be read for their values."""
    given = classes.parse(values.classes) if values.classes else []
    problems = []
    merged: dict[Any, classes.Class] = {}
    for one in found:
        merged.update({row.category: row for row in one.classes if row.category not in merged})
    known = list(merged.values())
    fixed = bool(known) and not found[0].by_name  # the format has used the list already
    if not known and not given:
        values_found: set[Any] = set()
        for item, (used, problem) in zip(items, parallel.run(inspection.used, items, "classes", values.num_processes)):
            values_found |= used
            problems += [sources.Problem(item.name, problem, image=item.image)] if problem else []
        known = [classes.Class(value, f"class_{value}") for value in sorted(values_found)]
    elif not fixed:
        known = classes.choose(known, given, by_name=found[0].by_name)
    default = found[0].things
    known = [one._replace(thing=default) if one.thing is None else one for one in known]
    known = classes.mark(known, values.things, "things", True)
    known = classes.mark(known, values.stuff, "stuff", False)
    if any(one.thing for one in known) and not default:
        raise ValueError("--things: this format has no instances; use instance_png with --semantic_dir")
    return known, problems


def _split(found: Annotations, val_share: float) -> dict[str, list[labels.Item]]:
    """Training and validation images: as the annotations tell, or by a number made of the name."""
    if found.splits:
        listed = {split: set(names) for split, names in found.splits.items()}
        return {split: [item for item in found.items if item.name in names] for split, names in listed.items()}
    if not val_share or len(found.items) < 2:
        return {TRAIN: list(found.items)}
    draws = {item.name: _draw(item.name) for item in found.items}
    chosen = {name for name, draw in draws.items() if draw < val_share}
    # Neither part is empty.
    chosen = chosen or {min(draws, key=lambda name: draws[name])}
    if len(chosen) == len(draws):
        chosen.remove(max(draws, key=lambda name: draws[name]))
    return {
        TRAIN: [item for item in found.items if item.name not in chosen],
        VAL: [item for item in found.items if item.name in chosen],
    }


def _draw(name: str) -> float:
    """A number from 0 to 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _without(
    splits: dict[str, list[labels.Item]], bad: Collection[str], problems: Sequence[sources.Problem]
) -> dict[str, list[labels.Item]]:
    """The splits without some images, given by path."""
    kept = {split: [item for item in items if item.image not in bad] for split, items in splits.items()}
    if not kept.get(TRAIN):
        told = f": {problems[0].text}" if problems else ""
        raise ValueError(f"no image is left for training{told}")
    return {split: items for split, items in kept.items() if items}


def _refuse(values: flags.FlagValues, problems: Sequence[sources.Problem]) -> None:
    lost = [problem for problem in problems if problem.lost]
    if lost and not values.skip_bad:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise ValueError(f"{lost[0].text}{more}. --skip_bad leaves such images out and lists them in the report")
