"""A data set of four classes for the tests of errors."""

from deeplab2_kmax.data import datasets

VOID = 2550

# Road and grass are stuff, car and truck are things; void is 255.
DATASET = datasets.Dataset(
    name="small",
    num_classes=4,
    ignore_label=255,
    label_divisor=10,
    thing_ids=(2, 3),
    class_names=("road", "grass", "car", "truck"),
    colors=((128, 64, 128), (0, 160, 0), (0, 0, 142), (0, 80, 100)),
    eval_ids=(0, 1, 2, 3),
)
