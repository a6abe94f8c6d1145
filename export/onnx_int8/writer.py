"""Write the ONNX file: MatMulInteger on unpacked fields, then multiply-shift or comparison with the thresholds.

Weights stay unsigned with a zero point: MatMulInteger on uint8 x uint8 is exact on every x86 kernel of onnxruntime,
while uint8 x int8 saturates in 16 bits on processors without VNNI. Only standard operators are used (opset 18 and up).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.integer import (
    Affine,
    IntegerModel,
    Interval,
    MatMul,
    MultiplyShift,
    Threshold,
    hull,
    load,
    propagate,
    require_operations,
    solve_multiply_shift,
)
from export.onnx_int8.packing import FieldLayout, pack
from pipeline import Artifact, Stage, StageContext, StageError

FILE = "model.onnx"
LAYERS = "layers.json"
KIND = "onnx-int8"
OPSET = 21
IR_VERSION = 10
WORD_BITS = 32


@dataclass(frozen=True)
class WriteOnnxInt8(Stage):
    """Write the integer model as packed-int8 ONNX."""

    name: ClassVar[str] = "onnx-int8"
    consumes: ClassVar[str | None] = "integer-model"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx`` and ``layers.json`` (where each activation begins and ends, and how it is computed)."""
        assert source is not None, "this stage consumes an integer model"
        model, layers = build(load(source.path))
        onnx.save_model(model, ctx.workdir / FILE)
        (ctx.workdir / LAYERS).write_text(json.dumps(layers, indent=1, sort_keys=True) + "\n")
        return {}


def build(model: IntegerModel) -> tuple[onnx.ModelProto, list[dict[str, str]]]:
    """Return the ONNX form of *model* and, for every activation, ``source`` and ``target`` tensor and ``method``.

    The graph takes uint8 codes ``codes``, shape (N, inputs), and gives int32 ``accumulators``, or uint8 codes where the
    model ends with an activation, shape (N, outputs).

    Raises:
        StageError: a layer has no form in this target; the message names it and what is supported.
    """
    if model.input.signed or model.input.bits > 8:
        raise StageError(f"onnx-int8: input codes are {model.input}; supported: unsigned, up to 8 bits")
    require_operations(model, "onnx-int8", (MatMul, Threshold, Affine))
    writer = _Writer()
    ranges = propagate(model)
    tensor, before = "codes", ""
    layers = []
    for node in model.nodes:
        if isinstance(node, MatMul):
            tensor = writer.matrix_product(node, tensor)
        elif isinstance(node, Affine):
            tensor = writer.bias(node, hull(ranges[node.name]), tensor)
        elif isinstance(node, Threshold):
            source, reachable = tensor, ranges[before]
            constants = solve_multiply_shift(node, reachable, word_bits=WORD_BITS)
            tensor = writer.multiply_shift(node, constants, tensor) if constants else writer.compare(node, tensor)
            method = f"multiply-shift by {constants.shift}" if constants else "comparison with every threshold"
            layers.append({"layer": node.name, "source": source, "target": tensor, "method": method})
        before = node.name
    last_type = TensorProto.UINT8 if isinstance(model.nodes[-1], Threshold) else TensorProto.INT32
    graph = helper.make_graph(
        writer.nodes,
        "bitproof",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, ["N", model.inputs])],
        [helper.make_tensor_value_info(tensor, last_type, ["N", model.outputs])],
        writer.constants,
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bitproof"
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto, layers


