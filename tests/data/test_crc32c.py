"""The checksum of TFRecord frames against its definition, byte by byte."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.data import crc32c


def by_definition(data: bytes) -> int:
    """Polynomial division, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_check_values():
    # Of the Castagnoli CRC, and RFC 3720, B.4.
    assert crc32c.plain(b"123456789") == 0xE3069283
    assert crc32c.plain(bytes(32)) == 0x8A9136AA
    assert crc32c.plain(b"\xff" * 32) == 0x62A8AB43


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 513, 1023, 1025, 4096, 4099, 20001])
def test_every_length(size):
    data = np.random.RandomState(size).bytes(size)
    assert crc32c.plain(data) == by_definition(data)
    assert crc32c.plain(bytes(size)) == by_definition(bytes(size))


def test_masked_frames_are_those_of_tensorflow(tmp_path):
    data = np.random.RandomState(0).bytes(5000)
    path = str(tmp_path / "one.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(data)
    written = (tmp_path / "one.tfrecord").read_bytes()
    assert written[8:12] == crc32c.masked(written[:8]).to_bytes(4, "little")
    assert written[-4:] == crc32c.masked(data).to_bytes(4, "little")
