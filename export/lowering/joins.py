"""Nodes that join branches: the sum of two computed values, and Concat."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import onnx

from bitproof.export.integer import Add, Chain, Concat
from bitproof.export.integer.surd import Surd
from bitproof.export.lowering.codes import clamped_codes, in_order, shift
from bitproof.export.lowering.graph import Lowering, UnsupportedError, attributes, axis_of
from bitproof.export.lowering.known import Known, Tensor, unit_of


def add_tensors(lowering: Lowering, first: Tensor, second: Tensor) -> Tensor:
    """Append the exact sum: codes of different scales are multiplied up to the largest common measure of the two.

    Raises:
        UnsupportedError: a branch is not linear in its codes, or the scales have no common measure of small ratios.
    """
    if lowering.shape(first) != lowering.shape(second):
        shapes = lowering.shape(first), lowering.shape(second)
        raise UnsupportedError(f"adds samples of shapes {shapes[0]} and {shapes[1]}; they must be equal")
    if first.axes != second.axes:
        first, second = in_order(lowering, first), in_order(lowering, second)
    branches = [_linear(lowering, tensor) for tensor in (first, second)]
    pairs = list(zip(*(linear for _, linear in branches), strict=True))
    units = [unit_of([one[0], two[0]]) for one, two in pairs]
    names = []
    for tensor, linear in branches:
        factors = [slope / unit for (slope, _), unit in zip(linear, units, strict=True)]
        names.append(shift(lowering, tensor.node, factors, [Fraction(0)] * len(factors)))
    made = Add(lowering.builder.name(Add))
    lowering.builder.emit(made, *names)
    sums = [(unit, one[1], two[1]) for unit, (one, two) in zip(units, pairs, strict=True)]
    shared = {constants: _chain(*constants) for constants in set(sums)}
    lowering.builder.effort.elementwise(shared.values())
    return Tensor(made.name, first.axes, tuple(shared[constants] for constants in sums), private=False)


def _chain(unit: Fraction, *offsets: Fraction) -> Chain:
    """Return the chain of a sum; one off the grid of *unit* makes floats round, even if the sum is on it."""
    chain = Chain.of(unit, sum(offsets))
    off_grid = [offset for offset in offsets if (offset / unit).denominator != 1]
    if not off_grid or chain.floats is None:
        return chain
    constants = Surd.of(sum((abs(offset) for offset in offsets), Fraction(0)))
    return replace(chain, floats=replace(chain.floats, bias=off_grid[0], constants=constants))


def _linear(lowering: Lowering, tensor: Tensor) -> tuple[Tensor, list[tuple[Fraction, Fraction]]]:
    linear = tensor.linear()
    if linear is None:
        tensor = clamped_codes(lowering, tensor)
        linear = tensor.linear()
    assert linear is not None, "codes have a scale"
    return tensor, linear


def concat(lowering: Lowering, node: onnx.NodeProto) -> Known:
    """Lower Concat of computed values along one axis of the samples."""
    tensors = [lowering.tensor(node, index) for index in range(len(node.input))]
    if len(tensors) == 1:
        return tensors[0]
    rank = len(tensors[0].axes) + 1
    axis = axis_of(attributes(node)["axis"], rank)
    if axis == 0 or any(len(tensor.axes) != rank - 1 for tensor in tensors):
        raise UnsupportedError(f"axis = {attributes(node)['axis']} of samples with {rank} axes; the batch must stay")
    if any(t.axes != tensors[0].axes for t in tensors) or tensors[0].axes[axis - 1] != 0:
        tensors = [in_order(lowering, tensor) for tensor in tensors]
    if tensors[0].axes[axis - 1] != 0:
        raise UnsupportedError(f"axis = {axis}; supported: the channels")
    made = Concat(lowering.builder.name(Concat))
    lowering.builder.emit(made, *(tensor.node for tensor in tensors))
    chains = tuple(chain for tensor in tensors for chain in tensor.chains)
    return replace(tensors[0], node=made.name, chains=chains, private=False)
