"""Pictures as one moving picture, written frame by frame, so that a video of any length needs the memory of a frame.

GIF (256 colours in each frame) and APNG (all colours, larger files) need Pillow alone; MP4 needs OpenCV.
"""

from __future__ import annotations

import io
import pathlib
import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image

_PNG_START = b"\x89PNG\r\n\x1a\n"


class _Writer:
    """Frames [H, W, 3] uint8 of one size into a file, which is whole after `close`."""

    ending: str

    def __init__(self, path: pathlib.Path, fps: float):
        self.path, self._unfinished, self._fps = path, path.with_name(f".{path.name}"), fps
        self._count = 0

    def add(self, picture: np.ndarray) -> None:
        """The next frame."""
        if not self._count:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._begin(picture.shape[0], picture.shape[1])
        self._write(picture)
        self._count += 1

    def close(self) -> None:
        """Ends the file; without a frame there is none."""
        if self._count:
            self._end()
            self._unfinished.replace(self.path)

    def _begin(self, height: int, width: int) -> None:
        raise NotImplementedError

    def _write(self, picture: np.ndarray) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class _File(_Writer):
    _file: BinaryIO

    def _begin(self, height: int, width: int) -> None:
        self._file = self._unfinished.open("wb")

    def _end(self) -> None:
        self._file.close()


class Gif(_File):
    """GIF 89a, without end; every frame has its own 256 colours."""

    ending = ".gif"

    def _begin(self, height: int, width: int) -> None:
        super()._begin(height, width)
        self._file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0))
        self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # again and again

    def _write(self, picture: np.ndarray) -> None:
        single = io.BytesIO()
        # Without interlace: the rows are taken over as they are stored.
        Image.fromarray(picture).quantize(256, dither=Image.Dither.NONE).save(single, "GIF", interlace=0)
        content = single.getvalue()
        # Pillow writes the colours once for the whole file; here they go into the frame.
        bits = content[10] & 7
        colors = content[13 : 13 + 3 * 2 ** (bits + 1)]
        place = 13 + len(colors)
        while content[place] == 0x21:  # extensions: two bytes, then blocks up to an empty one
            place += 2
            while content[place]:
                place += 1 + content[place]
            place += 1
        descriptor, rest = content[place : place + 10], content[place + 10 : -1]
        hundredths = max(2, round(100 / self._fps))
        self._file.write(b"\x21\xf9\x04\x04" + struct.pack("<HB", hundredths, 0) + b"\x00")
        self._file.write(descriptor[:9] + bytes([0x80 | bits]) + colors + rest)

    def _end(self) -> None:
        self._file.write(b"\x3b")
        super()._end()


class Apng(_File):
    """APNG, without end."""

    ending = ".png"

    def _begin(self, height: int, width: int) -> None:
        super()._begin(height, width)
        self._size, self._number = (width, height), 0
        self._file.write(_PNG_START + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        self._head = self._file.tell()
        self._file.write(_chunk(b"acTL", struct.pack(">II", 0, 0)))  # the number of frames comes at the end

    def _write(self, picture: np.ndarray) -> None:
        control = struct.pack(">IIIIIHHBB", self._next(), *self._size, 0, 0, round(1000 / self._fps), 1000, 0, 0)
        self._file.write(_chunk(b"fcTL", control))
        single = io.BytesIO()
        Image.fromarray(picture).save(single, "PNG")
        content = single.getvalue()
        data, place = b"", len(_PNG_START)
        while place < len(content):
            length, kind = struct.unpack(">I4s", content[place : place + 8])
            if kind == b"IDAT":
                data += content[place + 8 : place + 8 + length]
            place += 12 + length
        first = self._count == 0
        self._file.write(_chunk(b"IDAT", data) if first else _chunk(b"fdAT", struct.pack(">I", self._next()) + data))

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _end(self) -> None:
        self._file.write(_chunk(b"IEND", b""))
        self._file.seek(self._head)
        self._file.write(_chunk(b"acTL", struct.pack(">II", self._count, 0)))
        super()._end()


class Mp4(_Writer):
    """MPEG-4, through OpenCV."""

    ending = ".mp4"

    def __init__(self, path: pathlib.Path, fps: float):
        super().__init__(path, fps)
        try:
            import cv2
        except ImportError:
            raise ValueError(
                "mp4 needs OpenCV: pip install opencv-python-headless, or take another of gif and apng"
            ) from None
        self._cv2 = cv2

    def _begin(self, height: int, width: int) -> None:
        # The codec takes even sides only.
        self._height, self._width = height - height % 2, width - width % 2
        code = self._cv2.VideoWriter_fourcc(*"mp4v")
        # OpenCV tells the format by the ending, which the name of the unfinished file has too.
        self._video = self._cv2.VideoWriter(str(self._unfinished), code, self._fps, (self._width, self._height))
        if not self._video.isOpened():
            raise ValueError(f"{self.path}: this OpenCV cannot write MPEG-4; take another of gif and apng")

    def _write(self, picture: np.ndarray) -> None:
        self._video.write(np.ascontiguousarray(picture[: self._height, : self._width, ::-1]))

    def _end(self) -> None:
        self._video.release()


FORMATS: dict[str, type[_Writer]] = {"gif": Gif, "apng": Apng, "mp4": Mp4}


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """[H, W, 3] with a longer side of at most `side` pixels."""
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
