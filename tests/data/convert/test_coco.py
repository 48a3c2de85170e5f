"""COCO panoptic -> records: the rules on a made-up tree with numbers to check by hand, and two real images."""

import numpy as np
import pytest

from deeplab2_kmax.data import datasets
from deeplab2_kmax.data.convert import coco, files, segments
from tests import converters, image_trees, shared

COCO = datasets.lookup("coco_panoptic")
PERSON, DOG, SKY, SNOW = 1, 18, 187, 159  # categories; classes 1, 17 and whatever the table says of the stuff


def class_of(category):
    return COCO.eval_ids.index(category)


SEGMENTS = image_trees.panoptic_segments(PERSON, DOG, SKY)
D = COCO.label_divisor
EXPECTED = image_trees.panoptic_label(class_of(PERSON), class_of(DOG), class_of(SKY), divisor=D, ignore=0)
colored = image_trees.colored


def make_tree(root, names=("000000000009", "000000000025"), **options):
    image_trees.coco(root, names, **options)


def test_the_expected_numbers():
    assert (class_of(PERSON), class_of(DOG), class_of(SKY)) == (1, 17, 120)
    assert EXPECTED == [[258, 258, 257, 0, 0], [4353, 4353, 30720, 30720, 0]]


def test_the_rules_by_hand(tmp_path):
    make_tree(tmp_path / "coco")
    assert converters.run(coco, f"--coco_root={tmp_path / 'coco'}", f"--output_dir={tmp_path / 'out'}") == 0
    samples = converters.read(tmp_path / "out", "val")
    assert [s["image_name"].numpy() for s in samples] == [b"000000000009", b"000000000025"]
    for sample in samples:
        np.testing.assert_array_equal(sample["label"][..., 0], EXPECTED)


def test_crowd_may_keep_its_class(tmp_path):
    make_tree(tmp_path / "coco")
    arguments = [f"--coco_root={tmp_path / 'coco'}", f"--output_dir={tmp_path / 'out'}"]
    assert converters.run(coco, *arguments, "--notreat_crowd_as_ignore") == 0
    label = converters.read(tmp_path / "out", "val")[0]["label"][..., 0].numpy()
    assert label[:, 4].tolist() == [D, D] and (label[:, :4] == np.array(EXPECTED)[:, :4]).all()


def test_all_splits_and_a_test_split_without_labels(tmp_path):
    make_tree(tmp_path / "coco", split="train")
    make_tree(tmp_path / "coco")
    converters.save(tmp_path / "coco" / "test2017" / "7.jpg", np.zeros((3, 4, 3)))
    assert converters.run(coco, f"--coco_root={tmp_path / 'coco'}", f"--output_dir={tmp_path / 'out'}") == 0
    assert len(converters.read(tmp_path / "out", "train")) == len(converters.read(tmp_path / "out", "val")) == 2
    (sample,) = converters.read(tmp_path / "out", "test", label=False)
    assert sample["image"].shape == (3, 4, 3)


def test_other_files_in_the_format_and_a_rerun(tmp_path):
    make_tree(tmp_path)
    arguments = [
        f"--image_dir={tmp_path / 'val2017'}",
        f"--panoptic_json={tmp_path / 'annotations' / 'panoptic_val2017.json'}",
        f"--panoptic_dir={tmp_path / 'annotations' / 'panoptic_val2017'}",
        f"--output_dir={tmp_path / 'out'}",
        "--split=minival",
        "--num_shards=2",
        "--label_format=png32",
    ]
    assert converters.run(coco, *arguments) == 0
    first = converters.digests(tmp_path / "out")
    assert sorted(first) == ["minival-00000-of-00002.tfrecord", "minival-00001-of-00002.tfrecord"]
    np.testing.assert_array_equal(converters.read(tmp_path / "out", "minival")[1]["label"][..., 0], EXPECTED)
    assert converters.run(coco, *arguments) == 0
    assert converters.digests(tmp_path / "out") == first
    converters.save(tmp_path / "val2017" / "000000000009.jpg", np.full((2, 5, 3), 10))  # an input has changed
    assert converters.run(coco, *arguments) == 0
    assert converters.digests(tmp_path / "out") != first


