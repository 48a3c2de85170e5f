"""Post-processing against hand-made masks and against the definition, written with NumPy on whole images."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction, PanopticMaps

# Class outputs: thing 7, thing 3, stuff 1, stuff 5, void.
CLASSES = MaskClasses(thing_ids=(7, 3), stuff_ids=(1, 5), ignore_label=0, label_divisor=100)
VOID = 4


def options(text: str) -> evaluator_pb2.EvaluatorOptions:
    return text_format.Parse(text, evaluator_pb2.EvaluatorOptions())


def prediction(classes: list[int], masks: np.ndarray, sharpness: float = 20.0) -> MaskPrediction:
    """Slots with the given class outputs, surely, and logits `sharpness * masks` [h, w, N]."""
    class_logits = 20.0 * np.eye(5, dtype=np.float32)[classes]
    mask_logits = np.float32(sharpness) * masks.astype(np.float32)
    return MaskPrediction(tf.constant(class_logits[None]), tf.constant(mask_logits[None]), tf.zeros([1]))


def one_hot_masks(owners: list[list[int]], num_slots: int) -> np.ndarray:
    return np.eye(num_slots)[np.array(owners)]


def numpy_maps(maps: PanopticMaps) -> PanopticMaps:
    return PanopticMaps(*(m.numpy() for m in maps))


MASKWISE = """transformer_post_processing: "maskwise" pixel_confidence_threshold: %g
  maskwise_postprocessing {
    transformer_class_confidence_threshold_thing: 0.6 transformer_class_confidence_threshold_stuff: 0.4
    overlapping_threshold: 0.5 reorder_class_weight: 1 reorder_mask_weight: 1 }"""


def test_pixelwise_gives_each_pixel_its_best_confident_slot():
    # Slot 0 is stuff 1, slot 1 thing 7, slot 2 void: its pixels have no confident class.
    owners = [[0, 0, 1], [0, 2, 1]]
    maps = numpy_maps(
        mask_merging.build(options(""), CLASSES)(prediction([2, 0, VOID], one_hot_masks(owners, 3)), (2, 3))
    )
    np.testing.assert_array_equal(maps.panoptic[0], [[100, 100, 702], [100, 0, 702]])
    # Where slot 2 is best, the best kept slot is the first of two equal ones.
    np.testing.assert_array_equal(maps.instance[0], [[1, 1, 2], [1, 1, 2]])
    # Never void: a void slot has its best real class, here all four alike and the first is taken.
    np.testing.assert_array_equal(maps.semantic[0], [[1, 1, 7], [1, 7, 7]])
    np.testing.assert_allclose(maps.semantic_scores[0], 1.0, atol=1e-6)
    np.testing.assert_allclose(maps.instance_scores[0, 0], 1.0, atol=1e-6)
    np.testing.assert_allclose(maps.instance_scores[0, 1, 1], 0.5, atol=1e-6)


def test_maskwise_rejects_a_mask_that_is_mostly_hidden():
    # Both masks get half of the probability where they overlap, which is above 0.4: four pixels each, two shared.
    masks = np.array([[[1, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 1]]])
    # Slot 1 is paler, hence second; it would show half of its pixels, and more than half is asked for.
    given = prediction([0, 1], masks)
    class_logits = given.class_logits.numpy()
    class_logits[0, 1] *= 0.1
    given = given._replace(class_logits=tf.constant(class_logits))
    run = mask_merging.build(options(MASKWISE % 0.4), CLASSES)
    maps = numpy_maps(run(given, (1, 6)))
    np.testing.assert_array_equal(maps.panoptic[0], [[701, 701, 701, 701, 0, 0]])
    np.testing.assert_array_equal(maps.instance[0], [[1, 1, 1, 1, 1, 1]])
    # The score of a pixel is that of its best mask even where the mask was rejected.
    np.testing.assert_allclose(maps.instance_scores[0, 0], [1, 1, 0.5, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(maps.semantic_scores[0, 0, 4:], 0)

    lenient = MASKWISE.replace("overlapping_threshold: 0.5", "overlapping_threshold: 0.49")
    maps = numpy_maps(mask_merging.build(options(lenient % 0.4), CLASSES)(given, (1, 6)))
    np.testing.assert_array_equal(maps.panoptic[0], [[701, 701, 701, 701, 302, 302]])


def test_area_limits_count_stuff_by_class_and_things_by_instance():
    # Two slots of stuff 1 with two pixels each, two of thing 7 likewise.
    masks = one_hot_masks([[0, 0, 1, 1], [2, 2, 3, 3]], 4)
    given = prediction([2, 2, 0, 0], masks)
    limited = options("stuff_area_limit: 4 thing_area_limit: 3")
    maps = numpy_maps(mask_merging.build(limited, CLASSES)(given, (2, 4)))
    np.testing.assert_array_equal(maps.panoptic[0], [[100] * 4, [0] * 4])
    limited = options("stuff_area_limit: 5 thing_area_limit: 2")
    maps = numpy_maps(mask_merging.build(limited, CLASSES)(given, (2, 4)))
    np.testing.assert_array_equal(maps.panoptic[0], [[0] * 4, [703, 703, 704, 704]])


@pytest.mark.parametrize("algorithm", ["", MASKWISE % 0.4])
def test_no_confident_slot_gives_an_empty_result(algorithm):
    given = prediction([VOID, VOID], one_hot_masks([[0, 1]], 2))
    maps = numpy_maps(mask_merging.build(options(algorithm), CLASSES)(given, (1, 2)))
    np.testing.assert_array_equal(maps.panoptic[0], [[0, 0]])
    np.testing.assert_array_equal(maps.instance[0], [[1, 1]])
    np.testing.assert_array_equal(maps.semantic_scores[0], [[0, 0]])
    np.testing.assert_array_equal(maps.instance_scores[0], [[0, 0]])
    assert set(np.unique(maps.semantic)) <= {1, 3, 5, 7}


def test_unknown_algorithm():
    with pytest.raises(ValueError, match="expected one of pixelwise, maskwise"):
        mask_merging.build(options('transformer_post_processing: "maskwize"'), CLASSES)


def random_prediction(batch: int, height: int, width: int, num_slots: int, spread: float) -> MaskPrediction:
    rng = np.random.RandomState(height + num_slots)
    masks = spread * rng.standard_normal((batch, height, width, num_slots)).astype(np.float32)
    # Several slots alike, so that masks overlap.
    masks[..., 1::2] = masks[..., ::2] + 1.5 * rng.standard_normal(masks[..., ::2].shape)
    class_logits = 3 * rng.standard_normal((batch, num_slots, 5)).astype(np.float32)
    return MaskPrediction(tf.constant(class_logits), tf.constant(masks), tf.zeros([1]))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def define_maskwise(given: MaskPrediction, size: tuple[int, int], o: evaluator_pb2.EvaluatorOptions) -> list[dict]:
    """The definition, step by step, one mask after the other."""
    results = []
    m = o.maskwise_postprocessing
    for low, class_logits in zip(given.mask_logits.numpy(), given.class_logits.numpy()):
        up = tf.compat.v1.image.resize_bilinear(low[None], size, align_corners=True)[0].numpy()
        p = softmax(class_logits)[:, :-1]
        cls, confidence = p.argmax(-1), p.max(-1)
        q = softmax(low).reshape(-1, low.shape[-1])
        sure = q > o.pixel_confidence_threshold
        score = (q * sure).sum(0) / np.maximum(sure.sum(0), 1)
        order = np.argsort(-(confidence**m.reorder_class_weight * score**m.reorder_mask_weight), kind="stable")
        probabilities = softmax(up)
        masks = probabilities > o.pixel_confidence_threshold
        ids = np.zeros(size, np.int32)
        panoptic = np.full(size, CLASSES.ignore_label * CLASSES.label_divisor)
        free = np.ones(size, bool)
        for r, j in enumerate(order):
            thing = cls[j] < len(CLASSES.thing_ids)
            threshold = (
                m.transformer_class_confidence_threshold_thing
                if thing
                else m.transformer_class_confidence_threshold_stuff
            )
            new = masks[..., j] & free
            if confidence[j] >= threshold and new.sum() > m.overlapping_threshold * masks[..., j].sum():
                free &= ~new
                ids[new] = r
                panoptic[new] = CLASSES.class_ids[cls[j]] * CLASSES.label_divisor + (r + 1 if thing else 0)
        results.append({"panoptic": panoptic, "instance": ids + 1, "scores": probabilities.max(-1)})
    return results


@pytest.mark.parametrize("pixel_threshold", [0.6, 0.4, 0.26, 0.0])
def test_maskwise_is_the_definition(pixel_threshold, monkeypatch):
    # 0.6 leaves one mask per pixel, 0.4 two, 0.26 three, 0 all of them.
    monkeypatch.setattr(mask_merging, "BLOCK_NUMBERS", 500)  # several blocks, and a last one that is cut
    given, size, o = random_prediction(2, 5, 7, 8, spread=4.0), (18, 23), options(MASKWISE % pixel_threshold)
    expected = define_maskwise(given, size, o)
    maps = numpy_maps(tf.function(mask_merging.build(o, CLASSES))(given, size))
    for i, image in enumerate(expected):
        np.testing.assert_array_equal(maps.panoptic[i], image["panoptic"])
        np.testing.assert_array_equal(maps.instance[i], image["instance"])
        np.testing.assert_allclose(maps.instance_scores[i], image["scores"], atol=1e-6)
    assert len(np.unique(maps.panoptic)) >= 2, "the example must not be empty"


@pytest.mark.parametrize("algorithm", ["", MASKWISE % 0.4])
def test_blocks_batches_and_unknown_sizes_do_not_matter(algorithm, monkeypatch):
    given, size = random_prediction(3, 5, 5, 8, spread=3.0), (17, 17)
    run = mask_merging.build(options(algorithm), CLASSES)
    whole = numpy_maps(run(given, size))

    monkeypatch.setattr(mask_merging, "BLOCK_NUMBERS", 1)  # one row at a time
    signature = [tf.TensorSpec([None, 8, 5]), tf.TensorSpec([None, None, None, 8]), tf.TensorSpec([2], tf.int32)]

    @tf.function(input_signature=signature)
    def unknown_sizes(class_logits, mask_logits, size):
        return run(MaskPrediction(class_logits, mask_logits, tf.zeros([1])), (size[0], size[1]))

    blocks = numpy_maps(unknown_sizes(given.class_logits, given.mask_logits, size))
    alone = numpy_maps(run(MaskPrediction(given.class_logits[1:2], given.mask_logits[1:2], tf.zeros([1])), size))
    for a, b, c in zip(whole, blocks, alone):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[1:2], c)
    assert len(np.unique(whole.panoptic)) > 2, "the example must not be empty"
