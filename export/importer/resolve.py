"""The one walk over the graph: each node in turn is given its modern form, evaluated if it can be, or kept."""

from __future__ import annotations

from collections import deque

import numpy as np
import onnx
from onnx import TensorProto

from bitproof.export.importer.channels_first import channels_first
from bitproof.export.importer.domains import is_general, is_standard
from bitproof.export.importer.fold import Folder
from bitproof.export.importer.graph import (
    OPSET,
    Array,
    WorkingGraph,
    input_of,
    int64,
    integer,
    integers,
    operations,
    refusal,
    without,
)
from bitproof.export.importer.modernize import modernize, resolve_padding
from bitproof.export.importer.shape_arithmetic import Sizes, sizes_of, target_of
from bitproof.export.importer.shapes import (
    BATCH,
    BROADCAST,
    CHANGES_SHAPE,
    REDUCTIONS,
    SAME_SHAPE,
    Shape,
    number_of,
    output_shape,
)
from bitproof.export.importer.streamlined import standard_form
from bitproof.export.importer.weights import rearranged_weights
from bitproof.pipeline import InputError

MAX_ELEMENTS = 1 << 26
"""Of one tensor, for one sample."""

KEEPS_FLOAT = (SAME_SHAPE | BROADCAST | REDUCTIONS | CHANGES_SHAPE) - operations(
    "ArgMax ArgMin Cast Equal Greater Less QuantizeLinear Where"
)
"""Operations that give float values where their first input holds some."""


