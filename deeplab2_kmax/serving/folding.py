"""Does the arithmetic of a traced model that depends on its weights alone, once.

So batch norms disappear into kernels, and kernels are scaled and cast in advance. The results are variables, not
constants: TensorFlow copies constants many times over while it prepares a graph, gigabytes for a model of 200 MB.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

# Results with at most this many numbers become constants, which TensorFlow's graph optimizers can look at.
LARGEST_CONSTANT = 4096
_CONTROL_FLOW = ("If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase")


class Folded(tf.Module):
    """A traced function whose arithmetic on weights is done: `folded(*inputs)` -> list of outputs.

    It holds copies of the weights; later changes of the model do not reach it. Order between operations is not kept, so
    the function must have no side effects.
    """

    def __init__(self, traced: Any):
        """Folds a `tf.types.experimental.ConcreteFunction` that takes and returns tensors.

        Raises:
            ValueError: it has conditions or loops, whose branches would stay behind.
        """
        super().__init__(name="folded")
        graph_def = traced.graph.as_graph_def()
        left = [node.name for node in graph_def.node if node.op in _CONTROL_FLOW]
        if left:
            raise ValueError(f"Expected a network without conditions and loops to fold, found {', '.join(left)}.")
        captured = {inner.op.name: outer for outer, inner in traced.graph.captures}
        self._inputs = [tensor.name for tensor in traced.inputs if tensor.op.name not in captured]
        self._outputs = [tensor.name for tensor in traced.outputs]
        varying = _varying(graph_def, self._inputs)
        border = _border(graph_def, varying, self._outputs)
        self._kept = _without_weights(graph_def, varying)
        self._constants: dict[str, Any] = {}
        self._weights: dict[str, tf.Variable] = {}
        for name, value in zip(border, _evaluate(graph_def, border, captured)):
            if value.dtype.is_floating and value.shape.num_elements() > LARGEST_CONSTANT:
                self._weights[name] = tf.Variable(value, trainable=False, name=name.split(":")[0])
            else:
                self._constants[name] = value.numpy()
        self.weights = list(self._weights.values())

    def __call__(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        given = dict(zip(self._inputs, inputs))
        given |= {name: tf.constant(value) for name, value in self._constants.items()}
        given |= {name: variable.read_value() for name, variable in self._weights.items()}
        return _run(self._kept, given, self._outputs)


def _varying(graph_def: graph_pb2.GraphDef, inputs: Iterable[str]) -> set[str]:
    """The nodes that depend on an input, and the inputs."""
    readers: dict[str, list[str]] = {}
    for node in graph_def.node:
        for source in node.input:
            if not source.startswith("^"):
                readers.setdefault(_node(source), []).append(node.name)
    found = {_node(name) for name in inputs}
    queue = list(found)
    while queue:
        for reader in readers.get(queue.pop(), ()):
            if reader not in found:
                found.add(reader)
                queue.append(reader)
    return found


def _border(graph_def: graph_pb2.GraphDef, varying: set[str], outputs: Iterable[str]) -> list[str]:
    """The tensors that do not vary and are read by nodes that do, or returned; small constants stay where they are."""
    small = {node.name for node in graph_def.node if _is_small_constant(node)}
    read = [source for node in graph_def.node if node.name in varying for source in node.input]
    names = (_tensor(source) for source in [*read, *outputs] if not source.startswith("^"))
    return list(dict.fromkeys(name for name in names if _node(name) not in varying and _node(name) not in small))


def _evaluate(graph_def: graph_pb2.GraphDef, names: list[str], captured: dict[str, tf.Tensor]) -> list[tf.Tensor]:
    """The values of tensors that depend on captured variables alone."""
    if not names:
        return []
    nodes = {node.name: node for node in graph_def.node}
    known = {f"{name}:0": value for name, value in captured.items() if value.dtype != tf.resource}
    needed: set[str] = set()
    queue = [_node(name) for name in names]
    while queue:
        node = nodes[queue.pop()]
        if node.name in needed or f"{node.name}:0" in known:
            continue
        if node.op == "ReadVariableOp":
            variable, dtype = captured[_node(node.input[0])], tf.as_dtype(node.attr["dtype"].type)
            known[f"{node.name}:0"] = tf.raw_ops.ReadVariableOp(resource=variable, dtype=dtype)
            continue
        needed.add(node.name)
        queue += [_node(source) for source in node.input if not source.startswith("^")]
    part = _subset(graph_def, needed)

    def evaluate(*values: tf.Tensor) -> list[tf.Tensor]:
        return _run(part, {name: tf.identity(value) for name, value in zip(known, values)}, names)

    values = list(known.values())
    return tf.function(evaluate, autograph=False).get_concrete_function(*values)(*values)


def _run(graph_def: graph_pb2.GraphDef, given: dict[str, tf.Tensor], wanted: list[str]) -> list[tf.Tensor]:
    """Puts nodes into the graph being traced; the `given` tensors take the place of those of these names."""
    read = {_tensor(source) for node in graph_def.node for source in node.input}
    made = [name for name in wanted if name not in given]
    replaced = {name: value for name, value in given.items() if name in read}
    found = tf.graph_util.import_graph_def(graph_def, input_map=replaced, return_elements=made, name="") if made else []
    found = dict(zip(made, found))
    return [given[name] if name in given else found[name] for name in wanted]


def _without_weights(graph_def: graph_pb2.GraphDef, varying: set[str]) -> graph_pb2.GraphDef:
    small = {node.name for node in graph_def.node if _is_small_constant(node)}
    return _subset(graph_def, {node.name for node in graph_def.node if node.name in varying | small})


def _subset(graph_def: graph_pb2.GraphDef, names: set[str]) -> graph_pb2.GraphDef:
    """Some of the nodes, without order and placement relative to others."""
    subset = graph_pb2.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in names:
            copy = subset.node.add()
            copy.CopyFrom(node)
            copy.input[:] = [source for source in node.input if not source.startswith("^")]
            copy.attr.pop("_class", None)
    return subset


def _is_small_constant(node: Any) -> bool:
    if node.op != "Const":
        return False
    shape = tf.TensorShape(node.attr["value"].tensor.tensor_shape)
    return shape.num_elements() <= LARGEST_CONSTANT


def _node(tensor: str) -> str:
    return tensor.split(":")[0]


def _tensor(source: str) -> str:
    return source if ":" in source else f"{source}:0"
