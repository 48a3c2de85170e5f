"""Bring your own data: images that are broken, huge, turned by EXIF, or elsewhere."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from deeplab2_kmax.data import example
from deeplab2_kmax.data.convert import own
from tests import converters, image_trees, own_trees


def test_bad_images_stop_it_or_are_left_out(tmp_path, capsys):
    root = tmp_path / "raw"
    flags = [
        *own_trees.photos(root / "photos", "abcdef", 1, 2),
        f"--annotations={root / 'maps'}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    for name in "abcdg":
        converters.save(root / "maps" / f"{name}.png", [[0, 1]])
    converters.save(root / "maps" / "b.png", [[0], [1]])  # sides swapped
    (root / "photos" / "c.jpg").write_bytes((root / "photos" / "c.jpg").read_bytes()[:50])
    text = own_trees.error(capsys, *flags)
    assert "no annotation" in text and "e.png (and 2 more). --skip_bad leaves such images out" in text
    assert not (tmp_path / "out").exists()
    assert converters.run(own, *flags, "--skip_bad") == 0
    assert "5 problems" in capsys.readouterr().out
    text = (tmp_path / "out" / "report.html").read_text()
    for said in (
        "e.png",
        "f.png",
        "g.png: there is no image",
        "annotation is of 2 x 1 (sides swapped)",
        "c.jpg: not a",
    ):
        assert said in text
    assert len(converters.features(tmp_path / "out", "train")) == 2


def test_huge_images(tmp_path, capsys):
    flags = own_trees.semantic_png(tmp_path / "raw")
    text = own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}", "--max_megapixels=0.000005")
    assert "a.jpg: 2 x 5 pixels are more than --max_megapixels=5e-06" in text


def sideways(path, height=5, width=2):
    """Stored as width x height, to be shown as height x width."""
    pixels = np.zeros((width, height, 3), np.uint8)
    pixels[:, :2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=100)


@pytest.mark.parametrize("shape, turned", [((5, 2), True), ((2, 5), False)])
def test_exif_orientation_follows_the_label(shape, turned, tmp_path):
    sideways(tmp_path / "photos" / "a.jpg")
    converters.save(tmp_path / "maps" / "a.png", np.zeros(shape))
    flags = [f"--images={tmp_path / 'photos'}", f"--annotations={tmp_path / 'maps'}", "--val_share=0"]
    labels, _ = own_trees.convert(tmp_path, *flags)
    features = converters.features(tmp_path / "out", "train")[0]
    assert np.shape(labels["a"]) == shape == (features[example.HEIGHT], features[example.WIDTH])
    with Image.open(io.BytesIO(features[example.IMAGE])) as image:
        assert image.size == shape[::-1] and image.getexif().get(0x0112, 1) == (1 if turned else 6)
        pixels = np.asarray(image).astype(int).sum(axis=-1)
    assert pixels[0, 0] > pixels[-1, -1]  # turned right: the left end is now the upper one
    assert "EXIF" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_outside_is_read(tmp_path, capsys):
    converters.save(tmp_path / "secret.png", image_trees.colored(image_trees.IDS))
    converters.save(tmp_path / "secret.jpg", own_trees.PICTURE(9))
    for k, name in enumerate(("../../../secret.png", str(tmp_path / "secret.png"))):
        flags = own_trees.coco_panoptic(tmp_path / str(k))
        path = tmp_path / str(k) / "annotations" / "panoptic_val2017.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["file_name"] = name
        path.write_text(json.dumps(content))
        assert "leads out of" in own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    flags = own_trees.coco_panoptic(tmp_path / "link")
    png = tmp_path / "link" / "annotations" / "panoptic_val2017" / "000000000009.png"
    png.unlink()
    png.symlink_to(tmp_path / "secret.png")
    assert "is a link that leads out of" in own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    flags = own_trees.semantic_png(tmp_path / "images")
    (tmp_path / "images" / "photos" / "z.jpg").symlink_to(tmp_path / "secret.jpg")
    assert "z.jpg is a link that leads out of" in own_trees.error(capsys, *flags, f"--output_dir={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
