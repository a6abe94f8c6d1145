"""From the output codes of a classifier to its answer, by the exact real numbers that the codes stand for."""

from __future__ import annotations

import numpy as np

from export.integer.ir import Coding, IntegerModel
from export.integer.ops import TopK
from pipeline import Codes


def classify(model: IntegerModel, outputs: Codes) -> Codes:
    """Return the class, shape (N,), that *outputs* of *model*, shape (N, outputs), name.

    That is the first index of a network that ends with its largest outputs; for a single output class 1 where its real
    number is positive, else 0; else the output with the largest real number, of equal ones the first. Channels of
    different scale or bias are compared as fractions.
    """
    if isinstance(model.nodes[-1], TopK):
        return outputs[:, 0].copy()
    codings = model.output_codings or (Coding(model.output_scale),)
    if outputs.shape[1] == 1:
        reals = outputs[:, 0].astype(object) * codings[0].scale + codings[0].offset
        return np.array([int(real > 0) for real in reals], dtype=np.int64)
    if len(set(codings)) == 1:
        largest: Codes = outputs.argmax(axis=1).astype(np.int64)
        return largest
    repeats = outputs.shape[1] // len(codings)
    scales, offsets = (
        np.array([getattr(coding, field) for coding in codings for _ in range(repeats)], dtype=object)
        for field in ("scale", "offset")
    )
    reals = outputs.astype(object) * scales + offsets
    return np.array([row.tolist().index(max(row)) for row in reals], dtype=np.int64)
