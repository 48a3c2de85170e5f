"""What validate, and training at its start, find in shards and manifests."""

import json
import struct

import pytest

from deeplab2_kmax.data import pipeline, record_index
from deeplab2_kmax.protos import dataset_pb2
from tests import validating


def options(folder):
    return dataset_pb2.DatasetOptions(
        file_pattern=[str(folder / "train-*.tfrecord")], batch_size=1, crop_size=[33, 33], dataset="coco_panoptic"
    )


def cut_within(path):
    path.write_bytes(path.read_bytes()[:-7])


def cut_at_a_boundary(path):
    first = struct.unpack("<Q", path.read_bytes()[:8])[0] + 16
    path.write_bytes(path.read_bytes()[:first])


def clear(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def test_whole_shards_are_trained_on(tmp_path):
    validating.write(tmp_path)
    pipeline.build_dataset(options(tmp_path), dataset=validating.COCO, training=True)


@pytest.mark.parametrize(
    "damage, kinds, said",
    [
        (cut_within, ["shard_cut"], "the record ends 7 bytes after the file"),
        (cut_at_a_boundary, ["shard_cut"], "but the manifest says"),
        (validating.flip_a_bit, ["checksum"], "SHA-256"),
        (clear, ["shard_empty"], "no bytes"),
        (remove, ["missing"], "the manifest lists this shard"),
    ],
)
def test_damaged_shards(damage, kinds, said, tmp_path, capsys):
    """Caught by validate, and by training before its first step."""
    bad = validating.write(tmp_path)[1]
    damage(bad)
    code, found, text = validating.check(tmp_path, capsys)
    assert (code, found) == (1, kinds) and said in text and str(bad) in text
    assert validating.run(capsys, f"--manifest={tmp_path / 'train.manifest.json'}")[:2] == (1, kinds)
    with pytest.raises(ValueError, match="00001-of-00002"):
        pipeline.build_dataset(options(tmp_path), dataset=validating.COCO, training=True)


def test_damage_without_a_manifest(tmp_path, capsys):
    paths = validating.write(tmp_path, num_shards=4, records=[validating.record(name) for name in "abcdefgh"])
    (tmp_path / "train.manifest.json").unlink()
    assert validating.check(tmp_path, capsys)[0] == 0
    cut_within(paths[0])
    validating.flip_a_bit(paths[1])
    paths[2].unlink()
    code, kinds, text = validating.check(tmp_path, capsys)
    assert kinds == ["missing", "shard_cut", "checksum"]
    assert f"{paths[0]}, record 1: the record ends 7 bytes" in text
    assert f"{paths[1]}, record 1: its bytes do not match their checksum" in text


def test_a_changed_length(tmp_path, capsys):
    path = validating.write(tmp_path, num_shards=1)[0]
    (tmp_path / "train.manifest.json").unlink()
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    assert "the length of the record does not match" in validating.check(tmp_path, capsys)[2]


def test_checksums_at_the_start_have_a_limit(tmp_path):
    paths = [str(path) for path in validating.write(tmp_path)]
    assert record_index.verify(paths, limit=1e6) == 2
    assert record_index.verify(paths, limit=10) == record_index.verify(paths, limit=0) == 0
    validating.flip_a_bit(tmp_path / "train-00000-of-00002.tfrecord")
    with pytest.raises(ValueError, match="its bytes are not those that were written"):
        record_index.verify(paths, limit=1e6)


def test_an_unfinished_conversion(tmp_path, capsys):
    validating.write(tmp_path)
    path = tmp_path / "train.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][1].update(records=-1, bytes=-1)
    path.write_text(json.dumps(manifest))
    assert validating.check(tmp_path, capsys)[1] == ["manifest"]


def test_a_manifest_that_is_none(tmp_path, capsys):
    validating.write(tmp_path)
    (tmp_path / "train.manifest.json").write_text('{"format": 1, "shards": [{}]}')
    code, kinds, text = validating.check(tmp_path, capsys)
    assert kinds == ["manifest"] and "not a manifest of shards" in text


@pytest.mark.parametrize("name", ["../secret", "/secret", "sub/x"])
def test_a_manifest_that_leads_out(name, tmp_path, capsys):
    validating.write(tmp_path)
    path = tmp_path / "train.manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"].append({**manifest["shards"][0], "file": name})
    path.write_text(json.dumps(manifest))
    code, kinds, text = validating.check(tmp_path, capsys)
    assert kinds == ["outside"] and name in text


def test_a_shard_that_is_a_link_out(tmp_path, capsys):
    paths = validating.write(tmp_path / "records")
    paths[0].rename(tmp_path / "elsewhere")
    paths[0].symlink_to(tmp_path / "elsewhere")
    code, kinds, text = validating.check(tmp_path / "records", capsys)
    assert kinds == ["outside"] and "a link to" in text
