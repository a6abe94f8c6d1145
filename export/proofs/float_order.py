"""The accumulators that a float32 evaluation may decide differently depending on the order of its sum.

**Theorem.** Let ``y`` be the exact value that a chain gives to a sum of *n* products, and ``y'`` what binary32 computes
for it: codes and weights multiplied by their scales, products, their sum in any order and by any tree, with or without
fused multiply-add, a bias added anywhere, batch norms as ``(x - mean) * g + beta`` or folded, clamps, the division by
the quantizer's scale (or the product with its reciprocal) and its zero point. Without underflow or overflow

    |y' - y| <= gamma_N * M,   gamma_N = N u / (1 - N u),   u = 2^-24,

where N is the largest number of roundings on a path from a number to ``y'``, and M the sum of the magnitudes of all
products and constants as ``y`` sees them (Higham, Accuracy and Stability of Numerical Algorithms, 2002, lemmas 3.1 and
3.3: each path multiplies its number by N factors ``(1 + d)^(+-1)``, ``|d| <= u``; a clamp is exact, carries errors on
without growth, and makes nothing larger than its distance from zero adds). On a path lie the scaling of code and weight
and their product (3), the sum with its bias (n), what the chain counts
(:class:`~bitproof.export.integer.chain.FloatForm`), and the quantizer (4: reciprocal, product, zero point, the half of
a rounding).

So an accumulator whose value lies further than that from each boundary has one code in every order. If the unit of the
accumulator is a power of two, the bias a multiple of it, and no partial sum exceeds 2^24 units, every partial sum is
exact, and nothing depends on the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.activation import Activation
from bitproof.export.integer.chain import FloatForm
from bitproof.export.integer.surd import Surd
from bitproof.export.integer.types import Interval
from bitproof.pipeline import float_error
from bitproof.pipeline.float_error import OUTWARD, PRECISION, PRODUCT_ROUNDINGS, QUANTIZER_ROUNDINGS
from bitproof.pipeline.ledger import ProofEntry

NAMED_CHANNELS = 8


def prove_order(
    name: str,
    activations: Sequence[Activation],
    reachable: Sequence[Interval],
    magnitude: Sequence[int],
    terms: Sequence[int],
) -> ProofEntry:
    """Return the ledger's entry on :func:`order_dependent` for the layer *name*; it names the channels."""
    counts = order_dependent(activations, reachable, magnitude, terms)
    cases, total = sum(interval.high - interval.low + 1 for interval in reachable), sum(counts)
    affected = [f"{channel} ({count})" for channel, count in enumerate(counts) if count]
    others = len(affected) - NAMED_CHANNELS
    named = ", ".join(affected[:NAMED_CHANNELS]) + (f" and {others} more" if others > 0 else "")
    return ProofEntry(
        layer=name,
        claim=f"float32 sums decide at most {total} of {cases} accumulators differently by their order"
        + (f"; channels (accumulators): {named}" if affected else ""),
        method="exact partial sums (unit a power of two, at most 2^24 units), or a value further from every boundary "
        "than gamma_N times the sum of magnitudes, N roundings a path",
        cases=cases,
        holds=True,
        order_dependent=total,
    )


def order_dependent(
    activations: Sequence[Activation],
    reachable: Sequence[Interval],
    magnitude: Sequence[int],
    terms: Sequence[int],
) -> tuple[int, ...]:
    """Return for each channel how many reachable accumulators lie within the float32 error of a boundary.

    Args:
        activations: one per channel.
        reachable: accumulators of each channel.
        magnitude: a bound on each channel's sum of ``|code| * |weight|``, in units of its accumulator.
        terms: number of products in each channel's sum.

    Raises:
        ValueError: a chain's float form is not known, or a sum has so many terms that float32 bounds nothing.
    """
    channels = zip(activations, reachable, magnitude, terms, strict=True)
    return tuple(
        sum(interval.high - interval.low + 1 for interval in near_boundaries(*channel)) for channel in channels
    )


def near_boundaries(activation: Activation, reachable: Interval, magnitude: int, terms: int) -> list[Interval]:
    """Return the reachable accumulators that :func:`order_dependent` counts: disjoint intervals, ascending.

    Raises:
        ValueError: as :func:`order_dependent` does.
    """
    chain, floats = activation.chain, activation.chain.floats
    if floats is None:
        raise ValueError("this chain does not know its float form; build it with Chain.of and its methods")
    largest = max(magnitude, abs(reachable.low), abs(reachable.high))
    if chain.direction == 0 or sums_exactly(floats, largest):
        return []
    bound = _error_bound(activation, floats, largest, terms)
    try:
        slope, intercept, error = float(chain.slope), float(chain.intercept), float(bound) * OUTWARD
        ends = [None if end is None else float(end) for end in (chain.low, chain.high)]
        boundaries = np.array([n / d for n, d, _ in activation.boundaries])
    except OverflowError:
        return [reachable]
    low = -np.inf if ends[0] is None else ends[0] - error
    high = np.inf if ends[1] is None else ends[1] + error
    boundaries = boundaries[(boundaries >= low) & (boundaries <= high)]
    with np.errstate(all="ignore"):
        centre, radius = (boundaries - intercept) / slope, error / np.abs(np.float64(slope))
        first, last = np.ceil(centre - radius), np.floor(centre + radius)
    if np.isnan(first).any() or np.isnan(last).any():
        return [reachable]
    order = slice(None, None, chain.direction)
    return _union(_clip(first, reachable)[order], _clip(last, reachable)[order], reachable)


def sums_exactly(floats: FloatForm, magnitude: int) -> bool:
    """Decide whether float32 sums products of at most *magnitude* units in total, and the bias, without rounding."""
    return float_error.sums_exactly(abs(floats.unit), floats.bias, magnitude)


def _error_bound(activation: Activation, floats: FloatForm, magnitude: int, terms: int) -> Surd:
    roundings = PRODUCT_ROUNDINGS + terms + floats.roundings + QUANTIZER_ROUNDINGS
    if 2 * roundings >= 1 << PRECISION:
        raise ValueError(f"{terms} terms: float32 has no error bound for sums of over {1 << (PRECISION - 1)} roundings")
    total = abs(activation.chain.slope) * magnitude + floats.constants + activation.quantization.offset
    return total * Fraction(roundings, (1 << PRECISION) - roundings)


def _clip(ends: NDArray[np.float64], reachable: Interval) -> list[int]:
    return [int(end) for end in np.clip(ends, reachable.low - 1, reachable.high + 1).tolist()]


def _union(firsts: list[int], lasts: list[int], reachable: Interval) -> list[Interval]:
    """Return the union of [first, last], both ascending, within *reachable*."""
    intervals: list[Interval] = []
    free = reachable.low
    for first, last in zip(firsts, lasts, strict=True):
        start, end = max(first, free), min(last, reachable.high)
        if start <= end:
            intervals.append(Interval(start, end))
            free = end + 1
    return intervals
