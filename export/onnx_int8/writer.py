"""Write the ONNX file: MatMulInteger on unpacked fields, then multiply-shift or comparison with the thresholds.

Weights stay unsigned with a zero point: MatMulInteger on uint8 x uint8 is exact on every x86 kernel of onnxruntime,
while uint8 x int8 saturates in 16 bits on processors without VNNI. Only standard operators are used (opset 18 and up).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.integer import (
    INPUT,
    Affine,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    MultiplyShift,
    Ranges,
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
MAX_STORED = 255
"""Codes are stored in uint8."""


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


def build(model: IntegerModel) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Return the ONNX form of *model* and, for every activation, where it begins and ends and how it is computed.

    The graph takes codes ``codes``, shape (N, inputs), uint8 or, where they may be negative, int8. It gives int32
    ``accumulators``, or codes of such a type where the model ends with an activation, shape (N, outputs).

    Raises:
        StageError: a layer has no form in this target; the message names it and what is supported.
    """
    require_operations(model, "onnx-int8", (MatMul, Threshold, Affine), steps=True)
    allowed = model.allowed_codes
    kind = code_type(allowed[0], allowed[-1])
    if kind is None:
        raise StageError(f"onnx-int8: input codes are {allowed[0]}..{allowed[-1]}; supported: 0..255 and -128..127")
    writer = _Writer()
    ranges = propagate(model)
    value: Stored | str = writer.store("codes", min(allowed[0], 0))
    before, layers = INPUT, []
    for node in model.nodes:
        if isinstance(node, MatMul):
            value = writer.matrix_product(node, _codes(value, node))
        elif isinstance(node, Affine):
            moved = isinstance(value, Stored)
            value = _moved(value, node) if moved else writer.bias(node, hull(ranges[node.name]), _sums(value, node))
        elif isinstance(node, Threshold):
            source = _sums(value, node)
            value, method = writer.activation(node, ranges[before], source)
            layers.append(
                {
                    "layer": node.name,
                    "source": source,
                    "target": value.tensor,
                    "zero_point": value.zero_point,
                    "method": method,
                }
            )
        before = node.name
    tensor, last_type = writer.load(value) if isinstance(value, Stored) else (value, TensorProto.INT32)
    graph = helper.make_graph(
        writer.nodes,
        "bitproof",
        [helper.make_tensor_value_info("codes", kind, ["N", model.inputs])],
        [helper.make_tensor_value_info(tensor, last_type, ["N", model.outputs])],
        writer.constants,
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bitproof"
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto, layers


def code_type(lowest: int, highest: int) -> int | None:
    """Return the ``TensorProto`` type of codes *lowest* to *highest*: uint8, int8 if any is negative, None if wider."""
    if lowest >= 0:
        return int(TensorProto.UINT8) if highest <= MAX_STORED else None
    return int(TensorProto.INT8) if lowest >= -128 and highest <= 127 else None


@dataclass(frozen=True, slots=True)
class Stored:
    """Codes as uint8: the tensor holds ``code + zero_point``."""

    tensor: str
    zero_point: int


def _codes(value: Stored | str, node: MatMul) -> Stored:
    if isinstance(value, Stored):
        return value
    raise StageError(f"onnx-int8: layer {node.name!r} multiplies 32-bit accumulators; put an activation before it")


def _sums(value: Stored | str, node: Threshold | Affine) -> str:
    if isinstance(value, str):
        return value
    raise StageError(f"onnx-int8: layer {node.name!r} takes codes; supported: accumulators of a matrix product")


def _moved(stored: Stored | str, node: Affine) -> Stored:
    """Return codes with one offset for all, which is a matter of their zero point alone."""
    assert isinstance(stored, Stored), "codes are moved, accumulators are added to"
    offsets = set(node.offsets.tolist())
    zero_point = stored.zero_point - min(offsets)
    if len(offsets) > 1 or not 0 <= zero_point <= MAX_STORED:
        raise StageError(
            f"onnx-int8: layer {node.name!r} adds {min(offsets)}..{max(offsets)} to codes; supported: one for all "
            f"channels, from {stored.zero_point - MAX_STORED} to {stored.zero_point}"
        )
    return Stored(stored.tensor, zero_point)


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

    def store(self, tensor: str, lowest: int) -> Stored:
        """Bring codes, uint8, or int8 from *lowest* < 0 on, to their stored form."""
        if not lowest:
            return Stored(tensor, 0)
        wide = self.operation("Cast", [tensor], f"{tensor}.wide", to=TensorProto.INT32)
        offset = self.constant(f"{tensor}.zero_point", np.array(-lowest, dtype=np.int32))
        moved = self.operation("Add", [wide, offset], f"{tensor}.moved")
        return Stored(self.operation("Cast", [moved], f"{tensor}.stored", to=TensorProto.UINT8), -lowest)

    def load(self, stored: Stored) -> tuple[str, int]:
        """Bring stored codes back to themselves, uint8 or int8; return tensor and type."""
        if not stored.zero_point:
            return stored.tensor, TensorProto.UINT8
        wide = self.operation("Cast", [stored.tensor], f"{stored.tensor}.wide", to=TensorProto.INT32)
        offset = self.constant(f"{stored.tensor}.zero_point", np.array(stored.zero_point, dtype=np.int32))
        moved = self.operation("Sub", [wide, offset], f"{stored.tensor}.moved")
        return self.operation("Cast", [moved], f"{stored.tensor}.signed", to=TensorProto.INT8), TensorProto.INT8

    def activation(self, node: Threshold, reachable: Ranges, source: str) -> tuple[Stored, str]:
        """Requantize by multiply-shift where it is exact, else by comparison; negative codes are stored from 0."""
        zero_point = max(-node.lowest, 0)
        if code_type(node.lowest, node.highest) is None:
            raise StageError(
                f"onnx-int8: layer {node.name!r} has codes {node.lowest}..{node.highest}; supported: 0..255 and "
                "-128..127"
            )
        levels, lowest = node.levels, node.lowest + zero_point
        kind = IntegerType.smallest_for(lowest, lowest + levels)
        counting = replace(node, lowest=lowest, step=1, output=kind)
        constants = solve_multiply_shift(counting, reachable, word_bits=WORD_BITS) if node.step == 1 else None
        if constants is not None:
            tensor = self.multiply_shift(counting, constants, source)
            return Stored(tensor, zero_point), f"multiply-shift by {constants.shift}"
        return Stored(self.compare(counting, node.step, source), zero_point), "comparison with every threshold"

    def matrix_product(self, node: MatMul, source: Stored) -> str:
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
        zero = self.constant(f"{name}.code_zero", np.array(source.zero_point, dtype=np.uint8))
        offset = self.constant(f"{name}.weight_zero", np.array(layout.zero_point, dtype=np.uint8))
        return self.operation("MatMulInteger", [source.tensor, matrix, zero, offset], f"{name}.accumulators")

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

    def compare(self, node: Threshold, step: int, source: str) -> str:
        """Count the thresholds that the accumulator meets: exact by definition, used where no multiply-shift exists."""
        name = node.name
        axis = self.constant(f"{name}.axis", np.array([-1]))
        column = self.operation("Unsqueeze", [source, axis], f"{name}.column")
        thresholds = self.constant(f"{name}.thresholds", node.thresholds.astype(np.int32))
        met = self.operation("GreaterOrEqual", [column, thresholds], f"{name}.met")
        ones = self.operation("Cast", [met], f"{name}.ones", to=TensorProto.INT32)
        count = self.operation("ReduceSum", [ones, axis], f"{name}.count", keepdims=0)
        if step != 1:
            factor = self.constant(f"{name}.step", np.array(step, dtype=np.int32))
            count = self.operation("Mul", [count, factor], f"{name}.steps")
        lowest = self.constant(f"{name}.lowest", np.array(node.lowest, dtype=np.int32))
        code = self.operation("Add", [count, lowest], f"{name}.code")
        return self.operation("Cast", [code], f"{name}.codes", to=TensorProto.UINT8)