def segment(**changes):
    return [{**SEGMENTS[0], **changes}, *SEGMENTS[1:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments_info": segment(area=3)}, "segment 70000 has 1 pixels, but the JSON says 3"),
        ({"segments_info": segment(category_id=12)}, "unknown category 12"),
        ({"segments_info": segment(id=300)}, "comes twice"),
        ({"segments_info": segment(category_id=SNOW, iscrowd=1)}, "stuff"),
        ({"segments_info": [{"id": 1}]}, "lacks id, category_id or area"),
        ({"file_name": "../000000000009.png"}, "not a plain file name"),
        ({"file_name": "/etc/000000000009.png"}, "not a plain file name"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path, changes, message, capsys):
    make_tree(tmp_path / "coco", names=["000000000009"], **changes)
    assert converters.run(coco, f"--coco_root={tmp_path / 'coco'}", f"--output_dir={tmp_path / 'out'}") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("coco: ") and message in error and "000000000009" in error


def test_missing_files_are_one_line(tmp_path, capsys):
    root = tmp_path / "coco"
    make_tree(root)
    arguments = [f"--coco_root={root}", f"--output_dir={tmp_path / 'out'}"]
    (root / "annotations" / "panoptic_val2017" / "000000000025.png").unlink()
    assert converters.run(coco, *arguments) == 2 and "000000000025.png" in capsys.readouterr().err
    (root / "val2017" / "000000000025.jpg").unlink()
    assert converters.run(coco, *arguments) == 2 and "000000000025" in capsys.readouterr().err
    (root / "annotations" / "panoptic_val2017.json").write_text("[]")
    assert converters.run(coco, *arguments) == 2 and "not a panoptic annotation file" in capsys.readouterr().err
    (root / "annotations" / "panoptic_val2017.json").unlink()
    assert converters.run(coco, *arguments) == 2 and "panoptic_val2017.json" in capsys.readouterr().err
    assert converters.run(coco, f"--coco_root={root}x", f"--output_dir={tmp_path}") == 2
    assert not (tmp_path / "out").exists() or not converters.digests(tmp_path / "out")


def test_a_broken_image_is_named(tmp_path, capsys):
    make_tree(tmp_path / "coco")
    (tmp_path / "coco" / "val2017" / "000000000025.jpg").write_bytes(b"\xff\xd8 cut")
    assert converters.run(coco, f"--coco_root={tmp_path / 'coco'}", f"--output_dir={tmp_path / 'out'}") == 2
    assert "000000000025" in capsys.readouterr().err.splitlines()[-1]


def test_more_instances_than_the_divisor_holds():
    listed = [segments.Segment(k, PERSON, 1, False) for k in range(1, 5)]
    pixels = colored([[1, 2, 3, 4]])
    options = {"ignore_label": 0, "where": "here"}
    found = segments.to_panoptic(pixels, listed, {PERSON: segments.Category(2, True)}, label_divisor=5, **options)
    assert found.tolist() == [[11, 12, 13, 14]]
    with pytest.raises(ValueError, match="class 2 has 4 instances"):
        segments.to_panoptic(pixels, listed, {PERSON: segments.Category(2, True)}, label_divisor=4, **options)


def test_a_label_of_another_kind(tmp_path):
    converters.save(tmp_path / "gray.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="mode RGB, found L"):
        files.read_map(tmp_path / "gray.png", channels=3)


def test_classes_are_those_of_the_descriptor():
    assert COCO.ignore_label == coco.IGNORE_LABEL and COCO.label_divisor == coco.LABEL_DIVISOR
    found = coco.categories()
    assert len(found) == 133 and {c.class_id for c in found.values()} == set(range(1, 134))
    assert sum(c.is_thing for c in found.values()) == 80 and all(
        c.is_thing == (c.class_id <= 80) for c in found.values()
    )


def test_real_images(tmp_path):
    sample = shared.path("data", "coco_panoptic_sample")
    arguments = [
        f"--image_dir={sample / 'input_images'}",
        f"--panoptic_json={sample / 'panoptic_examples.json'}",
        f"--panoptic_dir={sample / 'panoptic_examples'}",
        f"--output_dir={tmp_path}",
        "--notreat_crowd_as_ignore",
    ]
    assert converters.run(coco, *arguments) == 0
    batches = converters.batches(tmp_path, "val", "coco_panoptic", (641, 641))
    assert [b["image_name"][0].numpy() for b in batches] == [b"000000142238", b"000000439180"]
    for batch, num_segments, num_void, num_crowd in zip(batches, (18, 32), (2712, 7189), (1, 2)):
        label = batch["panoptic_raw"][0].numpy()
        ids, counts = np.unique(label, return_counts=True)
        assert dict(zip(ids, counts))[0] == num_void
        crowds = [i for i in ids if i % D == 0 and i // D in COCO.thing_ids]
        # Crowd segments of one class are one id.
        assert len(ids) - 1 - len(crowds) == num_segments - num_crowd and 1 <= len(crowds) <= num_crowd
        np.testing.assert_array_equal(batch["is_crowd_raw"][0], np.isin(label, crowds))


def test_real_images_agree_with_the_two_channel_encoding(tmp_path):
    """The same annotations with category and instance per pixel, as their authors published them."""
    sample = shared.path("data", "coco_panoptic_sample")
    for item in coco.items(sample / "input_images", sample / "panoptic_examples.json", sample / "panoptic_examples"):
        label = segments.to_panoptic(
            files.read_map(item.label, channels=3),
            item.segments,
            coco.categories(),
            ignore_label=0,
            label_divisor=256,
            where=item.name,
            treat_crowd_as_ignore=False,
        )
        other = files.read_map(sample / "panoptic_examples_2ch_format" / f"{item.name}.png", channels=3)
        category = other[..., 0]
        void = category == 0
        expected = np.array([0 if k == 0 else COCO.eval_ids[k] for k in range(COCO.num_classes)])[label // 256]
        np.testing.assert_array_equal(label == 0, void)
        np.testing.assert_array_equal(expected[~void], category[~void])
        pairs = np.unique(np.stack([label[~void], category[~void] * 256 + other[..., 1][~void]]), axis=1)
        assert len(np.unique(pairs[0])) <= pairs.shape[1] <= len(item.segments)
