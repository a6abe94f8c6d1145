"""The limit on the exact arithmetic that one file may ask for: counted, and refused before it is begun.

A file of a few kilobytes can ask for years of it: a Concat with itself doubles the channels, a batch norm behind
another adds a square root to every constant. The work is inherent, so there is a limit on it. One unit is about ten
microseconds of one core and at most a hundred bytes; the limit is about three minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from bitproof.export.integer import Chain, Node, Product, Shape
from bitproof.export.integer.surd import Surd
from bitproof.pipeline import InputError

MAX_EFFORT = 1 << 24
"""Units for one network."""
MAX_ROOTS = 16
"""Different square roots in one constant: so many batch norms may follow each other without a quantizer."""
MAX_CONSTANT_BITS = 1 << 14
"""Of the numerators and denominators of one constant."""
MAX_OPERATIONS = 1 << 36
"""Multiplications and comparisons for one sample; ResNet-50 takes 2^32."""

NODE, CHANNEL, LEVEL, CHAIN = 32, 1, 1, 16
"""Units for a node, an interval of a channel, a threshold, and what elementwise constants make of a channel."""
QUANTIZED_CHANNEL = 32
"""Units for a channel of a quantizer, beside its thresholds."""
CURVED_LEVEL = 64
"""Units for a threshold behind a curve, such as Tanh."""
WEIGHTS, EXACT_NUMBERS = 16, 2
"""So many weights, or exact fractions, take one unit."""


class TooLargeError(InputError):
    """The file asks for more than it may."""


class Effort:
    """What one network has asked for so far.

    *most*: the units that it may ask for; None: :data:`MAX_EFFORT`.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = MAX_EFFORT if most is None else most
        self.units = 0
        self.operations = 0

    def spend(self, units: int, what: str) -> None:
        """Count *units* for *what*, before it is done.

        Raises:
            TooLargeError: the network has asked for more than it may in all.
        """
        self.units += units
        if self.units > self.most:
            raise TooLargeError(
                f"{what} bring the exact arithmetic that the network needs to {self.units} units; at most {self.most} "
                "are spent (about a unit for each channel of each layer, and for each threshold of each channel); use "
                "fewer channels, or fewer bits an activation"
            )

    def begin(self, node: Node, shape: Shape) -> None:
        """Count what *node*, whose output has *shape* for one sample, takes; before its ranges are calculated.

        Raises:
            TooLargeError: in units, or in operations for one sample, it is too much.
        """
        channels = shape[0]
        self.spend(NODE + CHANNEL * channels + _weights(node) // WEIGHTS, f"{channels} channels of {node.op}")
        self.operations += prod(shape) * node.steps
        if self.operations > MAX_OPERATIONS:
            raise TooLargeError(
                f"it brings the operations for one sample to {self.operations}; at most {MAX_OPERATIONS} are carried "
                "out; use smaller images or kernels"
            )

    def elementwise(self, chains: Iterable[Chain]) -> None:
        """Count what the different *chains* of a channel take, by the size of their constants.

        Raises:
            TooLargeError: a constant has too many square roots or bits, or all together take too much.
        """
        for chain in {id(chain): chain for chain in chains}.values():
            constants = chain.constants
            roots, bits = max(len(c.terms) for c in constants), max(map(_bits, constants))
            if roots > MAX_ROOTS:
                raise TooLargeError(
                    f"its constants hold {roots} different square roots; at most {MAX_ROOTS} are calculated with: put "
                    "a Quant node between so many batch norms"
                )
            if bits > MAX_CONSTANT_BITS:
                raise TooLargeError(
                    f"its constants have {bits} bits; at most {MAX_CONSTANT_BITS} are calculated with: put a Quant "
                    "node between so many nodes that multiply by constants"
                )
            self.spend(roots * roots * (bits // 256), "large constants")


def _bits(constant: Surd) -> int:
    return max(constant.denominator.bit_length(), *(max(r.bit_length(), c.bit_length()) for r, c in constant.terms), 0)


def _weights(node: Node) -> int:
    return node.weights.size if isinstance(node, Product) else 0
