"""The outputs that the rounding errors of floats explain: sums that no activation made into codes, and their order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from bitproof.export.float_reference.codings import constant_of, exact_limit, relative_error_of
from bitproof.export.integer import IntegerModel, TopK
from bitproof.export.integer.ir import Coding
from bitproof.export.integer.types import Sums
from bitproof.export.proofs.float_bounds import UNIT, Mask, Reals
from bitproof.pipeline import Codes, Observation


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
        error: Reals = relative_error_of(Coding(Fraction(1)), sums.terms, precision) * magnitudes.astype(np.float64)
        return _explained_order(observation.codes, exact, error)
    flat = exact.reshape(len(exact), -1)
    codings = model.output_codings or (Coding(model.output_scale),) * exact.shape[1]
    repeats = flat.shape[1] // len(codings)
    limits = np.repeat([exact_limit(coding, precision) for coding in codings], repeats)
    gamma = np.repeat([relative_error_of(coding, sums.terms, precision) for coding in codings], repeats)
    total = magnitudes.reshape(flat.shape) + np.repeat([constant_of(coding) for coding in codings], repeats)
    allowed = np.where(magnitudes.reshape(flat.shape) <= limits, 0.0, gamma * total + 8 * UNIT * total)
    explained: Mask = np.abs(observation.outputs - flat) <= allowed
    return explained


def _explained_order(indices: Codes, exact: Codes, error: Reals) -> Mask:
    """Tell for each place of a ranking whether the class there may be, by the errors of both that claim it."""
    expected = np.argsort(-exact, axis=1, kind="stable")[:, : indices.shape[1]]
    inside = (indices >= 0) & (indices < exact.shape[1])
    named = np.where(inside, indices, 0)
    gap = np.abs(np.take_along_axis(exact, expected, 1) - np.take_along_axis(exact, named, 1))
    allowed = np.take_along_axis(error, expected, 1) + np.take_along_axis(error, named, 1)
    explained: Mask = inside & (gap <= allowed)
    return explained
