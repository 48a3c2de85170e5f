"""Post-processing of mask transformers against DeepLab2."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from deeplab2_kmax.postprocess import mask_merging
from deeplab2_kmax.protos import evaluator_pb2
from deeplab2_kmax.structures import MaskClasses, MaskPrediction
from tests import shared


@pytest.mark.parametrize("prefix", ["coco_", "city_"])
@pytest.mark.parametrize("name", ["kmax_postprocess_pixelwise", "kmax_postprocess_maskwise"])
def test_postprocess(name, prefix):
    manifest, arrays = shared.case(name)
    settings = manifest["settings"][prefix]
    things, void = settings["thing_class_ids"], settings["void_label"]
    first = 1 if void == 0 else 0
    every_class = range(first, first + settings["num_thing_stuff_classes"])
    classes = MaskClasses(
        tuple(things), tuple(i for i in every_class if i not in things), void, settings["label_divisor"]
    )
    prediction = MaskPrediction(
        class_logits=tf.constant(arrays[prefix + "transformer_class_logits"]),
        mask_logits=tf.constant(arrays[prefix + "pixel_space_mask_logits"]),
        pixel_features=tf.zeros([1]),
    )
    postprocess = mask_merging.build(text_format.Parse(settings["options"], evaluator_pb2.EvaluatorOptions()), classes)
    for run in (postprocess, tf.function(postprocess)):
        maps = run(prediction, tuple(settings["image_size"]))
        np.testing.assert_array_equal(maps.panoptic, arrays[prefix + "panoptic_pred"])
        np.testing.assert_array_equal(maps.instance, arrays[prefix + "instance_pred"])
        np.testing.assert_array_equal(maps.semantic, arrays[prefix + "semantic_pred"])
        np.testing.assert_allclose(maps.instance_scores, arrays[prefix + "instance_scores"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(maps.semantic_scores, arrays[prefix + "semantic_scores"], rtol=1e-4, atol=1e-5)
