"""The lowering's knowledge of a tensor of the graph: a constant, quantized constants, or a function of codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Chain, IntegerType, Shape
from bitproof.pipeline import Codes

Rationals = NDArray[Any]
"""An array of ``Fraction`` objects."""

Chains = tuple[Chain, ...]
"""One chain a channel, that is, for each index of the first axis of the integer value."""


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A tensor of numbers, exactly as the file holds them."""

    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedConstant:
    """Weights behind their quantizer: the real numbers ``codes * scales``.

    Attributes:
        codes: the zero point is subtracted.
        scales: an array of the same number of axes that broadcasts to *codes*.
    """

    codes: Codes
    scales: Rationals

    def reals(self) -> Rationals:
        """Return the real numbers, the shape of *codes*."""
        return np.asarray(self.codes.astype(object) * self.scales, dtype=object)


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The graph's input before its first quantizer, perhaps behind constant maps.

    Attributes:
        shape: of one sample.
        preprocessed: it is calculated with, or transposed: it does not hold the numbers of the graph's input any more.
    """

    shape: Shape
    preprocessed: bool = False

    def changed(self) -> GraphInput:
        """Return it behind a node that changes its numbers."""
        return replace(self, preprocessed=True)


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Real numbers that are a known exact function of an integer value.

    Attributes:
        node: the integer node whose output it is a function of.
        axes: axis ``i`` of a sample of this tensor is axis ``axes[i]`` of the integer value. Transposes of the graph
            only change this; channels-last networks therefore cost nothing.
        chains: for each channel of the integer value, the map from its codes to the real numbers.
        private: nothing else uses the integer value, so that the node that makes it may be negated.
    """

    node: str
    axes: tuple[int, ...]
    chains: Chains
    private: bool

    @property
    def in_order(self) -> bool:
        """The axes are those of the integer value."""
        return self.axes == tuple(range(len(self.axes)))

    @property
    def uniform(self) -> bool:
        """All channels have one chain."""
        return all(chain is self.chains[0] for chain in self.chains) or len(set(map(_identity, self.chains))) == 1

    def mapped(self, function: Callable[[Chain], Chain]) -> Tensor:
        """Return this with *function* applied to each chain, once to each that is shared."""
        made: dict[int, Chain] = {}
        for chain in self.chains:
            if id(chain) not in made:
                made[id(chain)] = function(chain)
        return replace(self, chains=tuple(made[id(chain)] for chain in self.chains))

    def linear(self) -> list[tuple[Fraction, Fraction]] | None:
        """Return each channel's rational (slope, intercept); None if a chain is clamped or holds a square root."""
        pairs = {id(chain): linear_of(chain) for chain in self.chains}
        channels = [pairs[id(chain)] for chain in self.chains]
        known = [channel for channel in channels if channel is not None]
        return known if len(known) == len(channels) else None


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """The integers that QuantizeLinear makes of *source*, before DequantizeLinear says what they are worth.

    They are ``clip(round_half_even(x / scale) + zero_point, lowest, highest)``: unlike those of a Quant node, ties go
    to the even number before the zero point is added.

    Attributes:
        source: what is quantized.
        scales: shaped so that they broadcast to (N, *sample) of *source*.
        zero_points: of that shape, or of none.
        lowest: least integer; a Clip behind the node may raise it.
        highest: greatest integer.
        kind: the type that holds them.
    """

    source: GraphInput | Tensor
    scales: Rationals
    zero_points: Codes
    lowest: int
    highest: int
    kind: IntegerType


Known = Constant | QuantizedConstant | GraphInput | Tensor


def linear_of(chain: Chain) -> tuple[Fraction, Fraction] | None:
    """Return the rational (slope, intercept) of *chain*; None if it is clamped or holds a square root."""
    if chain.low is not None or chain.high is not None or chain.curve is not None:
        return None
    if not (chain.slope.is_rational and chain.intercept.is_rational):
        return None
    return chain.slope.fraction(), chain.intercept.fraction()


def _identity(chain: Chain) -> tuple[object, ...]:
    """Return what is equal for equal chains; unequal forms of one number only make a chain look different."""
    parts = (chain.slope, chain.intercept, chain.low, chain.high)
    return *(None if part is None else (part.terms, part.denominator) for part in parts), chain.curve


def rationals(values: NDArray[Any]) -> Rationals:
    """Return *values* as exact fractions, the same shape.

    Raises:
        ValueError: one is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("holds a value that is not finite")
    exact = np.empty(values.shape, dtype=object)
    exact.reshape(-1)[:] = [Fraction(value) for value in values.reshape(-1).tolist()]
    return exact


def unit_of(numbers: list[Fraction]) -> Fraction:
    """Return the largest rational > 0 of which every number is a whole multiple; 1 if all are 0."""
    unit = Fraction(0)
    for number in set(numbers):
        unit = _gcd(unit, abs(number))
    return unit or Fraction(1)


def _gcd(one: Fraction, two: Fraction) -> Fraction:
    while two:
        one, two = two, one % two
    return one
