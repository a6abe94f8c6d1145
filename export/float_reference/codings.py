"""The codings that a float reference, which knows nothing of the integer model, must be told to give its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitproof.export.integer import IntegerModel, Threshold, load
from bitproof.export.integer.ir import Coding
from bitproof.export.integer.surd import Surd
from bitproof.export.lowering import load_origins
from bitproof.pipeline import InputError
from bitproof.pipeline.float_error import NORMALIZATION_ROUNDINGS, OUTWARD, PRECISION, SUM_ROUNDINGS, largest_exact_sum
from bitproof.pipeline.output_coding import OutputCoding


def output_coding(model: IntegerModel) -> OutputCoding:
    """Return what the output codes of *model* stand for, and how far a binary32 sum of each may lie from it.

    Raises:
        InputError: a batch norm makes a constant of an output, in which no code can be seen.
    """
    last = model.nodes[-1].name
    shape, sums = model.values[last].shape, model.values[last].sums
    codings = model.output_codings or (Coding(model.output_scale),) * shape[0]
    constant = next((channel for channel, coding in enumerate(codings) if not coding.scale), None)
    if constant is not None:
        raise InputError(
            f"output {constant} of {model.name!r} is constant, since its batch norm has the weight 0: no code can be "
            "seen in it; leave that output out, or give its batch norm another weight"
        )
    # The magnitudes are those of the node's own channels; codings may be one for each element of a vector.
    magnitudes = sums.magnitudes * (len(codings) // len(sums.magnitudes))
    errors = [
        0.0
        if magnitude <= exact_limit(coding, PRECISION)
        else relative_error_of(coding, sums.terms, PRECISION)
        * abs(float(coding.slope))
        * (magnitude + constant_of(coding))
        for coding, magnitude in zip(codings, magnitudes, strict=True)
    ]
    repeats = model.outputs // len(codings)
    scales, offsets = ([float(getattr(coding, field)) for coding in codings] for field in ("slope", "intercept"))
    return OutputCoding(*(np.repeat(np.array(numbers), repeats) for numbers in (scales, offsets, errors)))


def relative_error_of(coding: Coding, terms: int, precision: int) -> float:
    """Return by which part of its magnitudes an output of *terms* terms may be off, in floats of *precision* bits."""
    roundings = terms + SUM_ROUNDINGS + (0 if _is_plain(coding) else NORMALIZATION_ROUNDINGS)
    return roundings / ((1 << precision) - roundings) * OUTWARD if 2 * roundings < 1 << precision else float("inf")


def exact_limit(coding: Coding, precision: int) -> int:
    """Return up to which sum of magnitudes, in codes, floats give an output without rounding; -1: never."""
    return largest_exact_sum(abs(coding.scale), coding.offset, precision) if _is_plain(coding) else -1


def constant_of(coding: Coding) -> float:
    """Return the magnitudes of what is added to an output, in codes."""
    return float(Surd.root(coding.root) * abs(coding.offset) + abs(coding.shift)) / abs(float(coding.slope))


def _is_plain(coding: Coding) -> bool:
    """Tell whether no batch norm stands behind the last sum."""
    return coding.root == 1 and not coding.shift


def reference_codings(integer: Path) -> tuple[OutputCoding, tuple[str, ...]]:
    """Return the coding of the outputs of the model in *integer*, and its activations that are quantizers of the file.

    Raises:
        InputError: the real outputs of the network are not those that the codes stand for.
    """
    model, origins = load(integer), load_origins(integer)
    if origins.dropped:
        name, operation = origins.dropped[0]
        raise InputError(
            f"the network ends with {operation} ({name}), so that its outputs stand for no codes; leave that to the "
            "loss function, or to who reads the outputs: it changes no order of classes"
        )
    shown = tuple(n.name for n in model.nodes if isinstance(n, Threshold) and n.name in origins.nodes)
    return output_coding(model), shown
