"""A program: the steps of a network in their order, and the values that they leave for each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from bitproof.export.integer import IntegerModel, IntegerType, Shape
from bitproof.export.program.order import Order
from bitproof.export.program.step import Step

WIDTHS_BITS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Value:
    """An array of codes that is stored between steps.

    Attributes:
        name: of the node of the integer model that it equals; ``input`` for the input.
        shape: of one sample, channels first.
        order: of its codes in memory.
        type: of its codes.
        storage: the value in whose bytes it lies: itself, or, of a view that moves nothing, that which it is a view of.
        born: number of the step that writes its bytes; -1: they are there before the first.
        dies: number of the last step that reads them; that behind the last step for an output.
    """

    name: str
    shape: Shape
    order: Order
    type: IntegerType
    storage: str
    born: int
    dies: int

    @property
    def width_bits(self) -> int:
        """Of one stored code: 8, 16, 32 or 64.

        Raises:
            ValueError: the type has more bits than the widest.
        """
        if self.type.bits > WIDTHS_BITS[-1]:
            raise ValueError(f"{self.name!r} has {self.type} codes; at most {WIDTHS_BITS[-1]} bits are stored")
        return next(width for width in WIDTHS_BITS if self.type.bits <= width)

    @property
    def size_bytes(self) -> int:
        """Of one sample."""
        return prod(self.shape) * self.width_bits // 8


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What a target carries out.

    Attributes:
        model: the integer model that it equals.
        steps: in their order.
        values: all stored values and their views, by name.
        output: name of the value that holds the outputs.
    """

    model: IntegerModel
    steps: tuple[Step, ...]
    values: Mapping[str, Value]
    output: str

    def unit(self, node: str) -> Step:
        """Return the step that carries out the node called *node*.

        Raises:
            KeyError: none does: the node moves nothing, so that its output is a view, or there is no such node.
        """
        return {covered.name: step for step in self.steps for covered in step.covers}[node]

    @property
    def stored(self) -> tuple[Value, ...]:
        """The values that take bytes of their own."""
        return tuple(value for value in self.values.values() if value.storage == value.name)
