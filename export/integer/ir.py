"""The integer model: a small typed graph of integer operations, the one definition of what a network computes.

Every other form of the network is compared with it. A value is an array of integer *codes*; the real number that a code
stands for is ``scale * code`` (a quantizer's zero point is subtracted, so the code 0 is the real 0). Thresholds are the
canonical form of a quantized activation: code ``lowest + i`` of channel ``c`` is reached when the accumulator is at
least ``thresholds[c, i - 1]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import TypeVar

from bitproof.export.integer.analysis import Value, analyse
from bitproof.export.integer.ops import Node, Product
from bitproof.export.integer.surd import Surd
from bitproof.export.integer.types import INPUT, IntegerType, Interval, Ranges, Shape

MAX_ELEMENTS = 1 << 26
"""Of one value of one sample."""

Wiring = tuple[tuple[str, ...], ...]

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, slots=True)
class Coding:
    """The real number of one channel's output code: ``(scale * code + offset) * sqrt(root) + shift``, exactly.

    A batch norm behind the last layer divides by a square root, which is seldom rational; without one, *root* is 1.

    Attributes:
        scale: of one code; 0 if a batch norm makes a constant of the channel.
        offset: of the code 0.
        root: > 0; 1 if the real numbers are rational.
        shift: what is added behind the root.
    """

    scale: Fraction
    offset: Fraction = Fraction(0)
    root: int = 1
    shift: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.root < 1:
            raise ValueError(f"an output coding has the root {self.root}; it must be positive")

    @classmethod
    def of(cls, slope: Surd, intercept: Surd) -> Coding | None:
        """Return the coding of ``slope * code + intercept``; None if it holds several square roots."""
        root = next((r for r, _ in (*slope.terms, *intercept.terms) if r != 1), 1)
        gain, constant = slope.over(root), intercept.over(root)
        if gain is None or constant is None or (root != 1 and gain[1]):
            return None
        return cls(gain[0], constant[0], root, constant[1]) if root != 1 else cls(gain[1], constant[1])

    @property
    def slope(self) -> Surd:
        """The real change for one code."""
        return Surd.root(self.root) * self.scale

    @property
    def intercept(self) -> Surd:
        """The real number of the code 0."""
        return Surd.root(self.root) * self.offset + self.shift


@dataclass(frozen=True, slots=True)
class Head:
    """One of several outputs of a network, which its output codes hold one after the other.

    Attributes:
        name: in a user's file.
        shape: of one sample.
    """

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class IntegerModel:
    """A graph of integer operations from input codes to output codes.

    Attributes:
        name: the network's name.
        input: type of the input codes.
        input_scale: real value of one input code.
        shape: shape of one input sample, channels first.
        nodes: the operations in execution order; the last one makes the output.
        output_scale: real value of one output code, if all channels have the same and no offset.
        wiring: for each node the names of the nodes whose outputs it takes, ``input`` for the model's input; None for a
            chain, in which each takes the output of the one before it.
        input_codes: the input codes that occur; None: all of *input*.
        output_codings: what the codes of each output channel stand for, if they differ; empty: *output_scale*.
        heads: of a network with several outputs, each, in the order in which the output vector holds them; a Concat
            joins them. Empty: there is one output.
        rounds_input: the exported file makes of a real input ``x`` the code nearest to ``x / input_scale``, of two the
            even one, and saturates. Otherwise it calculates with ``x`` before, or rounds in another way.
    """

    name: str
    input: IntegerType
    input_scale: Fraction
    shape: Shape
    nodes: tuple[Node, ...] = field(repr=False)
    output_scale: Fraction
    wiring: Wiring | None = None
    input_codes: range | None = None
    output_codings: tuple[Coding, ...] = ()
    heads: tuple[Head, ...] = ()
    rounds_input: bool = True
    _sources: dict[str, tuple[str, ...]] = field(init=False, repr=False)
    _shapes: dict[str, Shape] = field(init=False, repr=False)
    _values: Mapping[str, Value] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("an integer model has at least one node")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"the input has shape {self.shape}; it needs sizes of at least 1")
        if prod(self.shape) > MAX_ELEMENTS:
            raise ValueError(f"the input has {prod(self.shape)} integers per sample; at most {MAX_ELEMENTS}")
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names) or INPUT in names:
            raise ValueError(f"node names repeat, or one is {INPUT!r}: {names}")
        if self.wiring is not None and len(self.wiring) != len(self.nodes):
            raise ValueError(f"{len(self.nodes)} nodes are wired by {len(self.wiring)} entries")
        codes = self.allowed_codes
        if not codes or codes.step < 1 or not self.input.holds(codes[0], codes[-1]):
            raise ValueError(f"input codes {codes} are empty, fall, or lie outside {self.input}")
        object.__setattr__(self, "_shapes", self._make_shapes())
        if self.output_codings and len(self.output_codings) != self.shapes()[names[-1]][0]:
            raise ValueError(f"{len(self.output_codings)} output codings for {self.outputs} outputs")
        if self.heads and sum(prod(head.shape) for head in self.heads) != self.outputs:
            raise ValueError(f"the heads {[head.shape for head in self.heads]} are not {self.outputs} outputs")
        object.__setattr__(self, "_sources", {node.name: sources for node, sources in self.wired()})

    def wired(self) -> Iterator[tuple[Node, tuple[str, ...]]]:
        """Yield each node with the names of what it takes, in execution order."""
        yield from zip(self.nodes, self.wiring or chain_wiring(self.nodes), strict=True)

    def sources(self, name: str) -> tuple[str, ...]:
        """Return what the node called *name* takes."""
        return self._sources[name]

    @property
    def values(self) -> Mapping[str, Value]:
        """What is known of every value, by node name, ``input`` included; analysed when it is first asked for."""
        if self._values is None:
            object.__setattr__(self, "_values", analyse(self))
        assert self._values is not None
        return self._values

    @property
    def operations(self) -> int:
        """How many multiplications or comparisons the model carries out for one sample."""
        return sum(value.operations for value in self.values.values())

    def shapes(self) -> Mapping[str, Shape]:
        """Return the shape of one sample of every value, by node name, ``input`` included."""
        return self._shapes

    def _make_shapes(self) -> dict[str, Shape]:
        """Return the shapes.

        Raises:
            ValueError: a node takes a value that was not made before it, or one of another shape.
        """
        shapes = {INPUT: self.shape}
        for node, sources in self.wired():
            unknown = [source for source in sources if source not in shapes]
            if unknown:
                raise ValueError(f"{node.name!r} takes {unknown}, which no node before it makes")
            if not sources or (node.arity is not None and len(sources) != node.arity):
                raise ValueError(f"{node.name!r} ({node.op}) takes {len(sources)} values; needs {node.arity or 'some'}")
            shapes[node.name] = shape = node.output_shape(*(shapes[source] for source in sources))
            if prod(shape) > MAX_ELEMENTS:
                raise ValueError(f"{node.name!r} gives {prod(shape)} integers per sample; at most {MAX_ELEMENTS}")
        return shapes

    @property
    def allowed_codes(self) -> range:
        """The input codes that occur."""
        return self.input_codes or range(self.input.minimum, self.input.maximum + 1)

    @property
    def input_ranges(self) -> Ranges:
        """An interval for each input channel that holds its codes."""
        codes = self.allowed_codes
        return (Interval(codes[0], codes[-1]),) * self.shape[0]

    @property
    def inputs(self) -> int:
        """Number of codes of one input sample."""
        return prod(self.shape)

    @property
    def outputs(self) -> int:
        """Number of codes of one output sample."""
        return prod(self.shapes()[self.nodes[-1].name])

    @property
    def head_places(self) -> dict[str, range]:
        """Where each head lies in a row of outputs, by its name; empty for one output."""
        places, first = {}, 0
        for head in self.heads:
            places[head.name] = range(first, first + prod(head.shape))
            first += prod(head.shape)
        return places

    def node(self, name: str) -> Node:
        """Return the node called *name*.

        Raises:
            KeyError: there is none.
        """
        return {node.name: node for node in self.nodes}[name]

    def nodes_of(self, kind: type[N]) -> tuple[N, ...]:
        """Return the nodes of one *kind*, in execution order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    @property
    def products(self) -> tuple[Product, ...]:
        """The nodes that hold weights: matrix products and convolutions, in execution order."""
        return tuple(node for node in self.nodes if isinstance(node, Product))


def chain_wiring(nodes: tuple[Node, ...]) -> Wiring:
    """Return the wiring in which each of *nodes* takes the output of the one before it."""
    return tuple((name,) for name in (INPUT, *(node.name for node in nodes[:-1])))
