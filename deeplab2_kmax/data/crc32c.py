"""The checksum of TFRecord frames (CRC-32C, masked), fast enough in NumPy to write records without TensorFlow."""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78
_SHORT = 256  # bytes; below it the plain loop is faster


def masked(data: bytes) -> int:
    """CRC-32C of `data`, rotated and shifted as TFRecord files store it."""
    crc = plain(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def plain(data: bytes) -> int:
    """CRC-32C (Castagnoli) of `data`."""
    if len(data) < _SHORT:
        crc, table = 0xFFFFFFFF, _numbers()
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    # Equal pieces side by side, two bytes at a time, then the pieces joined in pairs. The state starts at 0, which the
    # zeros put in front do not change; the true start, all bits set, is laid over the first four bytes.
    length = 1 << (len(data).bit_length() + 1) // 2
    pieces = -(-len(data) // length)
    padded = np.zeros(pieces * length, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[-len(data) :][:4] ^= 0xFF
    words = np.ascontiguousarray(padded.view("<u2").reshape(pieces, length // 2).T)
    words_table = _word_table()
    state = np.zeros(pieces, np.uint32)
    for column in words:
        state = words_table[(state & 0xFFFF) ^ column] ^ (state >> 16)
    while len(state) > 1:
        if len(state) % 2:
            state = np.concatenate([np.zeros(1, np.uint32), state])
        state = _apply(_skip_tables(length), state[0::2]) ^ state[1::2]
        length *= 2
    return int(state[0]) ^ 0xFFFFFFFF


@functools.cache
def _skip_tables(num_zeros: int) -> tuple[np.ndarray, ...]:
    """For each byte of the state: its value -> its share of the state after so many zero bytes, a power of two."""
    places = [np.arange(256, dtype=np.uint32) << np.uint32(8 * byte) for byte in range(4)]
    if num_zeros == 1:
        return (_byte_table(), *(place >> np.uint32(8) for place in places[1:]))
    half = _skip_tables(num_zeros // 2)
    return tuple(_apply(half, _apply(half, place)) for place in places)


def _apply(tables: tuple[np.ndarray, ...], state: np.ndarray) -> np.ndarray:
    # The state after some bytes is linear in the bits of the state before.
    out = np.zeros_like(state)
    for byte, table in enumerate(tables):
        out ^= table[(state >> np.uint32(8 * byte)) & 0xFF]
    return out


@functools.lru_cache(maxsize=1)
def _numbers() -> tuple[int, ...]:
    return tuple(int(value) for value in _byte_table())


@functools.lru_cache(maxsize=1)
def _word_table() -> np.ndarray:
    table = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(2):
        table = _byte_table()[table & 0xFF] ^ (table >> np.uint32(8))
    return table


@functools.lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    return table.astype(np.uint32)
