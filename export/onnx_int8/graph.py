"""An ONNX graph under construction, and the two forms that integers take in it: stored codes and 32-bit sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.integer import EXACT_FLOAT32, Interval, Shape
from pipeline import StageError

MAX_STORED = 255
INT32 = Interval(-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """Codes in uint8: the tensor holds ``code + zero_point``."""

    tensor: str
    zero_point: int


@dataclass(frozen=True, slots=True)
class Sums:
    """Integers in int32, as they are."""

    tensor: str


Value = Stored | Sums


def code_type(lowest: int, highest: int) -> int | None:
    """Return the ``TensorProto`` type of codes *lowest* to *highest*: uint8, int8 if any is negative, None if wider."""
    if lowest >= 0:
        return int(TensorProto.UINT8) if highest <= MAX_STORED else None
    return int(TensorProto.INT8) if lowest >= -128 and highest <= 127 else None


class Graph:
    """Collects nodes and constants; every tensor is named after its layer."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        if name not in self._names:
            self._names.add(name)
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def operation(self, op: str, inputs: list[str], output: str, **attributes: int | str | list[int]) -> str:
        """Add a node that makes the tensor *output*, and return that name."""
        if output not in self._names:
            self._names.add(output)
            self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def is_made_by(self, op: str, tensor: str) -> bool:
        """Tell whether a node of type *op* makes *tensor*."""
        return any(node.op_type == op and tensor in node.output for node in self.nodes)

    def pair(self, op: str, inputs: list[str], first: str, second: str, **attributes: int) -> None:
        """Add a node that makes two tensors."""
        self._names |= {first, second}
        self.nodes.append(helper.make_node(op, inputs, [first, second], name=first, **attributes))

    def cast(self, tensor: str, kind: int, name: str) -> str:
        """Add a cast to the ``TensorProto`` type *kind*."""
        return self.operation("Cast", [tensor], name, to=kind)

    def sums(self, value: Value) -> Sums:
        """Bring *value* to 32-bit integers."""
        if isinstance(value, Sums):
            return value
        wide = self.cast(value.tensor, TensorProto.INT32, f"{value.tensor}.wide{value.zero_point}")
        if not value.zero_point:
            return Sums(wide)
        offset = self.constant(f"zero_point{value.zero_point}", np.array(value.zero_point, dtype=np.int32))
        return Sums(self.operation("Sub", [wide, offset], f"{wide}.centred"))

    def stored(self, value: Value, reachable: Interval, name: str) -> Stored:
        """Bring *value*, which lies in *reachable*, to uint8.

        Raises:
            StageError: it needs more than 8 bits.
        """
        if isinstance(value, Stored):
            return value
        zero_point = max(-reachable.low, 0)
        if reachable.high + zero_point > MAX_STORED:
            raise StageError(
                f"onnx-int8: layer {name!r} multiplies integers in [{reachable.low}, {reachable.high}]; supported: "
                "codes that fit 8 bits: put an activation before it"
            )
        tensor = value.tensor
        if zero_point:
            offset = self.constant(f"zero_point{zero_point}", np.array(zero_point, dtype=np.int32))
            tensor = self.operation("Add", [tensor, offset], f"{name}.moved")
        return Stored(self.cast(tensor, TensorProto.UINT8, f"{name}.stored"), zero_point)

    def read_input(self, tensor: str, lowest: int) -> Stored:
        """Bring the network's input codes, uint8, or int8 from *lowest* < 0 on, to their stored form."""
        if lowest >= 0:
            return Stored(tensor, 0)
        wide = self.cast(tensor, TensorProto.INT32, f"{tensor}.wide")
        return self.stored(Sums(wide), Interval(lowest, MAX_STORED + lowest), tensor)

    def outside(self, value: Value, name: str) -> tuple[str, int]:
        """Bring *value* to what the network gives: codes as uint8 or int8, or int32; return tensor and type."""
        if isinstance(value, Sums):
            return value.tensor, TensorProto.INT32
        if not value.zero_point:
            return value.tensor, TensorProto.UINT8
        return self.cast(self.sums(value).tensor, TensorProto.INT8, f"{name}.signed"), TensorProto.INT8

    def exact_float(self, sums: Sums, reachable: Interval, name: str) -> tuple[str, int]:
        """Bring *sums* to floats that hold them exactly, for an operation without an integer form; tensor and type."""
        kind = TensorProto.FLOAT if reachable.magnitude <= EXACT_FLOAT32 else TensorProto.DOUBLE
        return self.cast(sums.tensor, kind, f"{name}.float"), int(kind)


def require_32_bits(reachable: Interval, name: str) -> None:
    """Refuse a layer whose integers may leave 32 bits.

    Raises:
        StageError: with the layer and its range.
    """
    if reachable.low not in INT32 or reachable.high not in INT32:
        raise StageError(
            f"onnx-int8: layer {name!r} has sums in [{reachable.low}, {reachable.high}]; supported: 32 signed bits"
        )


def column(values: NDArray[np.int64], shape: Shape) -> NDArray[np.int32]:
    """Return one value a channel as an int32 array that broadcasts to (N, *shape)."""
    return values.astype(np.int32).reshape(-1, *(1,) * (len(shape) - 1))
