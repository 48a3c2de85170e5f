"""Names of the variables of MaX-DeepLab's networks, ours -> DeepLab2's below `encoder/`.

Blocks, dual-path layers and fusions have the names that DeepLab2 gives them everywhere. How its containers of the extra
blocks, its memory and the two projections of it are called is not known here: TABLE holds likely names, and `resolve`
finds the containers by what is inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from deeplab2_kmax.checkpoints.name_maps import layers, under

MEMORY = "memory/features"

_BLOCK = {**under("block{}", "_block{}", layers.RESIDUAL_BLOCK)}
_TRANSFORMER = {**under("transformer{}", "_block{}_transformer", layers.DUAL_PATH)}

# Beside the plain backbone's, which are in `resnet`.
TABLE = {
    MEMORY: "_memory_feature",
    **under("stage{}", "_stage{}", _TRANSFORMER),
    **under("stage{}_extra", "_stage{}_extra", {**_BLOCK, **_TRANSFORMER}),
    **under("decoder/stage{}", "_decoder_stage{}", _TRANSFORMER),
    **under("decoder/extra{}", "_decoder_stage{}_extra", {**_BLOCK, **_TRANSFORMER}),
    **under("class_projection", "_class_embedding_projection", layers.CONV_NORM),
    **under("mask_projection", "_mask_embedding_projection", layers.CONV_NORM),
}

# A name as a container and what is inside, in blocks and fusions, and in single convolutions.
_INSIDE = re.compile(r"(.+?)/((?:_block\d+|_block\d+_transformer|_(?:resized|strided)_conv_bn\d+)/.+)")
_SINGLE = re.compile(r"(.+?)/((?:_conv|_batch_norm)/[^/]+)")

Shape = tuple[int, ...]
Signature = frozenset[tuple[str, Shape]]


def resolve(
    names: Mapping[str, str | None], shapes: Mapping[str, Shape], stored: Mapping[str, Shape]
) -> dict[str, str | None]:
    """Replaces the names of containers that a checkpoint calls otherwise.

    Containers with the same insides are told apart by the order of the numbers in their names; the two projections by
    "class" and "mask" in them; the memory by its shape. What stays ambiguous keeps its name, and so does not match.

    Args:
        names: our path -> the name that the tables give it.
        shapes: our path -> its shape.
        stored: name -> shape of everything in the checkpoint.
    """
    memory = next((path for path in names if path.endswith(MEMORY)), None)
    if memory is None:
        return dict(names)
    root = (names[memory] or "").removesuffix(TABLE[MEMORY])
    known = set(names.values())
    missing = {name: shapes[path] for path, name in names.items() if name is not None and name not in stored}
    unused = {name: shape for name, shape in stored.items() if name not in known and name.startswith(root)}
    found: dict[str, str] = {}  # the table's name -> the checkpoint's

    def same(signature: Signature, ours: str, theirs: str) -> None:
        found.update({f"{ours}/{inside}": f"{theirs}/{inside}" for inside, _ in signature})

    theirs = _by_insides(unused, _INSIDE)
    for signature, containers in _by_insides(missing, _INSIDE).items():
        others = theirs.get(signature, [])
        if len(others) == len(containers):
            for container, other in zip(containers, others):
                same(signature, container, other)
    theirs = _by_insides(unused, _SINGLE)
    for signature, containers in _by_insides(missing, _SINGLE).items():
        for word in ("class", "mask"):
            ours = [container for container in containers if word in container.rsplit("/", 1)[-1]]
            others = [other for other in theirs.get(signature, []) if word in other.rsplit("/", 1)[-1]]
            if len(ours) == len(others) == 1:
                same(signature, ours[0], others[0])
    others = [name for name, shape in unused.items() if shape == shapes[memory]]
    if names[memory] in missing and len(others) == 1:
        found[names[memory] or ""] = others[0]
    return {path: found.get(name, name) if name else name for path, name in names.items()}


def _by_insides(shapes: Mapping[str, Shape], pattern: re.Pattern[str]) -> dict[Signature, list[str]]:
    """Insides -> the containers that have them, in the order of their numbers."""
    containers: dict[str, set[tuple[str, Shape]]] = {}
    for name, shape in shapes.items():
        match = pattern.fullmatch(name)
        if match:
            insides = containers.setdefault(match[1], set())
            insides.add((match[2], tuple(size for size in shape if size != 1)))
    found: dict[Signature, list[str]] = {}
    for container in sorted(containers, key=_natural):
        found.setdefault(frozenset(containers[container]), []).append(container)
    return found


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
