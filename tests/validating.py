"""Records and a run of validate on them, for its tests."""

import io
import json
import os

import numpy as np
from PIL import Image

from deeplab2_kmax.data import datasets, example, validate
from deeplab2_kmax.data.convert import writer
from deeplab2_kmax.data.validate.problems import KINDS

COCO = datasets.lookup("coco_panoptic")  # ignore label 0, divisor 256, person 1, thing; sky-other-merged 119
PERSON, STUFF = 1, max(COCO.stuff_ids)


def forget():
    """No flag is left from an earlier run."""
    for name in validate._FLAGS:
        validate._FLAGS[name].unparse()


def run(capsys, *flags):
    """Exit code, the kinds of problems and what is said of them, file and id included."""
    forget()
    code = validate.main(["validate.py", "--json", "--num_processes=1", *map(str, flags)])
    out = capsys.readouterr()
    if code == 2:
        assert not out.out and len(out.err.splitlines()) == 1
        return code, out.err, ""
    found = json.loads(out.out)
    assert found["ok"] is (code == 0) and sum(found["counts"].values()) == len(found["problems"])
    assert set(found["counts"]) <= set(KINDS)
    text = "\n".join(f"{one['file']}, {one['id']}: {one['text']}" for one in found["problems"])
    return code, list(found["counts"]), text


def encode(item):
    return item


def image(height=2, width=3, **options):
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(out, "JPEG", **options)
    return out.getvalue()


GOOD = [[PERSON * 256 + 1, PERSON * 256 + 2, 0], [STUFF * 256, STUFF * 256, 0]]


def record(name="a", label=GOOD, **options):
    return example.encode_example(image(), np.array(label, np.int32), filename=name, **options)


def write(folder, records=None, num_shards=2, source=()):
    """Shards with their manifest."""
    records = records or [record(name) for name in "abcd"]
    writer.write_split(folder, "train", records, encode, num_shards=num_shards, source=dict(source), quiet=True)
    return sorted(folder.glob("*.tfrecord"))


def check(folder, capsys, *flags):
    return run(capsys, f"--file_pattern={folder / 'train-*.tfrecord'}", "--dataset=coco_panoptic", *flags)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-40] ^= 4
    path.write_bytes(data)
    os.utime(path, (1, 1))
