"""Raw label files."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import datasets
from trainer import raw_predictions

DATASET = dataclasses.replace(datasets.lookup("synthetic_panoptic"), label_divisor=100000, eval_ids=(10, 11, 12))


def write(folder, panoptic, *, panoptic_format="two_channel_png", convert_ids=False, **kwargs):
    writer = raw_predictions.RawPredictions(folder, DATASET, panoptic_format=panoptic_format, convert_ids=convert_ids)
    panoptic = np.array([[panoptic]], np.int32)
    writer.write("a/b.jpg", panoptic, panoptic // DATASET.label_divisor, **kwargs)


def test_three_channels_and_sequence(tmp_path):
    write(tmp_path, 2 * DATASET.label_divisor + 300, panoptic_format="three_channel_png", sequence="0007")
    image = np.array(Image.open(tmp_path / "raw_panoptic" / "0007" / "b.png"))
    assert image[0, 0].tolist() == [2, 1, 44]


def test_array(tmp_path):
    write(tmp_path, 2 * DATASET.label_divisor + 300, panoptic_format="two_channel_numpy_array")
    assert np.load(tmp_path / "raw_panoptic" / "b.npy")[0, 0].tolist() == [2, 300, 0]


def test_evaluation_ids(tmp_path):
    write(tmp_path, 1 * DATASET.label_divisor + 3, convert_ids=True)
    assert np.array(Image.open(tmp_path / "raw_panoptic" / "b.png"))[0, 0].tolist() == [11, 3, 0]
    assert np.array(Image.open(tmp_path / "raw_semantic" / "b.png"))[0, 0] == 11
    write(tmp_path, 255 * DATASET.label_divisor, convert_ids=True)  # not in the table
    assert np.array(Image.open(tmp_path / "raw_semantic" / "b.png"))[0, 0] == 0


@pytest.mark.parametrize(
    "panoptic, options, message",
    [
        (256, {}, "two_channel_png holds instance ids up to 255, found 256"),
        (65536, {"panoptic_format": "three_channel_png"}, "up to 65535, found 65536"),
        (256 * 100000, {}, "classes 0 to 255"),
        (0, {"panoptic_format": "two_chanel_png"}, "Did you mean: two_channel_png"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, panoptic, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, panoptic, **options)
