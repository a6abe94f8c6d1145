"""The lowering stage: QONNX in, the integer model and its proofs out.

The graph is walked once. Each tensor is known by what it means: a quantized weight, a tensor of codes, or the
real-valued chain (scale, bias, batch norm, ReLU) that waits for the Quant node which turns it into codes again. That
Quant node becomes integer thresholds per channel. A channel with a negative slope is negated, weights and thresholds,
so that its code rises with its accumulator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.integer import (
    KIND,
    Activation,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    Node,
    Threshold,
    save,
    threshold_of,
)
from export.proof import prove_thresholds, prove_widths
from export.qonnx import FILE, load_qonnx
from pipeline import Artifact, Codes, InputError, Stage, StageContext
from pipeline.ledger import ProofEntry

PROOFS = "proofs.json"
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class LowerToInteger(Stage):
    """Lower a QONNX file to the integer model."""

    name: ClassVar[str] = "integer"
    consumes: ClassVar[str | None] = "qonnx"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("numpy", "onnx")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write the integer model and ``proofs.json``."""
        assert source is not None, "lowering consumes a QONNX file"
        model, proofs = lower(source.path / FILE)
        save(model, ctx.workdir)
        text = json.dumps([proof.model_dump(mode="json") for proof in proofs], indent=1, sort_keys=True)
        (ctx.workdir / PROOFS).write_text(text + "\n")
        return {}


def lower(path: Path) -> tuple[IntegerModel, list[ProofEntry]]:
    """Lower the QONNX file at *path*.

    Raises:
        InputError: it holds operations that cannot be lowered exactly; the message names each node.
    """
    return _Lowering(load_qonnx(path).graph, path).run()


@dataclass(frozen=True, slots=True, eq=False)
class _QuantizedWeights:
    codes: Codes
    kind: IntegerType
    scales: tuple[Fraction, ...]  # one, or one an output channel


@dataclass(frozen=True, slots=True)
class _CodedTensor:
    scale: Fraction


@dataclass(frozen=True, slots=True, eq=False)
class _RealChain:
    """Accumulators of the pending matrix product, seen through affine real operations and perhaps a ReLU."""

    weights: _QuantizedWeights
    scales: tuple[Fraction, ...]
    gamma: tuple[Fraction, ...]
    beta: tuple[Fraction, ...]
    mean: tuple[Fraction, ...]
    variance: tuple[Fraction, ...]
    normalized: bool = False
    relu: bool = False


_Meaning = _QuantizedWeights | _CodedTensor | _RealChain


@dataclass(frozen=True, slots=True)
class _QuantAttributes:
    scales: tuple[Fraction, ...]
    kind: IntegerType
    lowest: int


