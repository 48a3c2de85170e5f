import numpy as np
import pytest

from evaluation import error_breakdown


def counts(**values):
    """Counts of two classes; what is not given is 0."""
    zeros = {name: np.zeros(2) for name in error_breakdown.Counts._fields}
    return error_breakdown.Counts(**{**zeros, **{name: np.array(v, float) for name, v in values.items()}})


def test_by_hand():
    # Class 0: 4 matched with an IoU of 0.75 each, 1 poor pair, 1 called class 1, 2 missed, 3 false.
    # D = 4 + (1 + 1) / 2 + 1/2 + 2/2 + 3/2 = 8; class 1: the one that was taken for it, D = 1/2.
    found = error_breakdown.panoptic(
        counts(
            matched=[4, 0],
            iou=[3, 0],
            inexact=[2, 0],
            poor=[1, 0],
            wrong_true=[1, 0],
            wrong_iou=[0.6, 0],
            wrong_pred=[0, 1],
            missed=[2, 0],
            false=[3, 0],
        )
    )
    assert (found.measure, found.num_classes) == ("PQ", 2)
    assert found.quality == pytest.approx((3 / 8 + 0) / 2)
    inexact, poor, wrong, missed, false = found.parts
    assert inexact.lost == pytest.approx(1 / 8 / 2)
    assert poor.lost == pytest.approx(1 / 8 / 2)
    assert wrong.lost_per_class == pytest.approx([0.5 / 8, 1.0])
    assert missed.lost_per_class == pytest.approx([1 / 8, 0])
    assert false.lost_per_class == pytest.approx([1.5 / 8, 0])
    assert found.quality + sum(part.lost for part in found.parts) == pytest.approx(1, abs=1e-12)
    assert found.lost(error_breakdown.SEGMENTATION) == pytest.approx(2 / 8 / 2)
    assert [part.number for part in found.parts] == [2, 1, 1, 2, 3]

    assert inexact.if_fixed == pytest.approx(4 / 8 / 2)
    assert poor.if_fixed == pytest.approx(4 / 8 / 2)
    # Class 1 does not occur any more; class 0 has 5 matched, D = 5 + 1 + 1 + 1.5.
    assert wrong.if_fixed == pytest.approx(3.6 / 8.5)
    assert missed.if_fixed == pytest.approx(5 / 9 / 2)
    assert false.if_fixed == pytest.approx(3 / 6.5 / 2)


def test_nothing_is_lost_where_all_is_right():
    found = error_breakdown.panoptic(counts(matched=[2, 0], iou=[2, 0]))
    assert (found.quality, found.num_classes) == (1.0, 1)
    assert [part.lost for part in found.parts] == [0.0] * 5
    assert [part.if_fixed for part in found.parts] == [1.0] * 5


def test_no_class():
    found = error_breakdown.panoptic(counts())
    assert (found.quality, found.num_classes, [part.lost for part in found.parts]) == (0.0, 0, [0.0] * 5)
    assert error_breakdown.semantic(np.zeros((3, 3), np.int64)).num_classes == 0


def test_classes_by_hand():
    # Class 0: 6 right, 1 taken for class 1, 1 left void, 2 of class 1: U = 10.
    # Class 1: 3 right, 2 lost, 1 false: U = 6.
    confusion = np.array([[6, 1, 1], [2, 3, 0], [9, 9, 9]])  # void ground truth counts nowhere
    found = error_breakdown.semantic(confusion)
    assert found.quality == pytest.approx((0.6 + 0.5) / 2)
    other, nothing, false = found.parts
    assert other.lost_per_class == pytest.approx([0.1, 2 / 6])
    assert nothing.lost_per_class == pytest.approx([0.1, 0])
    assert false.lost_per_class == pytest.approx([0.2, 1 / 6])
    assert found.quality + sum(part.lost for part in found.parts) == pytest.approx(1, abs=1e-12)
    assert other.if_fixed == pytest.approx((0.7 + 5 / 6) / 2)
    assert false.if_fixed == pytest.approx((6 / 8 + 3 / 5) / 2)
    assert [part.number for part in found.parts] == [3, 1, 3]