class _Writer:
    """Collects nodes and constants; every tensor is named after its layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def operation(self, op: str, inputs: list[str], output: str, **attributes: int | str) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def matrix_product(self, node: MatMul, source: str) -> str:
        """Unpack the fields and multiply; onnxruntime folds the unpacking into a constant when it loads the file."""
        try:
            layout = FieldLayout.of(node)
        except ValueError as error:
            raise StageError(f"onnx-int8: {error}") from error
        name = node.name
        fields = self.constant(f"{name}.packed", pack(node.weights, layout).reshape(-1, 1))
        if layout.per_byte > 1:
            shifts = np.arange(layout.per_byte, dtype=np.uint8) * np.uint8(layout.bits)
            shifted = self.operation(
                "BitShift",
                [fields, self.constant(f"{name}.shifts", shifts.reshape(1, -1))],
                f"{name}.shifted",
                direction="RIGHT",
            )
            mask = self.constant(f"{name}.mask", np.array((1 << layout.bits) - 1, dtype=np.uint8))
            fields = self.operation("BitwiseAnd", [shifted, mask], f"{name}.fields")
        flat = self.operation("Reshape", [fields, self.constant(f"{name}.flat", np.array([-1]))], f"{name}.row")
        bounds = [self.constant(f"{name}.{k}", np.array([v])) for k, v in (("from", 0), ("to", node.weights.size))]
        cut = self.operation("Slice", [flat, *bounds], f"{name}.used")
        shape = self.constant(f"{name}.shape", np.array([layout.rows, layout.columns]))
        matrix = self.operation("Reshape", [cut, shape], f"{name}.weights")
        zero = self.constant(f"{name}.code_zero", np.array(0, dtype=np.uint8))
        offset = self.constant(f"{name}.weight_zero", np.array(layout.zero_point, dtype=np.uint8))
        return self.operation("MatMulInteger", [source, matrix, zero, offset], f"{name}.accumulators")

    def bias(self, node: Affine, total: Interval, source: str) -> str:
        """Add the offsets in 32 bits; *total* holds every sum."""
        if total.low < -(1 << 31) or total.high >= 1 << 31:
            raise StageError(
                f"onnx-int8: layer {node.name!r} has sums in [{total.low}, {total.high}]; supported: 32 signed bits"
            )
        offsets = self.constant(f"{node.name}.offsets", node.offsets.astype(np.int32))
        return self.operation("Add", [source, offsets], f"{node.name}.sum")

    def multiply_shift(self, node: Threshold, constants: MultiplyShift, source: str) -> str:
        """``clip((a * M + B) >> S)`` in 32 bits: saturated first, then shifted as unsigned, which rounds down."""
        _require_unsigned(node)
        name, shift = node.name, constants.shift
        multiplier = self.constant(f"{name}.multiplier", constants.multiplier.astype(np.int32))
        offset = self.constant(f"{name}.offset", constants.offset.astype(np.int32))
        product = self.operation("Mul", [source, multiplier], f"{name}.product")
        total = self.operation("Add", [product, offset], f"{name}.sum")
        low = self.constant(f"{name}.low", np.array(node.lowest << shift, dtype=np.int32))
        high_value = ((node.lowest + node.levels + 1) << shift) - 1
        high = self.constant(f"{name}.high", np.array(min(high_value, (1 << 31) - 1), dtype=np.int32))
        clipped = self.operation("Clip", [total, low, high], f"{name}.clipped")
        unsigned = self.operation("Cast", [clipped], f"{name}.unsigned", to=TensorProto.UINT32)
        distance = self.constant(f"{name}.shift", np.array(shift, dtype=np.uint32))
        shifted = self.operation("BitShift", [unsigned, distance], f"{name}.shifted", direction="RIGHT")
        return self.operation("Cast", [shifted], f"{name}.codes", to=TensorProto.UINT8)

    def compare(self, node: Threshold, source: str) -> str:
        """Count the thresholds that the accumulator meets: exact by definition, used where no multiply-shift exists."""
        _require_unsigned(node)
        name = node.name
        axis = self.constant(f"{name}.axis", np.array([-1]))
        column = self.operation("Unsqueeze", [source, axis], f"{name}.column")
        thresholds = self.constant(f"{name}.thresholds", node.thresholds.astype(np.int32))
        met = self.operation("GreaterOrEqual", [column, thresholds], f"{name}.met")
        ones = self.operation("Cast", [met], f"{name}.ones", to=TensorProto.INT32)
        count = self.operation("ReduceSum", [ones, axis], f"{name}.count", keepdims=0)
        lowest = self.constant(f"{name}.lowest", np.array(node.lowest, dtype=np.int32))
        code = self.operation("Add", [count, lowest], f"{name}.code")
        return self.operation("Cast", [code], f"{name}.codes", to=TensorProto.UINT8)


def _require_unsigned(node: Threshold) -> None:
    if node.lowest < 0 or node.lowest + node.levels > 255:
        raise StageError(
            f"onnx-int8: layer {node.name!r} has codes {node.lowest}..{node.lowest + node.levels}; supported: 0..255"
        )
