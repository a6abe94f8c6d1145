"""The answer of a classifier, from its output codes by the exact real numbers that the codes stand for."""

from __future__ import annotations

import numpy as np

from bitproof.export.integer.ir import Coding, IntegerModel
from bitproof.export.integer.ops import TopK
from bitproof.pipeline import Codes

UNIT, NO_UNDERFLOW = 2.0**-53, 2.0**-1000
"""Largest relative error of one rounding to binary64; more than all errors of gradual underflow here."""


def classify(model: IntegerModel, outputs: Codes) -> Codes:
    """Return the class, shape (N,), that *outputs* of *model*, shape (N, outputs), name.

    That is the first index of a network that ends with its largest outputs; for a single output class 1 if its real
    number is positive, else 0; else the output with the largest real number, of equal ones the first. Channels of
    different scale or bias are compared as fractions.
    """
    if isinstance(model.nodes[-1], TopK):
        return outputs[:, 0].copy()
    codings = model.output_codings or (Coding(model.output_scale),)
    if outputs.shape[1] == 1:
        real = [(codings[0].slope * int(code) + codings[0].intercept).sign() for code in outputs[:, 0]]
        return np.array([int(sign > 0) for sign in real], dtype=np.int64)
    if len(set(codings)) == 1 and codings[0].scale > 0:
        largest: Codes = outputs.argmax(axis=1).astype(np.int64)
        return largest
    repeats = outputs.shape[1] // len(codings)
    each = [coding for coding in codings for _ in range(repeats)]
    if all(coding.root == 1 for coding in each):
        scales, offsets = (
            np.array(numbers, dtype=object)
            for numbers in ([coding.scale for coding in each], [coding.offset + coding.shift for coding in each])
        )
        reals = outputs.astype(object) * scales + offsets
        return np.array([row.tolist().index(max(row)) for row in reals], dtype=np.int64)
    return _by_roots(each, outputs)


def _by_roots(codings: list[Coding], outputs: Codes) -> Codes:
    """Return the index of the largest real number, of equal ones the first, if some have a square root.

    In binary64 a number is off by at most ``8 u (|slope * code| + |intercept|)``, u = 2^-53: five roundings. Only
    numbers that this does not tell from the largest are compared exactly.
    """
    slopes, intercepts = [coding.slope for coding in codings], [coding.intercept for coding in codings]
    products = outputs * np.array([float(slope) for slope in slopes])
    constants = np.array([float(intercept) for intercept in intercepts])
    slack = 8 * UNIT * (np.abs(products) + np.abs(constants)) + NO_UNDERFLOW
    low, high = products + constants - slack, products + constants + slack
    classes = []
    for row, codes in enumerate(outputs.tolist()):
        possible = np.flatnonzero(~(high[row] < low[row].max())).tolist()
        best = possible[0]
        for index in possible[1:]:
            more = (slopes[index] * codes[index] + intercepts[index]) - (slopes[best] * codes[best] + intercepts[best])
            best = index if more.sign() > 0 else best
        classes.append(best)
    return np.array(classes, dtype=np.int64)
