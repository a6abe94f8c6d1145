"""Our modules as layers of FINN's graph: shapes, types, cycles and execution follow from a module's description.

Numbers are attributes of the node, as 64-bit integers, so that no transformation of FINN changes them; the types of the
streams are the tensors', which FINN narrows. Runs in the child process only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np
from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from numpy.typing import NDArray
from onnx import GraphProto
from qonnx.core.datatype import BaseDataType, DataType
from qonnx.core.modelwrapper import ModelWrapper

from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.joint_schedules import AnySchedule
from bitproof.hw.rtl.modules import Module
from bitproof.hw.rtl.schedules import Regular
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes

DOMAIN = "bitproof.hardware"
"""Of the operations that are ours; QONNX asks its registry for them."""


def qonnx_name(kind: IntegerType) -> str:
    """Return the name that QONNX gives to *kind*."""
    return f"{'INT' if kind.signed else 'UINT'}{kind.bits}"


def integer_type(datatype: BaseDataType) -> IntegerType:
    """Return the type of the elements that QONNX calls *datatype*."""
    return IntegerType(int(datatype.bitwidth()), bool(datatype.signed()))


class OwnLayer(HWCustomOp):  # type: ignore[misc]  # finn ships no types
    """A layer whose RTL is a module of ours."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Those of a subclass, as QONNX declares them."""

    @abstractmethod
    def module(self) -> Module:
        """Return the module with the node's parameters, lanes and types."""

    @property
    @abstractmethod
    def divisible(self) -> int:
        """What PE divides."""

    @property
    def lanes(self) -> tuple[int, ...]:
        """What PE can be, ascending."""
        return tuple(lanes for lanes in range(1, self.divisible + 1) if self.divisible % lanes == 0)

    @property
    def taps(self) -> int:
        """Of a window, which arrive one after the other for each group of lanes."""
        return 1

    @property
    def repeats(self) -> int:
        """How many samples of the module one sample of the network is."""
        return 1

    def schedule(self) -> AnySchedule:
        """Return when the module takes and gives words."""
        return Regular(self._words("inputs"), self._words("outputs"))

    @property
    def latency_cycles(self) -> int:
        """Cycles that a word is in the module, beyond the one that its schedule counts."""
        return 3

    def bench_parameters(self) -> dict[str, int]:
        """Return what the benches need to know of the module."""
        return {}

    def get_nodeattr_types(self) -> dict[str, tuple[Any, ...]]:
        """Return the attributes that a node may have: *Types* of the input streams, *Pixels* of both sides."""
        common = {
            "PE": ("i", False, 1),
            "Types": ("strings", True, []),
            "Pixels": ("ints", False, []),
            "OutPixels": ("ints", False, []),
        }
        return {**super().get_nodeattr_types(), **common, **self.attributes}

    def kind(self, index: int = 0) -> IntegerType:
        """Return the type of the elements of an input stream."""
        return integer_type(self.get_input_datatype(index))

    def number(self, name: str) -> int:
        """Return an integer attribute."""
        return int(self.get_nodeattr(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an attribute of several integers."""
        return tuple(map(int, self.get_nodeattr(name)))

    def integers(self, name: str) -> Codes:
        """Return an attribute that is an array."""
        return np.array(self.get_nodeattr(name), dtype=np.int64)

    def get_input_datatype(self, ind: int = 0) -> BaseDataType:
        """Return QONNX's type of an input stream."""
        return DataType[self.get_nodeattr("Types")[ind]]

    def get_output_datatype(self, ind: int = 0) -> BaseDataType:
        """Return QONNX's type of an output stream."""
        layout = self.module().outputs[ind]
        return DataType[qonnx_name(IntegerType(layout.bits, layout.signed))]

    def get_normal_input_shape(self, ind: int = 0) -> tuple[int, ...]:
        """Return (1, *pixels, channels)."""
        return self._shape(self.module().inputs[ind], self.numbers("Pixels"))

    def get_normal_output_shape(self, ind: int = 0) -> tuple[int, ...]:
        """Return (1, *pixels, channels)."""
        return self._shape(self.module().outputs[ind], self.numbers("OutPixels") or self.numbers("Pixels"))

    def get_folded_input_shape(self, ind: int = 0) -> tuple[int, ...]:
        """Return the normal shape with its last axis by words."""
        return _folded(self.get_normal_input_shape(ind), self.module().inputs[ind])

    def get_folded_output_shape(self, ind: int = 0) -> tuple[int, ...]:
        """Return the normal shape with its last axis by words."""
        return _folded(self.get_normal_output_shape(ind), self.module().outputs[ind])

    def get_instream_width(self, ind: int = 0) -> int:
        """Return the width of a word in bits, without padding."""
        layout = self.module().inputs[ind]
        return layout.bits * layout.elements

    def get_outstream_width(self, ind: int = 0) -> int:
        """Return the width of a word in bits, without padding."""
        layout = self.module().outputs[ind]
        return layout.bits * layout.elements

    def get_exp_cycles(self) -> int:
        """Return the cycles from sample to sample."""
        return self.repeats * self.module().cycles

    def infer_node_datatype(self, model: ModelWrapper) -> None:
        """Take over the types of the inputs and set those of the outputs."""
        names = [model.get_tensor_datatype(tensor).name for tensor in self.onnx_node.input]
        self.set_nodeattr("Types", names)
        for index, tensor in enumerate(self.onnx_node.output):
            model.set_tensor_datatype(tensor, self.get_output_datatype(index))

    def execute_node(self, context: dict[str, NDArray[np.float32]], graph: GraphProto) -> None:  # noqa: ARG002
        """Write what the module's reference makes of the inputs into *context*."""
        module, taken = self.module(), list(self.onnx_node.input)
        samples = len(context[taken[0]])
        words = [
            context[tensor].astype(np.int64).reshape(-1, layout.elements)
            for tensor, layout in zip(taken, module.inputs, strict=True)
        ]
        for index, (tensor, codes) in enumerate(zip(self.onnx_node.output, module.apply(*words), strict=True)):
            context[tensor] = codes.astype(np.float32).reshape(samples, *self.get_normal_output_shape(index)[1:])

    def lut_estimation(self, fpgapart: str) -> int:  # noqa: ARG002
        """Return a LUT and a half for each bit of a word on either side, and some for the control."""
        module = self.module()
        return 16 + 3 * sum(stream.width_bits for stream in (*module.inputs, *module.outputs)) // 2

    def _words(self, side: str) -> int:
        return self.repeats * int(getattr(self.module(), side)[0].words)

    def _shape(self, layout: StreamLayout, pixels: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *pixels, self.repeats * layout.channels // prod(pixels))


def _folded(shape: tuple[int, ...], layout: StreamLayout) -> tuple[int, ...]:
    return (*shape[:-1], shape[-1] // layout.elements, layout.elements)
