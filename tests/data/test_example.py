"""The wire format of examples, written without TensorFlow, read by TensorFlow."""

import io
import subprocess
import sys

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab2_kmax.data import example
from tests import shared


def picture(height, width):
    out = io.BytesIO()
    Image.fromarray(np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)).save(out, "PNG")
    return out.getvalue()


def test_the_bytes_are_those_of_tensorflow():
    # 300 columns: a size, and a length, of more than one byte of the wire format.
    label = np.arange(2 * 300, dtype=np.int32).reshape(2, 300)
    data = example.encode_example(picture(2, 300), label, filename="street ß", sequence_id="", frame_id="000001")
    parsed = tf.train.Example.FromString(data)
    assert parsed.SerializeToString(deterministic=True) == data
    feature = parsed.features.feature
    assert feature[example.WIDTH].int64_list.value == [300] and feature[example.HEIGHT].int64_list.value == [2]
    assert feature[example.FILENAME].bytes_list.value == ["street ß".encode()]
    assert feature[example.SEQUENCE_ID].bytes_list.value == [b""]
    assert feature[example.LABEL].bytes_list.value == [label.astype("<i4").tobytes()]
    assert feature[example.IMAGE].bytes_list.value == [picture(2, 300)]


def test_converters_do_without_tensorflow():
    code = (
        "import sys\n"
        "from deeplab2_kmax.data.convert import camvid, coco, davis, synthetic, writer\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=shared.ROOT)
