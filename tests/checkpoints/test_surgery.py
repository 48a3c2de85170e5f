"""Checkpoints with other first and last layers: what changes, what stays, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab2_kmax.checkpoints import surgery

MOTCHALLENGE = "1,2,8,10,11,12,18"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """With names as DeepLab2's: a stem, a depthwise kernel, the semantic head of 19 classes, an optimiser."""
    random = np.random.RandomState(0)
    root = tf.train.Checkpoint()

    def put(path, *shape):
        node = root
        *folders, leaf = path.split("/")
        for folder in folders:
            if not hasattr(node, folder):
                setattr(node, folder, tf.Module())
            node = getattr(node, folder)
        setattr(node, leaf, tf.Variable(random.standard_normal(shape), dtype=tf.float32))

    put("encoder/_stem/_conv/kernel", 3, 3, 3, 8)
    put("encoder/_block/_depthwise/depthwise_kernel", 3, 3, 3, 1)
    put("encoder/_block/_conv/kernel", 1, 1, 8, 4)
    put("semantic_last_layer/kernel", 1, 1, 4, 19)
    put("semantic_last_layer/bias", 19)
    put("optimizer/slot", 3, 3, 3, 8)
    return root.write(str(tmp_path_factory.mktemp("stored") / "ckpt-7"))


def values(path):
    reader = tf.train.load_checkpoint(str(path))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name.split("/.ATTRIBUTES")[0]: reader.get_tensor(name) for name in names}


def run(*arguments):
    return surgery.main(["surgery", *arguments])


def test_first_and_last_layer(checkpoint, tmp_path, capsys):
    new = tmp_path / "new" / "start"
    flags = (f"--checkpoint={checkpoint}", f"--output={new}", "--input_channels=7", f"--classes={MOTCHALLENGE}")
    assert run(*flags) == 0
    said = capsys.readouterr().out
    assert "encoder/_stem/_conv/kernel: (3, 3, 3, 8) -> (3, 3, 7, 8)" in said
    assert "semantic_last_layer/bias: (19,) -> (7,)" in said
    before, after = values(checkpoint), values(new)
    assert before.keys() - after.keys() == {"optimizer/slot"}
    kernel = after.pop("encoder/_stem/_conv/kernel")
    np.testing.assert_array_equal(kernel[:, :, :3], before["encoder/_stem/_conv/kernel"])
    assert not kernel[:, :, 3:].any()
    rows = [int(number) for number in MOTCHALLENGE.split(",")]
    for name in ("semantic_last_layer/kernel", "semantic_last_layer/bias"):
        np.testing.assert_array_equal(after.pop(name), before[name][..., rows])
    assert len(after) == 2
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--input_channels=7",), "--output is not set"),
        (("--output=x",), "nothing to change"),
        (("--output={checkpoint}", "--input_channels=7"), "choose another name"),
        (("--output=x", "--input_channels=3"), "more than the 3 of colours, got 3"),
        (("--output=x", "--classes=1,19"), "from 0 to 18"),
        (("--output=x", "--classes=1,road"), "expected numbers"),
        (("--output=x", "--checkpoint=nothing", "--classes=1"), "There is no checkpoint nothing"),
    ],
)
def test_one_line_says_what_is_wrong(checkpoint, flags, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(f"--checkpoint={checkpoint}", *(flag.format(checkpoint=checkpoint) for flag in flags)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_without_such_layers(tmp_path, capsys):
    other = tf.train.Checkpoint(weight=tf.Variable([1.0])).write(str(tmp_path / "other"))
    for flag in ("--input_channels=7", "--classes=0"):
        assert run(f"--checkpoint={other}", f"--output={tmp_path / 'new'}", flag) == 2
    error = capsys.readouterr().err
    assert "has no kernel" in error
    assert "no last layer of a semantic head" in error


def test_a_training_is_not_overwritten(checkpoint, tmp_path, capsys):
    start = tmp_path / "start"
    flags = (f"--checkpoint={checkpoint}", "--classes=0")
    assert run(*flags, f"--output={start}") == run(*flags, f"--output={start}") == 0  # a surgery may be repeated
    other = tf.train.Checkpoint(optimizer=tf.train.Checkpoint(slot=tf.Variable([1.0]))).write(str(tmp_path / "ckpt-1"))
    before = values(other)
    assert run(*flags, f"--output={other}") == 2
    assert "a checkpoint of a training already" in capsys.readouterr().err
    assert values(other).keys() == before.keys()
