"""The form in which a node takes a tensor: axes in order, plain codes, channels that all rise."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from bitproof.export.integer import Affine, Chain, IntegerType, Quantizer, Rounding, Transpose
from bitproof.export.lowering.activation import quantize
from bitproof.export.lowering.graph import Lowering, UnsupportedError
from bitproof.export.lowering.known import Tensor, unit_of

MAX_LEVELS = 255
"""So many thresholds per channel at most stand for a clamp on codes."""


def in_order(lowering: Lowering, tensor: Tensor) -> Tensor:
    """Return *tensor* on an integer value that has its axes in the graph's order.

    Raises:
        UnsupportedError: its channels, which differ, would not come first.
    """
    if tensor.in_order:
        return tensor
    builder = lowering.builder
    if tensor.axes[0] != 0 and not tensor.uniform:
        raise UnsupportedError("its channels have different scales and are not on the second axis; give them one scale")
    node = Transpose(builder.name(Transpose), builder.shapes[tensor.node], tensor.axes)
    builder.emit(node, tensor.node)
    chains = tensor.chains if tensor.axes[0] == 0 else tensor.chains[:1] * builder.shapes[node.name][0]
    return Tensor(node.name, tuple(range(len(tensor.axes))), chains, private=False)


def codes_of(lowering: Lowering, tensor: Tensor) -> tuple[Tensor, list[Fraction]]:
    """Return *tensor* on codes that stand for ``scale * code``, and the scale of each channel.

    A real offset that the codes can express is added by a node of its own.

    Raises:
        UnsupportedError: the real numbers are no such codes; a Quant node must come first.
    """
    linear = tensor.linear()
    if linear is None:
        tensor = clamped_codes(lowering, tensor)
        linear = tensor.linear()
        assert linear is not None, "codes have a scale"
    if not any(offset for _, offset in linear):
        return tensor, [scale for scale, _ in linear]
    units = [unit_of(list(pair)) for pair in linear]
    factors = [scale / unit for (scale, _), unit in zip(linear, units, strict=True)]
    offsets = [offset / unit for (_, offset), unit in zip(linear, units, strict=True)]
    try:
        name = shift(lowering, tensor.node, factors, offsets)
    except UnsupportedError as error:
        said = off_grid(tensor)
        raise error if said is None else UnsupportedError(said) from error
    chains = {unit: Chain.of(unit) for unit in units}
    return replace(tensor, node=name, chains=tuple(chains[unit] for unit in units), private=False), units


def off_grid(tensor: Tensor, *, pads: bool = False) -> str | None:
    """Return why *tensor* cannot be multiplied, in the network's own numbers; None: no code is off the grid of 0.

    *pads*: zeros are added around it.
    """
    for channel, (scale, offset) in enumerate(tensor.linear() or ()):
        if scale and (offset / scale).denominator != 1:
            added = ", which the padding adds" if pads else ""
            return (
                f"takes {float(scale):.6g} * code {'-' if offset < 0 else '+'} {float(abs(offset)):.6g} in channel "
                f"{channel}, where no code stands for exactly 0{added}: what is normalized by constants has to be "
                "quantized before it is multiplied (a QuantIdentity in Brevitas, a Quant node in QONNX)"
            )
    return None


def shift(lowering: Lowering, node: str, factors: list[Fraction], offsets: list[Fraction]) -> str:
    """Append the node that maps each channel of *node* by whole *factors* and *offsets*; none if nothing changes.

    Raises:
        UnsupportedError: they are too large.
    """
    if all(factor == 1 for factor in factors) and not any(offsets):
        return node
    if max(abs(number) for number in (*factors, *offsets)) >= 1 << 62:
        raise UnsupportedError(
            "its scales and offsets have no common measure that small integers can express; quantize its inputs to one "
            "scale, or to scales that are powers of two"
        )
    return lowering.builder.emit(affine(lowering.builder.name(Affine), factors, offsets), node)


def affine(name: str, factors: list[Fraction], offsets: list[Fraction]) -> Affine:
    """Return the node of whole *factors* and *offsets*, one per channel."""
    arrays = (np.array([int(number) for number in numbers], dtype=np.int64) for numbers in (factors, offsets))
    return Affine(name, *arrays)


def clamped_codes(lowering: Lowering, tensor: Tensor) -> Tensor:
    """Return *tensor*, whose chains are clamped (a ReLU on codes), as plain codes.

    Raises:
        UnsupportedError: it is no function from codes to codes, or takes too many values to be one.
    """
    refusal = UnsupportedError(
        "takes real numbers that no Quant node has turned into codes (behind a batch norm, ReLU or clip); put a Quant "
        "node before it"
    )
    if any(chain.curve is not None for chain in tensor.chains):
        raise UnsupportedError(
            "takes real numbers behind a curve such as LeakyRelu or Tanh that no Quant node has turned into codes; put "
            "a Quant node before it"
        )
    units, ends = [], []
    for chain, interval in zip(tensor.chains, lowering.builder.ranges[tensor.node], strict=True):
        constants = [part for part in (chain.slope, chain.intercept, chain.low, chain.high) if part is not None]
        if not all(part.is_rational for part in constants):
            raise refusal
        unit = unit_of([part.fraction() for part in constants])
        units.append(unit)
        ends += [int(chain.value(code).fraction() / unit) for code in (interval.low, interval.high)]
    lowest, highest = min(ends), max(ends)
    if highest - lowest > MAX_LEVELS:
        raise refusal
    highest = max(highest, lowest + 1)
    grids = [Quantizer(unit, 0, lowest, highest, Rounding.FLOOR) for unit in units]
    return quantize(lowering, "", tensor, IntegerType.smallest_for(lowest, highest), grids, units)
