"""An ONNX graph under construction, and the two forms that integers take in it: stored codes and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitproof.export.integer import EXACT_FLOAT32, EXACT_FLOAT64, Interval, Shape
from bitproof.pipeline import StageError

MAX_STORED = 255
CONTRIB = "com.microsoft"
CONTRIB_OPERATIONS = ("QGemm", "QLinearAdd")
"""Operators of onnxruntime's own domain."""
INT8 = Interval(-128, 127)
INT32 = Interval(-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True)
class Stored:
    """Codes in uint8: the tensor holds ``code + zero_point``, where *zero_point* may be any integer."""

    tensor: str
    zero_point: int

    @property
    def is_operand(self) -> bool:
        """The integer products of ONNX take it: their zero points are uint8, too."""
        return 0 <= self.zero_point <= MAX_STORED


@dataclass(frozen=True, slots=True)
class PlainIntegers:
    """Integers as they are, in int32, or in int64 if they are *wide*."""

    tensor: str
    wide: bool = False

    @property
    def type(self) -> int:
        """The ``TensorProto`` type."""
        return int(TensorProto.INT64 if self.wide else TensorProto.INT32)


Value = Stored | PlainIntegers


def zero_point_of(lowest: int, highest: int) -> int:
    """Return what is added to codes *lowest* to *highest* in uint8: nothing if they fit as they are.

    Raises:
        StageError: they are more than 256 codes.
    """
    if highest - lowest > MAX_STORED:
        raise StageError(f"onnx-int8: codes {lowest}..{highest} are more than 8 bits hold")
    return 0 if lowest >= 0 and highest <= MAX_STORED else -lowest


class GraphWriter:
    """Collects nodes and constants; every tensor is named after its layer.

    Attributes:
        native_weights: weights of 2 and 4 bits may be stored in the types that ONNX has for them.
    """

    def __init__(self, *, native_weights: bool = False) -> None:
        self.native_weights = native_weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        if name not in self._names:
            self._names.add(name)
            self.constants.append(numpy_helper.from_array(value, name))
        return name

    def native(self, name: str, kind: int, dims: Sequence[int], packed: NDArray[np.uint8]) -> str:
        """Add a constant of the ``TensorProto`` type *kind*, whose elements lie in the bytes *packed*."""
        if name not in self._names:
            self._names.add(name)
            tensor = onnx.TensorProto(name=name, data_type=kind, dims=dims, raw_data=packed.tobytes())
            self.constants.append(tensor)
        return name

    def operation(self, op: str, inputs: list[str], output: str, **attributes: int | str | float | list[int]) -> str:
        """Add a node that makes the tensor *output*, and return that name."""
        if output not in self._names:
            self._names.add(output)
            domain = CONTRIB if op in CONTRIB_OPERATIONS else ""
            self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
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

    def sums(self, value: Value, *, wide: bool = False) -> PlainIntegers:
        """Bring *value* to integers of 32 bits, or of 64 if it is *wide* or they are asked for."""
        if isinstance(value, Stored):
            name = f"{value.tensor}.wide{value.zero_point}".replace("-", "m")
            value = self._moved(
                PlainIntegers(self.cast(value.tensor, TensorProto.INT32, name)), -value.zero_point, name
            )
        if wide and not value.wide:
            return PlainIntegers(self.cast(value.tensor, TensorProto.INT64, f"{value.tensor}.long"), wide=True)
        return value

    def _moved(self, value: PlainIntegers, offset: int, name: str) -> PlainIntegers:
        """Add *offset* to sums."""
        if not offset:
            return value
        constant = self.integer(offset, wide=value.wide)
        return PlainIntegers(self.operation("Add", [value.tensor, constant], f"{name}.centred"), value.wide)

    def integer(self, value: int, *, wide: bool = False) -> str:
        """Add the constant *value*, int32 or int64, and return its name."""
        name = f"integer{value}{'_long' if wide else ''}".replace("-", "m")
        return self.constant(name, np.array(value, dtype=np.int64 if wide else np.int32))

    def digits(self, value: Value, reachable: Interval, name: str) -> list[Stored]:
        """Return codes whose sum, the one at place k times 256^k, is *value*, which lies in *reachable*.

        One, if the products of ONNX take *value* as it is. Code 0 of each stands for 0, so that padding may be added to
        each alone.
        """
        if isinstance(value, Stored) and value.is_operand:
            return [value]
        zero_point = max(-reachable.low, 0)
        largest = max(reachable.high + zero_point, zero_point)
        wide = largest > INT32.high
        moved = self._moved(self.sums(value, wide=wide), zero_point, f"{name}.moved")
        if largest <= MAX_STORED:
            return [Stored(self.cast(moved.tensor, TensorProto.UINT8, f"{name}.stored"), zero_point)]
        word = np.uint64 if moved.wide else np.uint32
        kind = TensorProto.UINT64 if moved.wide else TensorProto.UINT32
        unsigned = self.cast(moved.tensor, int(kind), f"{name}.unsigned")
        mask = self.constant(f"{name}.byte", np.array(MAX_STORED, dtype=word))
        found = []
        for place in range(-(-largest.bit_length() // 8)):
            at = f"{name}.digit{place}"
            distance = self.constant(f"{at}.distance", np.array(8 * place, dtype=word))
            shifted = self.operation("BitShift", [unsigned, distance], f"{at}.shifted", direction="RIGHT")
            lowest = self.operation("BitwiseAnd", [shifted, mask], f"{at}.lowest")
            stored = self.cast(lowest, TensorProto.UINT8, f"{at}.stored")
            found.append(Stored(stored, zero_point >> 8 * place & MAX_STORED))
        return found

    def outside(self, value: Value, reachable: Interval, name: str) -> tuple[str, int]:
        """Bring *value* to what the network gives: uint8, int8 or wider integers; return tensor and type."""
        if isinstance(value, Stored) and not value.zero_point:
            return value.tensor, TensorProto.UINT8
        sums = self.sums(value)
        if isinstance(value, Stored) and reachable.low in INT8 and reachable.high in INT8:
            return self.cast(sums.tensor, TensorProto.INT8, f"{name}.signed"), TensorProto.INT8
        return sums.tensor, sums.type

    def exact_float(self, sums: PlainIntegers, reachable: Interval, name: str) -> tuple[str, int]:
        """Bring *sums* to floats that hold them exactly, for an operation without an integer form; tensor and type.

        Raises:
            StageError: binary64 does not hold them.
        """
        if reachable.magnitude > EXACT_FLOAT64:
            raise StageError(
                f"onnx-int8: layer {name!r} compares integers in [{reachable.low}, {reachable.high}], which "
                "onnxruntime does in floats only; supported: 53 bits"
            )
        kind = TensorProto.FLOAT if reachable.magnitude <= EXACT_FLOAT32 else TensorProto.DOUBLE
        return self.cast(sums.tensor, kind, f"{name}.float"), int(kind)


def is_wide(reachable: Interval) -> bool:
    """Tell whether integers in *reachable* need more than 32 bits."""
    return reachable.low not in INT32 or reachable.high not in INT32


def column(values: NDArray[np.int64], shape: Shape, *, wide: bool = False) -> NDArray[np.int32] | NDArray[np.int64]:
    """Return one value per channel as an int32 or int64 array that broadcasts to (N, *shape)."""
    sizes = (-1, *(1,) * (len(shape) - 1))
    return values.reshape(sizes) if wide else values.astype(np.int32).reshape(sizes)
