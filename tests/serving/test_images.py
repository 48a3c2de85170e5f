"""Reading pictures of every kind, and one clear line for those that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.serving import images

RGB = np.array([[[250, 10, 20], [0, 200, 30]], [[40, 50, 60], [70, 80, 90]], [[1, 2, 3], [4, 5, 6]]], np.uint8)


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_path_bytes_and_array_give_the_same(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.fromarray(RGB)))
    for source in (path, str(path), path.read_bytes(), RGB, RGB.astype(np.float32), RGB.astype(np.int64)):
        read = images.read(source)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, RGB)


def test_exif_orientation_is_respected():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    read = images.read(encoded(Image.fromarray(RGB), exif=exif.tobytes()))
    np.testing.assert_array_equal(read, np.rot90(RGB, -1))


def test_grey_palette_and_sixteen_bits():
    grey = RGB[..., 0]
    three = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(images.read(encoded(Image.fromarray(grey))), three)
    np.testing.assert_array_equal(images.read(grey), three)
    deep = Image.fromarray(grey.astype(np.uint16) * 256 + 17)
    np.testing.assert_array_equal(images.read(encoded(deep)), three)
    np.testing.assert_array_equal(images.read(grey.astype(np.uint16) * 256 + 17), three)
    palette = Image.fromarray(RGB).quantize(6)
    np.testing.assert_array_equal(images.read(encoded(palette)), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(images.read(encoded(Image.fromarray(grey > 50))), 255 * (three > 50))


def test_transparent_parts_become_white():
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3] = 0
    rgba[0, 1, 3] = 51  # a fifth
    read = images.read(encoded(Image.fromarray(rgba)))
    np.testing.assert_array_equal(read[0], [[255, 255, 255], [204, 244, 210]])
    np.testing.assert_array_equal(read[1:], RGB[1:])


def message(source, **options) -> str:
    with pytest.raises(ValueError) as caught:
        images.read(source, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_no_picture_gets_one_line(tmp_path):
    assert "no such file" in message(tmp_path / "missing.png")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    assert "text.png: is not an image" in message(tmp_path / "text.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert "empty.jpg" in message(tmp_path / "empty.jpg")
    noise = np.random.RandomState(0).randint(0, 256, (50, 50, 3)).astype(np.uint8)
    for file_format in ("PNG", "JPEG", "WEBP"):
        whole = encoded(Image.fromarray(noise), file_format)
        assert "broken image" in message(whole[: len(whole) // 2])


def test_pixel_limit_comes_before_decoding(tmp_path):
    assert "144.0 megapixels, the limit is 100" in message(encoded(Image.new("1", (12000, 12000))))
    assert "decompression bomb" in message(encoded(Image.new("1", (20000, 20000))))
    assert "megapixels, the limit is" in message(RGB, pixel_limit=5)
    assert images.read(RGB, pixel_limit=6).shape == (3, 2, 3)


def test_arrays_of_another_form():
    assert "[2, 3, 2]" in message(np.zeros((2, 3, 2), np.uint8))
    assert "[0, 3, 3]" in message(np.zeros((0, 3, 3), np.uint8))
    assert "values 0..255" in message(np.full((2, 2), 256.0))
    assert "values 0..255" in message(np.full((2, 2), np.nan))
    assert "found 0.0..1.0: multiply it by 255" in message(np.array([[0.0, 0.5, 1.0]]))
    assert images.read(np.array([[0.0, 1.0]])).max() == 1  # whole numbers are as they are, black too
    assert "numbers" in message(np.array([["a", "b"]]))