class _Lowering:
    """One walk over one graph."""

    def __init__(self, graph: onnx.GraphProto, path: Path) -> None:
        self.graph = graph
        self.path = path
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.meaning: dict[str, _Meaning] = {}
        self.nodes: list[Node] = []
        self.proofs: list[ProofEntry] = []
        self.input: tuple[str, IntegerType, Fraction, int] | None = None
        self.ranges: tuple[Interval, ...] = ()
        self.operations = {
            "Quant": self._quant,
            "BipolarQuant": self._quantize_bipolar_weights,
            "Gemm": self._matrix_product,
            "MatMul": self._matrix_product,
            "BatchNormalization": self._batch_normalization,
            "Relu": self._relu,
        }

    def run(self) -> tuple[IntegerModel, list[ProofEntry]]:
        inputs = [value.name for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise InputError(
                f"{self.path} has {len(inputs)} inputs and {len(self.graph.output)} outputs; one each is supported"
            )
        unknown = [node for node in self.graph.node if node.op_type not in self.operations]
        if unknown:
            listing = "\n".join(f"  {node.name or node.output[0]}: {node.op_type}" for node in unknown)
            raise InputError(
                f"{self.path} holds operations that cannot be lowered to integers:\n{listing}\n"
                f"Supported: {', '.join(self.operations)}"
            )
        for node in self.graph.node:
            self.meaning[node.output[0]] = self.operations[node.op_type](node)
        output_scale = self._finish(self.graph.output[0].name)
        if self.input is None:
            raise InputError(f"{self.path}: the graph input is not quantized; begin the network with a Quant node")
        _, kind, scale, width = self.input
        model = IntegerModel(self.path.parent.name, kind, scale, (width,), tuple(self.nodes), output_scale)
        return model, [*self.proofs, *prove_widths(model)]

    def _refuse(self, node: onnx.NodeProto, why: str) -> InputError:
        return InputError(f"{self.path}: node {node.name or node.output[0]!r} ({node.op_type}): {why}")

    def _constant(self, node: onnx.NodeProto, index: int) -> FloatArray:
        name = node.input[index]
        if name not in self.constants:
            raise self._refuse(node, f"input {index} ({name!r}) must be a constant")
        return np.asarray(self.constants[name])

    def _fractions(self, node: onnx.NodeProto, index: int) -> tuple[Fraction, ...]:
        values = self._constant(node, index)
        if not np.isfinite(values).all():
            raise self._refuse(node, f"input {index} ({node.input[index]!r}) holds a value that is not finite")
        return tuple(Fraction(float(value)) for value in values.reshape(-1))

    def _quant_attributes(self, node: onnx.NodeProto) -> _QuantAttributes:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        rounding = given.get("rounding_mode", b"ROUND").decode()
        if rounding != "ROUND":
            raise self._refuse(node, f"rounding_mode {rounding!r}; supported: ROUND (half to even)")
        if any(self._fractions(node, 2)):
            raise self._refuse(node, "zero point is not 0; supported: 0")
        (bits,) = self._fractions(node, 3)
        if bits.denominator != 1 or not 1 <= bits <= 32:
            raise self._refuse(node, f"bit width {float(bits)}; supported: whole numbers from 1 to 32")
        kind = IntegerType(int(bits), signed=bool(given["signed"]))
        scales = self._fractions(node, 1)
        if min(scales) <= 0:
            raise self._refuse(node, f"scale {float(min(scales))}; it must be positive")
        return _QuantAttributes(scales, kind, kind.minimum + int(bool(given.get("narrow", 0)) and kind.signed))

    def _quant(self, node: onnx.NodeProto) -> _Meaning:
        quant = self._quant_attributes(node)
        source = node.input[0]
        if source in self.constants:
            return self._quantize_weights(node, quant)
        if len(quant.scales) != 1:
            raise self._refuse(node, f"{len(quant.scales)} scales on an activation; supported: one for all channels")
        if source == self.graph.input[0].name:
            return self._quantize_input(node, quant)
        chain = self.meaning.get(source)
        if not isinstance(chain, _RealChain):
            raise self._refuse(node, "quantizes something that is neither the input nor the result of a matrix product")
        return self._threshold(chain, quant)

    def _quantize_input(self, node: onnx.NodeProto, quant: _QuantAttributes) -> _CodedTensor:
        width = self.graph.input[0].type.tensor_type.shape.dim[-1].dim_value
        if width < 1:
            raise self._refuse(node, "the graph input has no fixed number of channels")
        if quant.lowest != quant.kind.minimum:
            raise self._refuse(node, "a narrow range on the input is not supported; use the full range")
        self.input = (node.input[0], quant.kind, quant.scales[0], width)
        self.ranges = (Interval(quant.kind.minimum, quant.kind.maximum),) * width
        return _CodedTensor(quant.scales[0])

    def _quantize_weights(self, node: onnx.NodeProto, quant: _QuantAttributes) -> _QuantizedWeights:
        values = self._constant(node, 0)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise self._refuse(node, f"weights of shape {values.shape}; supported: a finite matrix")
        if len(quant.scales) not in (1, len(values)):
            raise self._refuse(node, f"{len(quant.scales)} weight scales for {len(values)} output channels")
        codes = np.empty(values.shape, dtype=np.int64)
        for channel, row in enumerate(values.tolist()):
            scale = quant.scales[channel % len(quant.scales)]
            # Python rounds a Fraction half to even, exactly; saturation is the Quant node's.
            codes[channel] = [
                min(max(round(Fraction(value) / scale), quant.lowest), quant.kind.maximum) for value in row
            ]
        return _QuantizedWeights(codes, quant.kind, quant.scales)

    def _quantize_bipolar_weights(self, node: onnx.NodeProto) -> _QuantizedWeights:
        """Read weights of 1 bit: -1 where the value is negative, 1 elsewhere, 0 included."""
        if node.input[0] not in self.constants:
            raise self._refuse(node, "quantizes activations to -1 and 1; supported: weights, which are constants")
        values, scales = self._constant(node, 0), self._fractions(node, 1)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise self._refuse(node, f"weights of shape {values.shape}; supported: a finite matrix")
        if len(scales) not in (1, len(values)) or min(scales) <= 0:
            raise self._refuse(node, f"{len(scales)} scales, least {float(min(scales))}; needs positive ones, 1 or all")
        return _QuantizedWeights(np.where(values < 0, -1, 1), IntegerType.smallest_for(-1, 1), scales)

    def _matrix_product(self, node: onnx.NodeProto) -> _RealChain:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        for name, only in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if given.get(name, only) != only:
                raise self._refuse(node, f"{name} = {given[name]}; supported: {only}")
        source, weights = (self.meaning.get(name) for name in node.input[:2])
        if not isinstance(source, _CodedTensor) or not isinstance(weights, _QuantizedWeights):
            raise self._refuse(node, "must multiply quantized codes by quantized weights")
        if not given.get("transB", 0):
            if len(weights.scales) != 1:
                raise self._refuse(node, "per-channel scales on untransposed weights are not supported; set transB")
            weights = replace(weights, codes=weights.codes.T.copy())
        outputs, inputs = weights.codes.shape
        if inputs != len(self.ranges):
            raise self._refuse(node, f"{inputs} weight columns for {len(self.ranges)} input channels")
        bias = self._fractions(node, 2) if len(node.input) > 2 and node.input[2] else (Fraction(0),)
        if len(bias) not in (1, outputs):
            raise self._refuse(node, f"{len(bias)} biases for {outputs} output channels")
        return _RealChain(
            weights=weights,
            scales=tuple(source.scale * weights.scales[c % len(weights.scales)] for c in range(outputs)),
            gamma=(Fraction(1),) * outputs,
            beta=(Fraction(0),) * outputs,
            mean=tuple(-bias[c % len(bias)] for c in range(outputs)),
            variance=(Fraction(1),) * outputs,
        )

    def _batch_normalization(self, node: onnx.NodeProto) -> _RealChain:
        chain = self.meaning.get(node.input[0])
        if not isinstance(chain, _RealChain) or chain.normalized or chain.relu:
            raise self._refuse(node, "must directly follow a matrix product")
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if given.get("training_mode", 0):
            raise self._refuse(node, "is in training mode; export the network in evaluation mode")
        gamma, beta, mean, variance = (self._fractions(node, index) for index in range(1, 5))
        if {len(gamma), len(beta), len(mean), len(variance)} != {len(chain.gamma)}:
            raise self._refuse(node, f"has {len(gamma)} channels for {len(chain.gamma)}")
        epsilon = Fraction(float(np.float32(given.get("epsilon", 1e-5))))
        if min(variance) + epsilon <= 0:
            raise self._refuse(node, f"variance + epsilon = {float(min(variance) + epsilon)}; it must be positive")
        return replace(
            chain,
            gamma=gamma,
            beta=beta,
            mean=tuple(m + own for m, own in zip(mean, chain.mean, strict=True)),
            variance=tuple(v + epsilon for v in variance),
            normalized=True,
        )

    def _relu(self, node: onnx.NodeProto) -> _RealChain:
        chain = self.meaning.get(node.input[0])
        if not isinstance(chain, _RealChain):
            raise self._refuse(node, "must follow a matrix product, with or without batch normalization")
        return replace(chain, relu=True)

    def _threshold(self, chain: _RealChain, quant: _QuantAttributes) -> _CodedTensor:
        flipped = np.array([gamma < 0 for gamma in chain.gamma], dtype=np.bool_)
        self._append_matmul(chain.weights, flipped)
        lowest = max(quant.lowest, 0) if chain.relu else quant.lowest
        codes = range(lowest + 1, quant.kind.maximum + 1)
        constants = zip(chain.scales, chain.gamma, chain.beta, chain.mean, chain.variance, strict=True)
        activations = [Activation(*fields, quant.scales[0]) for fields in constants]
        rising = [a.negated() if flip else a for a, flip in zip(activations, flipped, strict=True)]
        rows = [
            [threshold_of(activation, code, reachable) for code in codes]
            for activation, reachable in zip(rising, self.ranges, strict=True)
        ]
        node = Threshold(f"act{self._count(Threshold)}", np.array(rows, dtype=np.int64), quant.kind, lowest, flipped)
        self.proofs.append(prove_thresholds(node, rising, self.ranges))
        self.nodes.append(node)
        self.ranges = node.ranges(self.ranges)
        return _CodedTensor(quant.scales[0])

    def _append_matmul(self, weights: _QuantizedWeights, flipped: NDArray[np.bool_]) -> None:
        codes = np.where(flipped[:, None], -weights.codes, weights.codes)
        low, high = int(codes.min()), int(codes.max())
        held = weights.kind.minimum <= low and high <= weights.kind.maximum
        kind = weights.kind if held else IntegerType.smallest_for(low, high)
        node = MatMul(f"fc{self._count(MatMul)}", codes, kind)
        self.nodes.append(node)
        self.ranges = node.ranges(self.ranges)

    def _count(self, kind: type[Node]) -> int:
        return sum(isinstance(node, kind) for node in self.nodes)

    def _finish(self, output: str) -> Fraction:
        """Append what is left at the graph's output and return the real value of one output code."""
        meaning = self.meaning.get(output)
        if isinstance(meaning, _CodedTensor):
            return meaning.scale
        if not isinstance(meaning, _RealChain):
            raise InputError(f"{self.path}: the output {output!r} is not computed from the input")
        if meaning.normalized or meaning.relu or any(meaning.mean):
            raise InputError(
                f"{self.path}: the output {output!r} is a matrix product with a bias, batch norm or ReLU behind it, "
                "which has no integer form; end the network with a plain matrix product or with a Quant node"
            )
        if len(set(meaning.scales)) != 1:
            raise InputError(f"{self.path}: the output {output!r} has a scale per channel; one for all is supported")
        self._append_matmul(meaning.weights, np.zeros(len(meaning.scales), dtype=np.bool_))
        return meaning.scales[0]
