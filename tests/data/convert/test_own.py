"""Bring your own data: which format, which splits, and the files beside the records."""

import numpy as np
import pytest

from deeplab2_kmax import architectures, config
from deeplab2_kmax.data import datasets, example
from deeplab2_kmax.data.convert import own
from deeplab2_kmax.data.convert.own import classes, experiment, page
from tests import converters, own_trees, shared


@pytest.mark.parametrize("name", own_trees.TREES)
def test_the_format_is_found_out(name, tmp_path, capsys):
    flags = [flag for flag in own_trees.TREES[name](tmp_path / "raw") if not flag.startswith("--classes")]
    if name == "labelme":
        flags.append("--classes=cat")
    assert converters.run(own, *flags, f"--output_dir={tmp_path / 'out'}") == 0
    assert f"\n{name}: " in capsys.readouterr().out


def test_no_format(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    flags = [
        *own_trees.photos(tmp_path / "photos"),
        f"--annotations={tmp_path / 'notes'}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    text = own_trees.error(capsys, *flags)
    assert "is of no known format" in text and "labelme: folder of JSON files" in text


def test_splits_depend_on_names_alone(tmp_path):
    root = tmp_path / "raw"
    names = [f"{k:03d}" for k in range(40)]
    flags = [*own_trees.photos(root / "photos", names, 1, 2)[:1], f"--annotations={root / 'maps'}"]
    for name in names:
        converters.save(root / "maps" / f"{name}.png", [[0, 1]])
    val = set(own_trees.convert(tmp_path, *flags, "--val_share=0.2", split="val")[0])
    assert 3 <= len(val) <= 14
    for name in names[:20]:  # the other images stay where they were
        (root / "photos" / f"{name}.jpg").unlink()
        (root / "maps" / f"{name}.png").unlink()
    fewer = set(own_trees.convert(tmp_path, *flags, "--val_share=0.2", split="val")[0])
    assert fewer == val - set(names[:20])


def test_folders_of_splits(tmp_path):
    for split in ("train", "val"):
        own_trees.photos(tmp_path / "photos" / split, ("a", "b"), 1, 2)
        for name in ("a", "b"):
            converters.save(tmp_path / "maps" / split / f"{name}.png", [[0, 1]])
    flags = [f"--images={tmp_path / 'photos'}", f"--annotations={tmp_path / 'maps'}"]
    assert list(own_trees.convert(tmp_path, *flags)[0]) == ["a", "b"]
    given = [f"--images={tmp_path / 'photos' / 'train'}", f"--annotations={tmp_path / 'maps' / 'train'}"]
    given += [f"--val_images={tmp_path / 'photos' / 'val'}", f"--val_annotations={tmp_path / 'maps' / 'val'}"]
    assert list(own_trees.convert(tmp_path, *given, split="val")[0]) == ["a", "b"]


def test_bad_flags(tmp_path, capsys):
    flags = [*own_trees.semantic_png(tmp_path / "raw"), f"--output_dir={tmp_path / 'out'}"]
    assert "--things: this format has no instances" in own_trees.error(capsys, *flags, "--things=2")
    assert "--stuff: 'sky' is no class; the classes are class_0" in own_trees.error(capsys, *flags, "--stuff=2,sky")
    assert "--name: expected letters" in own_trees.error(capsys, *flags, "--name=../x")
    assert "--background=class" in own_trees.error(capsys, *flags, "--background=class")
    assert "--no_instance: expected" in own_trees.error(capsys, *flags, "--no_instance=some")
    assert "--val_annotations needs --val_images" in own_trees.error(capsys, *flags, "--val_annotations=x")
    assert "two classes are named 'a'" in own_trees.error(capsys, *flags, "--classes=a,a,b,c,d,e,f,g")
    assert not (tmp_path / "out").exists()


def test_the_config_fits_the_data(tmp_path):
    own_trees.convert(tmp_path, *own_trees.semantic_png(tmp_path / "raw"), "--name=mine")
    out = tmp_path / "out"
    text = (out / "config.textproto").read_text()
    options = config.load(out / "config.textproto")
    assert options.experiment_name == "mine"
    assert options.train_dataset_options.dataset == str(out / "classes.json")
    assert list(options.train_dataset_options.crop_size) == [33, 33]
    assert options.model_options.max_deeplab.auxiliary_semantic_head.output_channels == 3
    assert "there are no validation records" in text  # then evaluation reads those of training
    config.check(options, "train_and_eval")
    assert architectures.dataset_of(options).class_names == ("class_0", "class_2", "class_7")
    assert architectures.dataset_of(options).name == "mine"


def test_crop_and_slots():
    assert experiment.crop_size([(427, 640), (640, 427)], 641) == (641, 641)
    assert experiment.crop_size([(1024, 2048)], 641) == (321, 641)
    assert experiment.crop_size([(1024, 2048)], 2049) == (1025, 2049)
    assert experiment.crop_size([(100, 33)], 641) == (129, 33)
    assert experiment.crop_size([(4, 5)], 641) == (33, 33)
    assert [experiment.num_slots(n, 1000) for n in (1, 10, 11, 50, 5000)] == [16, 16, 32, 128, 999]


def test_report(tmp_path):
    own_trees.convert(tmp_path, *own_trees.coco_instances(tmp_path / "raw"))
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<img") == 4 and "<script" not in text and "http" not in text
    assert "2 train" in text and "2 things, 1 stuff" in text and "</i>dog</td>" in text
    assert "2 x 5: 2" in text


def test_report_samples_cover_the_classes():
    seen = [own.inspection.Seen(name, segments=dict.fromkeys(kinds, 1)) for name, kinds in
            (("a", [1]), ("b", [1, 2]), ("c", [2]), ("d", [3]), ("e", [1, 2]))]  # fmt: skip
    assert page.choose(list("abcde"), seen, 3) == ["b", "d", "e"]


def test_yaml_names():
    expected = [classes.Class(0, "cat"), classes.Class(1, "big dog")]
    for text in ("names: [cat, 'big dog']", "nc: 2\nnames:\n- cat\n- big dog\nother: 1", "names: {0: cat, 1: big dog}"):
        assert classes.from_yaml(text, "x") == expected
    assert classes.from_yaml("names:\n  1: big dog\n  0: cat\n", "x") == expected
    with pytest.raises(ValueError, match="no names"):
        classes.from_yaml("train: x", "x")


def test_palette_has_no_colour_twice():
    assert len(set(classes.palette(150))) == 150


@pytest.mark.parametrize("name", ["panoptic", "stuff"])
def test_real_samples(name, tmp_path):
    if name == "panoptic":
        root = shared.path("data", "coco_panoptic_sample")
        flags = [f"--images={root / 'input_images'}", f"--annotations={root / 'panoptic_examples.json'}"]
        counts, num_classes = (1, 1), 133
    else:
        root = shared.path("data", "coco_stuff_sample")
        flags = []
        for prefix, split in (("", "train"), ("val_", "val")):
            flags += [f"--{prefix}images={root / f'{split}_img'}", f"--{prefix}annotations={root / f'{split}_inst'}"]
            flags += [f"--{prefix}semantic_dir={root / f'{split}_label'}"]
        flags += ["--no_instance=class", "--stuff=91-181"]
        counts, num_classes = (13, 8), 87
    out = tmp_path / "out"
    assert converters.run(own, *flags, f"--output_dir={out}", "--label_format=zlib") == 0
    dataset = datasets.lookup(str(out / "classes.json"))
    assert dataset.num_classes == num_classes and dataset.thing_ids and dataset.stuff_ids
    for split, count in zip(("train", "val"), counts):
        found = converters.features(out, split)
        assert len(found) == count
        for features in found:
            size = features[example.HEIGHT], features[example.WIDTH]
            label = example.decode_map(features[example.LABEL], "zlib", size)
            assert set(np.unique(label // 1000).tolist()) <= {*range(num_classes), 255}
            assert (label % 1000 > 0).any()
    assert config.check(config.load(out / "config.textproto"), "train_and_eval") == []
