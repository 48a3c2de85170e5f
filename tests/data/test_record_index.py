"""Finding records, and every way a shard can be broken."""

import json

import pytest
import tensorflow as tf

from deeplab2_kmax.data import crc32c, record_index


def write(path, lengths):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for length in lengths:
            writer.write(b"x" * length)
    return path


@pytest.fixture
def shards(tmp_path):
    """Three shards with 2, 3 and 1 records."""
    counts = [[10, 2000], [1, 50, 3], [7]]
    return [write(tmp_path / f"train-{k:05d}-of-00003.tfrecord", lengths) for k, lengths in enumerate(counts)]


def write_manifest(shards, **changes):
    entries = []
    for path in shards:
        found = record_index.build([str(path)])
        entries.append(
            {
                "file": path.name,
                "records": found.num_records,
                "bytes": path.stat().st_size,
                "offsets": found.offsets.tolist(),
            }
        )
        entries[-1].update(changes)
    (shards[0].parent / "train.manifest.json").write_text(json.dumps({"format": 1, "shards": entries}))


def build(shards, **options):
    return record_index.build([str(path) for path in shards], **options)


def pattern(shards):
    return str(shards[0].parent / "train-*.tfrecord")


def test_every_record_is_found(shards):
    index = build(shards)
    assert index.file_ids.tolist() == [0, 0, 1, 1, 1, 2]
    assert index.numbers.tolist() == [0, 1, 0, 1, 2, 0]
    assert index.offsets.tolist() == [0, 26, 0, 17, 83, 0]  # a frame adds 16 bytes
    assert index.num_records == 6


def test_a_manifest_gives_the_same(shards):
    expected = build(shards)
    for changes in ({}, {"offsets": None}):
        write_manifest(shards, **changes)
        found = build(shards)
        assert found.offsets.tolist() == expected.offsets.tolist()


def test_files_are_found_once_and_in_order(shards):
    found = record_index.find_files([pattern(shards), str(shards[1])])
    assert found == [str(path) for path in shards]


def test_no_match_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="No file matches .*nothing"):
        record_index.find_files([str(tmp_path / "nothing-*")])
    with pytest.raises(ValueError, match="file_pattern is empty"):
        record_index.find_files([])


def test_a_missing_shard_is_an_error(shards):
    shards[1].unlink()
    with pytest.raises(ValueError, match="these are missing: .*train-00001-of-00003.tfrecord"):
        record_index.find_files([pattern(shards)])
    # Only what the pattern covers has to be there.
    part = str(shards[0].parent / "train-0000[02]-*.tfrecord")
    assert record_index.find_files([part]) == [str(shards[0]), str(shards[2])]


def test_the_last_shard_may_be_absent_unless_a_manifest_lists_it(shards):
    write_manifest(shards)
    shards[2].unlink()
    with pytest.raises(ValueError, match="these are missing: .*train-00002-of-00003.tfrecord"):
        record_index.find_files([pattern(shards)])
    (shards[0].parent / "train.manifest.json").unlink()
    assert len(record_index.find_files([pattern(shards)])) == 2


@pytest.mark.parametrize("cut", [1, 20, 2010, 2016 + 5])
def test_a_cut_inside_a_record_is_an_error(shards, cut):
    shards[0].write_bytes(shards[0].read_bytes()[:-cut])
    number = 0 if cut > 2016 else 1
    with pytest.raises(ValueError, match=f"train-00000-of-00003.tfrecord is cut in the middle of record {number}"):
        build(shards)


@pytest.mark.parametrize("offsets", [True, False])
def test_a_cut_between_records_is_an_error_where_there_is_a_manifest(shards, offsets):
    write_manifest(shards, **({} if offsets else {"offsets": None}))
    shards[1].write_bytes(shards[1].read_bytes()[:83])
    with pytest.raises(ValueError, match="has 83 bytes, but its manifest says 102 .3 records"):
        build(shards)


def test_a_manifest_of_other_records_is_an_error(shards):
    write_manifest(shards, offsets=None, records=4)
    with pytest.raises(ValueError, match="has 2 records, but its manifest says 4"):
        build(shards)


def test_an_unreadable_manifest_is_an_error(shards):
    (shards[0].parent / "train.manifest.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match="train.manifest.json: not a manifest"):
        build(shards)


def test_an_empty_shard_is_an_error_unless_it_is_meant(shards):
    shards[1].write_bytes(b"")
    with pytest.raises(ValueError, match="train-00001-of-00003.tfrecord is empty"):
        build(shards)
    assert build(shards, allow_empty=True).num_records == 3
    for path in shards:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="No records"):
        build(shards, allow_empty=True)


def test_a_flipped_bit_in_a_frame_is_an_error(shards):
    data = bytearray(shards[1].read_bytes())
    data[17] ^= 4  # the length of the second record
    shards[1].write_bytes(data)
    with pytest.raises(ValueError, match="the head of record 1 .byte 17. is corrupt"):
        build(shards)


def test_another_kind_of_file_is_an_error(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" * 100)
    with pytest.raises(ValueError, match="Is it a TFRecord file"):
        record_index.build([str(path)])
    with pytest.raises(ValueError, match="no such file"):
        record_index.build([str(tmp_path / "absent")])


def test_the_checksum_is_crc32c():
    # The check value of CRC-32C, masked as in TFRecords.
    crc = 0xE3069283
    assert crc32c.masked(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
