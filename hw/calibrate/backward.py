"""The gradients of the operations of the integer model, sent back to what each took: one function per operation.

All operations but the activations, the maximum and the indices of the largest codes are affine: their gradient is the
transposed linear map, whatever the codes. Numbers are float64; if gradient and weights are integers whose sums stay
below 2^53, the result is exact. What an activation sends back is a choice of the calibrator
(:mod:`bitproof.hw.calibrate.straight_through`), and indices have no gradient, so both are missing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from math import prod

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    Conv,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Product,
    Reshape,
    Shape,
    SumPool,
    Transpose,
)
from bitproof.pipeline import Codes

Reals = NDArray[np.float64]


@singledispatch
def backward(node: Node, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    """Return the gradient by each of *inputs*, of its shape, given that by the output of *node*.

    Args:
        node: the operation.
        inputs: what it took, shape (N, *sample shape) each.
        gradient: by its output, shape (N, *output shape).

    Raises:
        TypeError: the operation sends none back.
    """
    del inputs, gradient
    raise TypeError(f"{node.name!r} ({node.op}) sends no gradient back")


@backward.register
def _(node: MatMul, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del inputs
    return (gradient @ node.weights,)


@backward.register
def _(node: Conv, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    """Add to each tap's place in the padded input what the outputs that saw it send back."""
    window, sizes = node.window, inputs[0].shape[2:]
    weights = node.weights.astype(np.float64).reshape(node.groups, -1, node.weights.shape[1], prod(window.kernel))
    grouped = gradient.reshape(len(gradient), node.groups, weights.shape[1], -1)
    padded = _padded_zeros(inputs[0], window.begin, window.end)
    for tap, (_, met) in enumerate(window.taps(padded, gradient.shape[2:])):
        matrix = weights[:, :, :, tap].transpose(0, 2, 1)
        # As in the forward pass, broadcasting a depthwise product is faster than a matrix product of one term.
        sent = matrix * grouped if matrix.shape[2] == 1 else np.matmul(matrix, grouped)
        np.add(met, sent.reshape(met.shape), out=met)
    return (_cropped(padded, window.begin, sizes),)


@backward.register
def _(node: Affine, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del inputs
    if node.is_bias:
        return (gradient,)
    return (gradient * node.factors.reshape(-1, *(1,) * (gradient.ndim - 2)),)


@backward.register
def _(node: Add, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del node, inputs
    return (gradient, gradient)


@backward.register
def _(node: Concat, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del node
    ends = np.cumsum([taken.shape[1] for taken in inputs])[:-1]
    return tuple(np.split(gradient, ends, axis=1))


@backward.register
def _(node: MaxPool, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    """Give a window's gradient to its largest code, of equal ones to the first."""
    window, sizes = node.window, inputs[0].shape[2:]
    counts, codes = gradient.shape[2:], window.pad(inputs[0], np.iinfo(np.int64).min)
    largest = node.apply(inputs[0])
    padded, open_windows = _padded_zeros(inputs[0], window.begin, window.end), np.ones(gradient.shape, dtype=np.bool_)
    for (_, met), (_, sent) in zip(window.taps(codes, counts), window.taps(padded, counts), strict=True):
        chosen = open_windows & (met == largest)
        np.add(sent, gradient, out=sent, where=chosen)
        open_windows &= ~chosen
    return (_cropped(padded, window.begin, sizes),)


@backward.register
def _(node: SumPool, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    window, sizes = node.window, inputs[0].shape[2:]
    padded = _padded_zeros(inputs[0], window.begin, window.end)
    for _, met in window.taps(padded, gradient.shape[2:]):
        np.add(met, gradient, out=met)
    return (_cropped(padded, window.begin, sizes),)


@backward.register
def _(node: Reshape, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del inputs
    return (gradient.reshape(len(gradient), *node.sizes),)


@backward.register
def _(node: Transpose, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    del inputs
    order = np.argsort(node.axes)
    return (gradient.transpose(0, *(int(axis) + 1 for axis in order)),)


@backward.register
def _(node: Pad, inputs: Sequence[Codes], gradient: Reals) -> tuple[Reals, ...]:
    return (_cropped(gradient, node.begin, inputs[0].shape[2:]),)


def by_weights(node: Product, source: Codes, gradient: Reals) -> Reals:
    """Return the gradient by the weights of *node*, of their shape, summed over the samples.

    *source* is what it took, shape (N, *sample shape), *gradient* that by its output, shape (N, *output shape).
    """
    if isinstance(node, MatMul):
        return gradient.T @ source
    members, counts = node.weights.shape[1], gradient.shape[2:]
    found = np.empty((node.groups, node.outputs // node.groups, members, prod(node.window.kernel)))
    apart = gradient.reshape(len(gradient), *found.shape[:2], -1).transpose(1, 2, 0, 3)
    outputs = apart.reshape(*found.shape[:2], -1)
    padded = node.window.pad(source.astype(np.float64), 0)
    for tap, (_, met) in enumerate(node.window.taps(padded, counts)):
        seen = met.reshape(len(source), node.groups, members, -1).transpose(1, 0, 3, 2)
        found[:, :, :, tap] = np.matmul(outputs, seen.reshape(node.groups, -1, members))
    return found.reshape(node.weights.shape)


def _padded_zeros(codes: Codes, begin: Shape, end: Shape) -> Reals:
    sizes = (b + size + e for b, size, e in zip(begin, codes.shape[2:], end, strict=True))
    return np.zeros((*codes.shape[:2], *sizes))


def _cropped(padded: Reals, begin: Shape, sizes: Shape) -> Reals:
    inner = tuple(slice(b, b + size) for b, size in zip(begin, sizes, strict=True))
    return padded[(slice(None), slice(None), *inner)]
