"""The float32 constants of a quantized operator of onnxruntime, fitted to thresholds and proven equal to them.

Such an operator gives ``clip(rint(float32(a * k + B) * m), 0, 255)`` for the accumulator ``a`` of integer weights that
are stored times ``k``: the sum is exact in 32 bits, its conversion, the product and the rounding (half to even) are
float32's. QuantizeLinear behind a float32 convolution divides by ``1 / m`` instead; its sum, ``a + B / k``, is exact in
float32 if no partial sum needs more than 24 bits. With a k of 16 the integer B has a resolution of a sixteenth of an
accumulator, which is what a batch norm's offset needs.

Conversion, product by a positive m, rounding and saturation never fall, and neither do thresholds: both are equal on
every reachable accumulator iff they are at both ends of every run of one code, where they are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import IntegerType, Interval, Ranges, Threshold
from bitproof.export.onnx_int8.graph import MAX_STORED
from bitproof.pipeline import Codes

INT32_LIMIT = 1 << 31
MOST_BIASES = 1 << 12
DYADIC_BITS = 20
"""A factor m of so many bits behind the point, if one fits, makes products exact, so that ties are what they should."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Per-channel constants of a quantized operator.

    Attributes:
        scale: m, positive, shape (channels,).
        bias: B, shape (channels,); every ``a * k + B`` of a reachable accumulator fits 32 bits.
        factor: k, by which the weights are stored multiplied.
        clipped: larger numbers than the highest code occur, which only a Clip behind the operator brings down.
    """

    scale: Floats
    bias: Codes
    factor: int
    clipped: bool

    def apply(self, accumulators: Codes, highest: int) -> Codes:
        """Return the stored codes 0..*highest* for *accumulators*, shape (N, channels), as the operator computes them.

        The conversion to float32 and the product round half to even, so does the code; it saturates at 0 and 255.
        """
        sums = (accumulators * self.factor + self.bias).astype(np.float32)
        rounded = np.rint(sums * self.scale)
        codes: Codes = np.clip(rounded, 0, highest if self.clipped else MAX_STORED).astype(np.int64)
        return codes


def fit(node: Threshold, reachable: Ranges, factor: int, *, divides: bool = False) -> Fitted | None:
    """Return constants for weights times *factor* that equal *node* on every reachable accumulator, or None.

    *node* counts from code 0 in steps of 1. If the operator *divides*, they do so for ``float32(1 / (m k))`` as divisor
    of ``a + B / k``, too.
    """
    scales, biases, clipped = [], [], False
    for thresholds, interval in zip(node.thresholds, reachable, strict=True):
        ends, codes = run_ends(thresholds, interval)
        found = _fit_channel(ends, codes, node.levels, factor, divides=divides)
        if found is None:
            return None
        scale, bias, over = found
        scales.append(scale)
        biases.append(bias)
        clipped |= over
    return Fitted(np.array(scales, dtype=np.float32), np.array(biases, dtype=np.int64), factor, clipped)


def counted(node: Threshold) -> Threshold:
    """Return *node* with its codes counted from 0."""
    return replace(node, lowest=0, step=1, output=IntegerType.smallest_for(0, node.levels))


def run_ends(thresholds: Codes, interval: Interval) -> tuple[Codes, Codes]:
    """Return both ends of every run of one code in *interval*, rising, and their codes, counted from 0."""
    inside = thresholds[(thresholds > interval.low) & (thresholds <= interval.high)]
    ends = np.unique(np.concatenate([inside, inside - 1, [interval.low, interval.high]]).astype(np.int64))
    return ends, np.searchsorted(thresholds, ends, side="right").astype(np.int64)


def _fit_channel(
    ends: Codes, codes: Codes, highest: int, factor: int, *, divides: bool
) -> tuple[np.float32, int, bool] | None:
    """Return m, B and whether a Clip is needed, for the *codes* at *ends*; None if no pair is exact."""
    biases = _candidates(ends, codes, factor)
    sums = ends * factor + biases[:, None]
    fits = np.abs(sums).max(axis=1) < INT32_LIMIT
    # (code - 1/2) / sum <= m <= (code + 1/2) / sum; code 0 has no lower bound, the highest no upper one.
    positive, some, saturated = sums > 0, codes > 0, codes == highest
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.where(some & positive, (codes - 0.5) / sums, 0.0).max(axis=1)
        upper = np.where(~saturated & positive, (codes + 0.5) / sums, np.inf).min(axis=1)
    possible = fits & (positive | ~some).all(axis=1) & (lower <= upper)
    if not possible.any():
        return None
    with np.errstate(divide="ignore"):
        room = np.where(possible, np.log(upper) - np.log(lower), -np.inf)
    for place in np.argsort(-room, kind="stable")[:8]:
        if not possible[place]:
            break
        for scale in _scales(float(lower[place]), float(upper[place])):
            exact = sums[place].astype(np.float32)
            ways = [np.rint(exact * scale)]
            if divides:
                ways.append(np.rint(exact / np.float32(factor) / divisor_of(scale, factor)))
            if scale > 0 and all(np.array_equal(np.clip(rounded, 0, highest), codes) for rounded in ways):
                return scale, int(biases[place]), bool(max(rounded.max() for rounded in ways) > highest)
    return None


def divisor_of(scale: Floats | np.float32, factor: int) -> Floats:
    """Return what ``a + B / k`` is divided by: 1 / (m k) as float32, k *factor*."""
    divisor: Floats = (1 / (np.asarray(scale, dtype=np.float64) * factor)).astype(np.float32)
    return divisor


def _candidates(ends: Codes, codes: Codes, factor: int) -> Codes:
    """Return the integers that B is looked for among: around the line through the first and the last boundary."""
    steps = np.flatnonzero(np.diff(codes))
    if len(steps):
        first, last = steps[0], steps[-1]
        slope = (codes[last + 1] - codes[first + 1]) / (ends[last + 1] - ends[first + 1]) if last > first else 0.0
        slope = slope or 0.5 / float(ends[-1] - ends[0] + 1)
        level, boundary = float(codes[first + 1]) - 0.5, float(ends[first + 1]) - 0.5
        width = factor * (1 + math.ceil(level / max(1, int(codes[last + 1] - codes[first + 1]))))
    else:
        slope, level, boundary, width = 0.25 / float(ends[-1] - ends[0] + 1), float(codes[0]), float(ends.mean()), 0
    centre = round(factor * (level / slope - boundary))
    if abs(centre) >= INT32_LIMIT:
        return np.zeros(1, dtype=np.int64)
    width = min(width + 2, MOST_BIASES // 2)
    return np.arange(centre - width, centre + width + 1, dtype=np.int64)


def _scales(lower: float, upper: float) -> list[np.float32]:
    """Return factors between *lower* and *upper*: the one of fewest bits, and one in the middle."""
    if math.isinf(upper):
        upper = 4 * lower if lower else 1.0
    middle = math.sqrt(lower * upper) if lower else upper / 2
    for bits in range(DYADIC_BITS + 1):
        number = math.ceil(lower * (1 << bits))
        if 0 < number <= upper * (1 << bits):
            return [np.float32(number / (1 << bits)), np.float32(middle)]
    return [np.float32(middle)]
