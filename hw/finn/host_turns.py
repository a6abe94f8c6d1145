"""What the host does before the first layer and behind the last: it turns codes into the order of the streams."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from bitproof.export.integer import INPUT, MatMul, Node, Reshape, Shape, Transpose
from bitproof.export.program.order import ORDERS, from_stored, to_stored
from bitproof.export.program.program import Program
from bitproof.export.program.step import Step
from bitproof.hw.finn.supported import TARGET, require_plain
from bitproof.pipeline import Codes, StageError

MOVING = (Reshape, Transpose)


def input_shape(program: Program, step: Step, taken: str) -> Shape:
    """Return the shape to which the host turns the input codes for *step*, channels first, and puts the channels last.

    Args:
        program: of the network.
        step: it takes the input codes as they are, or moved.
        taken: name of the value in which it takes them.

    Raises:
        StageError: no such shape turns them into the order in which *step* takes them.
    """
    counted, name = input_order(program, step, taken)
    if (counted == np.arange(counted.size)).all():
        return (counted.size,)
    require_plain(from_counted(program, name), named(between(program, INPUT, name)))
    return program.values[name].shape


def input_order(program: Program, step: Step, taken: str) -> tuple[Codes, str]:
    """Return the number of the input code at each place of the stream, and the value whose order that is."""
    values, name, order = program.values, taken, ORDERS[1]
    if isinstance(step.main, MatMul):  # whose columns are in the order in which the program stores what it takes
        name = values[name].storage
        order = values[name].order
    return to_stored(from_counted(program, name).reshape(1, *values[name].shape), order).ravel(), name


def from_counted(program: Program, name: str) -> Codes:
    """Return the number of the input code at each place of the value *name*, channels first."""
    counted = np.arange(program.model.inputs, dtype=np.int64).reshape(1, *program.model.shape)
    for node in between(program, INPUT, name):
        counted = node.apply(counted)
    return counted.ravel()


def output_shape(program: Program, held: str) -> Shape:
    """Return the shape of the outputs, channels first, of which the stream of the value *held* has the channels last.

    Raises:
        StageError: there is none, or another value is the output.
    """
    shape, last = program.values[held].shape, program.model.nodes[-1].name
    turned = np.arange(prod(shape), dtype=np.int64).reshape(1, -1)
    turned = from_stored(turned, shape, "channels-last" if len(shape) > 1 else "channels-first")
    nodes = between(program, held, last)
    for node in nodes:
        turned = node.apply(turned)
    if (turned.ravel() == np.arange(turned.size)).all():
        return (turned.size,)
    require_plain(to_stored(turned.reshape(1, *shape), "channels-last").ravel(), named(nodes))
    return shape


def between(program: Program, first: str, last: str) -> list[Node]:
    """Return the nodes, each of one input, on the way from the value *first* to the value *last*.

    Raises:
        StageError: there is no way of nodes that move codes alone.
    """
    model, end = program.model, last
    nodes: list[Node] = []
    while last != first:
        node, sources = (None, ()) if last == INPUT else (model.node(last), model.sources(last))
        if not isinstance(node, MOVING):
            raise StageError(f"{TARGET} gives what the last layer makes; the output {end!r} is another value")
        nodes.insert(0, node)
        (last,) = sources
    return nodes


def views(program: Program, name: str) -> list[Node]:
    """Return the nodes between the value *name* and the stored value that it is a view of."""
    return between(program, program.values[name].storage, name)


def named(nodes: Sequence[Node]) -> str:
    """Return the names of those of *nodes* that move codes."""
    found = [node for node in nodes if isinstance(node, Transpose)] or nodes
    return ", ".join(f"{node.name} ({node.op})" for node in found)
