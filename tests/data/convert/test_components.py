"""Connected components on masks small enough to number by eye."""

import numpy as np
import pytest

from deeplab2_kmax.data.convert import components


def parse(text):
    return np.array([[int(c) if c != "." else 0 for c in line] for line in text.split()], np.int32)


def test_components_of_noise_against_a_flood_fill():
    mask = np.random.RandomState(0).random_sample((23, 31)) < 0.45
    expected, count = np.zeros(mask.shape, np.int32), 0
    for start in zip(*np.nonzero(mask)):
        if expected[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            row, column = stack.pop()
            if not expected[row, column]:
                expected[row, column] = count
                window = np.argwhere(mask[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2])
                stack += [(r + max(row - 1, 0), c + max(column - 1, 0)) for r, c in window]
    labels, found = components.label(mask)
    np.testing.assert_array_equal(labels, expected)
    assert found == count > 5


@pytest.mark.parametrize(
    "expected",
    [
        "... ...",
        "1",
        "11..2 ....2 .3...",  # in order of the first pixel
        "1.1 .1. 1.1",  # corners connect
        "1.1 1.1 111",  # a U: two runs that meet later
        "1.1.1 1.1.1 11111",
        "11111 1...1 1.2.1 1...1 11111",  # one inside another
        ".1.1. 1.1.1",  # a zigzag
        "1..... ..2222 ......",
    ],
)
def test_components(expected):
    expected = parse(expected)
    mask = expected > 0
    labels, count = components.label(mask)
    np.testing.assert_array_equal(labels, expected)
    assert count == expected.max() and labels.dtype == np.int32
