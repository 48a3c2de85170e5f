"""Annotations painted pixel by pixel: folders of class maps, of instance maps, and both in the layout of PASCAL VOC."""

from __future__ import annotations

import pathlib

from deeplab2_kmax.data.convert import files
from deeplab2_kmax.data.convert.own import classes, labels, sources
from deeplab2_kmax.data.convert.own.annotations import Annotations, Options, annotated
from deeplab2_kmax.data.convert.own.classes import Class

_VOID = (255,)
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def read_semantic(source: sources.Source, options: Options) -> Annotations:
    """A PNG per image with the class of every pixel; with colours where --classes is a JSON file with colours."""
    problems: list[sources.Problem] = []
    found = annotated(source, options.suffix, ".png", problems)
    rule = labels.MapRule(void=_VOID if options.void is None else options.void)
    known: list[Class] = []
    if found and files.mode(found[0][2]) in ("RGB", "RGBA"):
        if not options.given or any(one.color is None for one in options.given):
            raise ValueError(
                f"{found[0][2]} has colours: expected one channel, or --classes=FILE.json with the color of every class"
            )
        colors = tuple(one.color for one in options.given if one.color is not None)
        # Categories of coloured maps are the places in the list.
        known = [one._replace(category=k) for k, one in enumerate(options.given)]
        rule = labels.MapRule(void=(), colors=colors)
    items = [labels.Item(name, str(image), labels.Maps(str(png), None, rule)) for name, image, png in found]
    return Annotations(items, known, problems, things=False, sparse=False)


def read_instances(source: sources.Source, options: Options) -> Annotations:
    """A PNG per image with the number of the instance of every pixel, and perhaps another with its class."""
    problems: list[sources.Problem] = []
    found = annotated(source, options.suffix, ".png", problems)
    alone = source.second is None and not options.instance_divisor
    void = options.void if options.void is not None else () if alone else _VOID
    rule = labels.MapRule(void=void, none=options.none, divisor=options.instance_divisor)
    items = []
    for name, image, png in found:
        class_png = None
        if source.second is not None:
            class_png = files.below(source.second, f"{name}{options.suffix}.png", str(source.second))
            if not class_png.is_file():
                problems.append(sources.Problem(name, f"no class map {class_png}"))
                continue
        items.append(labels.Item(name, str(image), labels.Maps(str(class_png) if class_png else None, str(png), rule)))
    if not alone:
        return Annotations(items, [], problems, things=True, sparse=False)
    names = options.given or (Class(0, classes.BACKGROUND), Class(1, "object"))
    if len(names) == 1:
        names = (Class(0, classes.BACKGROUND), names[0])
    if len(names) != 2:
        raise ValueError("--classes: instance maps alone have one class; the class maps stand in --semantic_dir")
    known = [names[0]._replace(category=0, thing=False), names[1]._replace(category=1, thing=True)]
    return Annotations(items, known, problems, sparse=False)


def read_voc(source: sources.Source, options: Options) -> Annotations:
    """JPEGImages, SegmentationClass and SegmentationObject (where there is one), as PASCAL VOC and CVAT write them."""
    root = source.annotations
    class_dir, object_dir = root / "SegmentationClass", root / "SegmentationObject"
    if not class_dir.is_dir():
        raise ValueError(f"--annotations: {root} holds no folder SegmentationClass")
    has_instances = object_dir.is_dir() and bool(sources.walk(object_dir, (".png",)))
    known = _labelmap(root / "labelmap.txt") if (root / "labelmap.txt").is_file() else []
    known = known or [Class(k, name) for k, name in enumerate(VOC)]
    if options.given:
        known = [one if one.color else one._replace(category=k) for k, one in enumerate(options.given)]
    known = [one._replace(thing=has_instances and one.name != classes.BACKGROUND) for one in known]
    colors = tuple(one.color for one in known if one.color is not None)
    rule = labels.MapRule(void=_VOID if options.void is None else options.void, none=0)
    if len(colors) == len(known):
        rule = rule._replace(colors=colors)
    void_color = [one.category for one in known if one.name in ("void", "ignore", "unlabeled")]
    rule = rule._replace(void=(*rule.void, *(int(category) for category in void_color)))
    problems: list[sources.Problem] = []
    pictures = sources.images(source.images)
    items = []
    for class_png in sources.walk(class_dir, (".png",)):
        name = class_png.relative_to(class_dir).with_suffix("").as_posix()
        object_png = object_dir / class_png.relative_to(class_dir)
        if name not in pictures:
            problems.append(sources.Problem(name, f"{class_png}: there is no image {source.images / name}.*"))
        elif has_instances and not object_png.is_file():
            problems.append(sources.Problem(name, f"{class_png}: there is no {object_png}"))
        else:
            maps = labels.Maps(str(class_png), str(object_png) if has_instances else None, rule)
            items.append(labels.Item(name, str(pictures[name]), maps))
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val")}
    splits = {split: tuple(path.read_text().split()) for split, path in lists.items() if path.is_file()}
    return Annotations(
        items,
        [one for one in known if one.category not in void_color],
        problems,  # images without maps are no problem: most of PASCAL VOC has none
        things=has_instances,
        sparse=False,
        splits=splits if len(splits) == 2 else None,
    )


def _labelmap(path: pathlib.Path) -> list[Class]:
    """CVAT's list of classes: `name:r,g,b:parts:actions` a line."""
    found: list[Class] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(value) for value in rest.split(":")[0].split(","))
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected name:r,g,b::, got {line!r}") from None
        found.append(Class(len(found), name, color=(red, green, blue)))
    return found
