"""An image of one's own as it goes into a record: turned as its annotation was drawn, as JPEG or PNG."""

from __future__ import annotations

import io
import pathlib
import warnings
from typing import NamedTuple

from PIL import Image, ImageOps

from deeplab2_kmax.data.convert.own import labels

_ORIENTATION = 0x0112  # of EXIF


class Picture(NamedTuple):
    """Encoded, with its size."""

    data: bytes
    size: tuple[int, int]  # height, width
    note: str = ""


def read(item: labels.Item, *, max_pixels: int) -> Picture:
    """The image of an item.

    A label tells by its size whether it was drawn on the pixels as they are stored or as the EXIF orientation turns
    them; where both are of one size, the item tells. Turned images are encoded anew, without orientation.

    Raises:
        ValueError: an image that cannot be read or is too large, or a label of another size.
    """
    path = item.image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(path) as image:
                stored = (image.height, image.width)
                if stored[0] * stored[1] > max_pixels:
                    raise ValueError(
                        f"{path}: {stored[0]} x {stored[1]} pixels are more than --max_megapixels={max_pixels / 1e6:g}"
                    )
                image.load()  # a file that was cut ends here
                orientation = image.getexif().get(_ORIENTATION, 1)
                turned = _is_turned(item, stored, orientation)
                if turned or image.format not in ("JPEG", "PNG"):
                    return _encode(image, turned, image.format)
                note = f"its EXIF orientation {orientation} is not applied: the label fits the stored pixels"
                return Picture(pathlib.Path(path).read_bytes(), stored, note if orientation != 1 else "")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


def _is_turned(item: labels.Item, stored: tuple[int, int], orientation: int) -> bool:
    upright = stored[::-1] if orientation >= 5 else stored
    size = item.label.size()
    if size is None or size == stored == upright:
        return item.upright and orientation != 1
    if size not in (stored, upright):
        raise ValueError(
            f"{item.image}: {stored[0]} x {stored[1]} pixels, but its annotation is of {size[0]} x {size[1]}"
            + (" (sides swapped)" if size == stored[::-1] else "")
        )
    return size != stored


def _encode(image: Image.Image, turned: bool, image_format: str | None) -> Picture:
    out = io.BytesIO()
    picture = ImageOps.exif_transpose(image) if turned else image
    picture = (picture or image).convert("RGB")
    if image_format == "JPEG":
        picture.save(out, format="JPEG", quality=95)
    else:
        picture.save(out, format="PNG")
    note = "turned as its EXIF orientation says, and its annotation was drawn" if turned else ""
    return Picture(out.getvalue(), (picture.height, picture.width), note)
