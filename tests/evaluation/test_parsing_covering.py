import numpy as np

from evaluation import parsing_covering


def result(y_true, y_pred, **options):
    metric = parsing_covering.ParsingCovering(3, 255, 10, [0, 1], **options)
    metric.update_state(np.array([y_true]), np.array([y_pred]))
    return metric.result()


def test_by_hand():
    # Thing 1: half of it, IoU 2/4; thing 2 shares no pixel with its class; stuff: 2 of 4; void leaves both maps.
    found = result([1, 1, 1, 1, 2, 20, 20, 2550], [1, 1, 20, 20, 11, 20, 20, 1])
    np.testing.assert_allclose(found["gt_area"], [5 / 8, 0, 2 / 8])
    np.testing.assert_allclose(found["pc_per_class"], [0.5 * 4 / 5, 0, 0.5])
    np.testing.assert_allclose([found["pc"], found["pc_things"], found["pc_stuff"]], [0.45, 0.4, 0.5])
    assert [float(found[key]) for key in ("n", "n_things", "n_stuff")] == [2, 1, 1]


def test_a_thing_without_instance_is_a_segment():
    assert result([0, 0], [0, 0])["pc"] == 1


def test_ground_truth_against_itself_and_many_instances():
    labels = np.arange(400)
    metric = parsing_covering.ParsingCovering(1, 255, 1000, [0])
    metric.update_state(labels.reshape(20, 20), labels.reshape(20, 20))
    np.testing.assert_allclose(metric.result()["pc"], 1)


def test_a_prediction_of_void_covers_nothing():
    assert result([1, 1], [2550, 2550])["pc"] == 0
