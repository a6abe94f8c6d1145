"""Which outputs the rounding errors of floats explain: sums that no activation turned into codes, and their order."""

from __future__ import annotations

import numpy as np

from export.integer import IntegerModel, TopK
from export.integer.ir import Coding
from export.integer.types import Sums
from export.proofs.float_bounds import UNIT, Mask, Reals
from pipeline import Codes, Observation
from pipeline.float_error import OUTWARD, SUM_ROUNDINGS, largest_exact_sum


def explained_outputs(
    model: IntegerModel, observation: Observation, exact: Codes, magnitudes: Codes, sums: Sums, precision: int
) -> Mask:
    """Tell for each output whether floats may give it, given the codes that they gave before it.

    Args:
        model: the integer model.
        observation: what the reference gave.
        exact: the exact codes of the outputs, or of the classes whose order the outputs are; shape (N, *sample).
        magnitudes: the sum of the magnitudes behind each of them, the same shape.
        sums: what is known of them.
        precision: bits of the significand of the reference's floats.

    Returns:
        Shape (N, outputs).
    """
    if isinstance(model.nodes[-1], TopK):
        # Every class is worth the same unit there: the lowering has brought them to one.
        error = _relative(sums.terms, precision) * magnitudes.astype(np.float64) * OUTWARD
        return _explained_order(observation.codes, exact, error)
    flat = exact.reshape(len(exact), -1)
    codings = model.output_codings or (Coding(model.output_scale),) * exact.shape[1]
    repeats = flat.shape[1] // len(codings)
    scales, offsets = (
        np.repeat(np.array([float(getattr(coding, name)) for coding in codings]), repeats)
        for name in ("scale", "offset")
    )
    limits = np.repeat([largest_exact_sum(coding.scale, coding.offset, precision) for coding in codings], repeats)
    behind = magnitudes.reshape(flat.shape).astype(np.float64)
    total = scales * behind + np.abs(offsets)
    error = _relative(sums.terms, precision) * total * OUTWARD + 8 * UNIT * total
    error = np.where(behind <= limits, 0.0, error)
    explained: Mask = np.abs(observation.outputs - (flat * scales + offsets)) <= error
    return explained


def _relative(terms: int, precision: int) -> float:
    roundings = terms + SUM_ROUNDINGS
    return roundings / ((1 << precision) - roundings) if 2 * roundings < 1 << precision else float("inf")


def _explained_order(indices: Codes, exact: Codes, error: Reals) -> Mask:
    """Tell for each place of a ranking whether the class there may be, by the errors of both that claim it."""
    expected = np.argsort(-exact, axis=1, kind="stable")[:, : indices.shape[1]]
    inside = (indices >= 0) & (indices < exact.shape[1])
    named = np.where(inside, indices, 0)
    gap = np.abs(np.take_along_axis(exact, expected, 1) - np.take_along_axis(exact, named, 1))
    allowed = np.take_along_axis(error, expected, 1) + np.take_along_axis(error, named, 1)
    explained: Mask = inside & (gap <= allowed)
    return explained
