"""Says what is wrong with data: records before a training, or annotations before a conversion.

Records, with the classes they should have (a name, or a class file):

    python -m deeplab2_kmax.data.validate --config_file=experiment.textproto --set=DATA=records
    python -m deeplab2_kmax.data.validate --file_pattern='records/train-*.tfrecord' --dataset=coco_panoptic
    python -m deeplab2_kmax.data.validate --manifest=records/train.manifest.json --dataset=records/classes.json

Annotations in COCO's panoptic format:

    python -m deeplab2_kmax.data.validate --panoptic_json=annotations.json --panoptic_dir=annotations --image_dir=images

Everything is read: checksums, images, labels. Nothing is written, and no path in the data leads out of its folder.
Exit code 0: nothing is wrong; 1: something is; 2: wrong flags.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import command, files, parallel
from deeplab2_kmax.data.validate import panoptic_files, records, shards
from deeplab2_kmax.data.validate.problems import KINDS, Checked, Problem

_FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "config_file", "", "An experiment, whose records for training and evaluation are checked.", flag_values=_FLAGS
)
flags.DEFINE_multi_string("override", [], "Text of ExperimentOptions laid over it.", flag_values=_FLAGS)
flags.DEFINE_multi_string("set", [], "NAME=value for a placeholder ${NAME} of it.", flag_values=_FLAGS)
flags.DEFINE_multi_string("file_pattern", [], "TFRecord files, in quotes; repeatable.", flag_values=_FLAGS)
flags.DEFINE_multi_string("manifest", [], "Manifest whose shards are checked; repeatable.", flag_values=_FLAGS)
flags.DEFINE_string("dataset", "", "Name or class file of the data set of the records.", flag_values=_FLAGS)
flags.DEFINE_bool("labels", True, "Records have labels; test sets have none.", flag_values=_FLAGS)
flags.DEFINE_bool("allow_crowd", False, "Things with instance 0 are crowd regions, no mistake.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_json", "", "Annotations in COCO's panoptic format.", flag_values=_FLAGS)
flags.DEFINE_string("panoptic_dir", "", "Their PNGs; by default the folder of that name.", flag_values=_FLAGS)
flags.DEFINE_string("image_dir", "", "Their images; not looked at if not set.", flag_values=_FLAGS)
flags.DEFINE_float("max_megapixels", 100.0, "More is huge.", 0, flag_values=_FLAGS)
flags.DEFINE_integer("num_processes", 0, "0: one per processor core.", 0, flag_values=_FLAGS)
flags.DEFINE_integer("examples", 3, "Problems told of each kind.", 0, flag_values=_FLAGS)
flags.DEFINE_bool("json", False, "Print all problems as JSON.", flag_values=_FLAGS)


class Records(NamedTuple):
    """Records that belong together: one data set, one split."""

    patterns: tuple[str, ...]
    manifests: tuple[str, ...]
    rules: records.Rules


def check_records(what: Records, *, num_processes: int = 1) -> Checked:
    """Reads records from end to end.

    Raises:
        ValueError: patterns or manifests that name nothing.
    """
    problems: list[Problem] = []
    found = shards.find(what.patterns, problems)
    for manifest in what.manifests:
        found += shards.of_manifest(files.file(manifest, "manifest"), problems)
    found = list({shard.path: shard for shard in found}.values())
    work = functools.partial(records.check_file, rules=what.rules)
    checked = records.join(found, parallel.run(work, found, "shards", num_processes, few=4), what.rules.dataset)
    return checked._replace(problems=problems + checked.problems)


def validate(values: flags.FlagValues) -> int:
    """Checks what the flags name, prints what it finds, and returns the exit code."""
    max_pixels = round(values.max_megapixels * 1e6)
    checked = []
    for what in _records(values, max_pixels):
        checked.append(check_records(what, num_processes=values.num_processes))
    if values.panoptic_json:
        path = files.file(values.panoptic_json, "panoptic_json")
        categories = None
        if values.dataset:
            dataset = datasets.lookup(values.dataset)
            categories = {number: k in dataset.thing_ids for k, number in enumerate(dataset.eval_ids)}
        checked.append(
            panoptic_files.check(
                path,
                files.folder(values.panoptic_dir or str(path.with_suffix("")), "panoptic_dir"),
                files.folder(values.image_dir, "image_dir") if values.image_dir else None,
                max_pixels=max_pixels,
                num_processes=values.num_processes,
                categories=categories,
            )
        )
    if not checked:
        raise ValueError("name what to check: --config_file, --file_pattern, --manifest or --panoptic_json; see --help")
    problems = [problem for one in checked for problem in one.problems]
    total = Checked(problems, sum(one.num_files for one in checked), sum(one.num_images for one in checked))
    print(as_json(total) if values.json else table(total, examples=values.examples))
    return 1 if problems else 0


def table(checked: Checked, *, examples: int) -> str:
    """How many problems of each kind there are, and some of them."""
    seen = f"{checked.num_images} images in {checked.num_files} files"
    if not checked.problems:
        return f"{seen}: nothing is wrong"
    by_kind: dict[str, list[Problem]] = collections.defaultdict(list)
    for problem in checked.problems:
        by_kind[problem.kind].append(problem)
    lines = [f"{seen}: {len(checked.problems)} problems"]
    for kind, meaning in KINDS.items():
        if found := by_kind.get(kind):
            lines.append(f"{len(found):8d}  {kind}: {meaning}")
            lines += [
                f"{'':10}{problem.file}{', ' + problem.id if problem.id else ''}: {problem.text}"
                for problem in found[:examples]
            ]
            if len(found) > examples > 0:
                lines.append(f"{'':10}and {len(found) - examples} more")
    return "\n".join(lines)


def as_json(checked: Checked) -> str:
    """Everything, for programs."""
    counts = collections.Counter(problem.kind for problem in checked.problems)
    content = {
        "ok": not checked.problems,
        "files": checked.num_files,
        "images": checked.num_images,
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "problems": [problem._asdict() for problem in checked.problems],
    }
    return json.dumps(content, indent=1)


def main(argv: Sequence[str]) -> int:
    """Runs the program and returns its exit code."""
    return command.call(validate, _FLAGS, __doc__ or "", argv)


def _records(values: flags.FlagValues, max_pixels: int) -> list[Records]:
    """The records that the flags name."""
    found = []
    rules = records.Rules(None, values.labels, values.allow_crowd, max_pixels)
    if values.file_pattern or values.manifest:
        dataset = datasets.lookup(values.dataset) if values.dataset else None
        found.append(Records(tuple(values.file_pattern), tuple(values.manifest), rules._replace(dataset=dataset)))
    if values.config_file:
        found += _of_config(values, rules)
    elif values.override or values.set:
        raise ValueError("--override and --set belong to --config_file")
    return found


def _of_config(values: flags.FlagValues, rules: records.Rules) -> list[Records]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import deeplab2_kmax

    variables = {}
    for assignment in values.set:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set={assignment}: expected NAME=value")
        variables[name] = value
    config = deeplab2_kmax.load_config(pathlib.Path(values.config_file), values.override, variables=variables)
    found: dict[tuple[str, ...], Records] = {}
    for options in (config.train_dataset_options, config.eval_dataset_options):
        parts = [(part.dataset, tuple(part.file_pattern)) for part in options.mixture]
        if options.file_pattern:
            parts.append((options.dataset, tuple(options.file_pattern)))
        for name, patterns in parts:
            if bare := [pattern for pattern in patterns if "${" in pattern]:
                raise ValueError(f"{values.config_file}: fill in {bare[0]!r} by --set")
            own = rules._replace(
                dataset=datasets.lookup(name), has_labels=rules.has_labels and options.decode_groundtruth_label
            )
            found.setdefault(patterns, Records(patterns, (), own))
    if not found:
        raise ValueError(f"{values.config_file} names no records")
    return list(found.values())