class Walk:
    """Walks over *graph*, whose nodes are in order, and leaves in it what cannot be resolved."""

    def __init__(self, graph: WorkingGraph) -> None:
        self.graph = graph
        sizes = [dimension.dim_value for dimension in graph.input.type.tensor_type.shape.dim]
        self.batch = sizes[0] if sizes[0] > 0 else None
        self.shapes: dict[str, Shape] = {graph.input.name: (BATCH, *sizes[1:])}
        self.floats = {name for name, value in graph.constants.items() if value.dtype == np.float32}
        self.floats.add(graph.input.name)
        self.sizes: dict[str, Sizes] = {}
        self.aliases: dict[str, str] = {}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.quantizers: dict[tuple[object, ...], str] = {}
        self.used = {graph.output.name, *(name for node in graph.nodes for name in node.input)}
        self.folder = Folder(max(OPSET, graph.opsets[""]))

    def run(self) -> None:
        """Resolve every node, then name the output anew if the node that made it has gone."""
        pending = deque(self.graph.nodes)
        self.graph.nodes = []
        while pending:
            node = pending.popleft()
            for index, name in enumerate(node.input):
                node.input[index] = self.aliases.get(name, name)
            instead = channels_first(node, self.graph, self.shapes)
            if instead is None:
                instead = standard_form(node, self.makers, self.graph, self.shapes)
            if instead is not None:
                pending.extendleft(reversed(instead))
                continue
            self._resolve(node)
        output = self.graph.output.name
        self.graph.output.name = self.aliases.get(output, output)
        if self.graph.output.name not in self.makers:
            raise InputError(f"the output {output!r} does not depend on the input")
        self.graph.opsets[""] = max(OPSET, self.graph.opsets[""])

    def _resolve(self, node: onnx.NodeProto) -> None:
        modernize(node, self.graph, self.shapes)
        same = node.input[0] if self._is_identity(node) else self._before_transposes(node) or self._made_before(node)
        if same is not None:
            self.aliases[node.output[0]] = same
            return
        names = [name for name in node.input if name]
        if names and all(name in self.graph.constants for name in names):
            value = self.folder.fold(node, [self.graph.constants[name] for name in names])
            if value is not None:
                self._constant(node.output[0], value)
                return
        sizes = sizes_of(node, self.sizes, self.graph.constants, self.shapes)
        if sizes is not None:
            self.sizes[node.output[0]] = sizes
            if all(isinstance(size, int) for size in sizes.reshape(-1)):
                self._constant(node.output[0], np.array(sizes.tolist(), dtype=np.int64).reshape(sizes.shape))
                return
        self._keep(rearranged_weights(node, self.makers, self.graph, self.folder) or node)

    def _constant(self, name: str, value: Array) -> None:
        self.graph.constants[name] = value
        if value.dtype == np.float32:
            self.floats.add(name)

    def _is_identity(self, node: onnx.NodeProto) -> bool:
        """Tell whether *node* gives what it takes: Identity, Dropout at inference, a Cast from float to float."""
        if not node.input or not node.input[0]:
            return False
        if is_standard(node, "Cast"):
            return integer(node, "to", 0) == TensorProto.FLOAT and node.input[0] in self.floats
        if is_standard(node, "Dropout"):
            training = input_of(node, 2)
            known = not training or (training in self.graph.constants and not self.graph.constants[training].any())
            return known and not any(name in self.used for name in node.output[1:])
        return is_standard(node, "Identity")

    def _before_transposes(self, node: onnx.NodeProto) -> str | None:
        """Return the tensor that *node* and the Transpose before it leave as it was; None if they do not."""
        before = self.makers.get(node.input[0]) if is_standard(node, "Transpose") and node.input else None
        if before is None or not is_standard(before, "Transpose"):
            return None
        first, second = integers(before, "perm"), integers(node, "perm")
        if first is None or second is None or sorted(second) != list(range(len(first))):
            return None
        composed = [first[axis] for axis in second]
        return before.input[0] if composed == list(range(len(composed))) else None

    def _made_before(self, node: onnx.NodeProto) -> str | None:
        """Return the tensor that an equal QuantizeLinear or DequantizeLinear made: files write one for each use."""
        if not is_standard(node, "QuantizeLinear", "DequantizeLinear") or input_of(node, 0) in self.graph.constants:
            return None
        attributes = sorted(attribute.SerializeToString() for attribute in node.attribute)
        key = (node.op_type, *map(self._identity, node.input), *attributes)
        made = self.quantizers.setdefault(key, node.output[0])
        return None if made == node.output[0] else made

    def _identity(self, name: str) -> tuple[object, ...]:
        """Return what is equal for equal tensors: the numbers of a constant, else the name."""
        value = self.graph.constants.get(name)
        return (name,) if value is None else (str(value.dtype), value.shape, value.tobytes())

    def _keep(self, node: onnx.NodeProto) -> None:
        self._reshape(node)
        resolve_padding(node, self.shapes)
        self.graph.nodes.append(node)
        for name in node.output:
            if name:
                self.makers[name] = node
        shape = output_shape(node, self.shapes, self.graph.constants)
        if shape is not None:
            self._require_batch_first(node, shape)
            elements = number_of(tuple(size for size in shape if size != BATCH))
            if elements is not None and elements > MAX_ELEMENTS:
                raise refusal(node, f"its result would hold {elements} numbers a sample; at most {MAX_ELEMENTS}")
            self.shapes[node.output[0]] = shape
        known = not node.domain or is_general(node, node.op_type)
        if known and node.op_type in KEEPS_FLOAT and node.input and node.input[0] in self.floats:
            self.floats.add(node.output[0])

    def _require_batch_first(self, node: onnx.NodeProto, shape: Shape) -> None:
        """Refuse a *node* that takes samples apart from each other and gives something else, of *shape*."""
        of_samples = any(BATCH in self.shapes.get(name, ()) for name in node.input)
        if of_samples and shape[:1] != (BATCH,):
            sizes = ", ".join("?" if size is None else str(size) for size in shape)
            raise refusal(node, f"gives the shape [{sizes}]; the samples must stay apart, with the batch first")

    def _reshape(self, node: onnx.NodeProto) -> None:
        """Give a Reshape of samples a constant shape that leaves their number open."""
        source = self.shapes.get(node.input[0]) if node.input else None
        if not is_standard(node, "Reshape") or source is None or not source or source[0] != BATCH:
            return
        name = input_of(node, 1)
        if name in self.graph.constants and self.graph.constants[name].dtype == np.int64:
            given = self.graph.constants[name].reshape(-1).tolist()
        elif name in self.sizes:
            given = self.sizes[name].reshape(-1).tolist()
        else:
            return
        if integer(node, "allowzero", 0):
            if 0 in given:
                raise refusal(node, "asks for a size of 0")
            without(node, ["allowzero"])
        try:
            target = target_of(given, source, self.batch)
        except ValueError as error:
            raise refusal(
                node,
                f"reshapes {list(source)} to {given}: {error}; the samples must stay apart: the batch first, then the "
                "sizes of one sample",
            ) from error
        if target is not None and target != given:
            node.input[1] = self.graph.constant(f"{node.output[0]}_shape", int64(*target))
