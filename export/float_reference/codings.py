"""What a float reference that knows nothing of the integer model must be told to give its codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.integer import IntegerModel, Threshold, load
from export.integer.ir import Coding
from export.integer.magnitudes import sums_of
from export.lowering import load_origins
from pipeline import InputError
from pipeline.float_error import sum_error
from pipeline.output_coding import OutputCoding


def output_coding(model: IntegerModel) -> OutputCoding:
    """Return what the output codes of *model* stand for, and how far a binary32 sum of each may lie from it."""
    last = model.nodes[-1].name
    shape, sums = model.shapes()[last], sums_of(model)[last]
    codings = model.output_codings or (Coding(model.output_scale),) * shape[0]
    # The magnitudes are those of the node's own channels; codings may be one for each element of a vector.
    magnitudes = sums.magnitudes * (len(codings) // len(sums.magnitudes))
    errors = [
        sum_error(coding.scale, coding.offset, magnitude, sums.terms)
        for coding, magnitude in zip(codings, magnitudes, strict=True)
    ]
    repeats = model.outputs // len(codings)
    scales, offsets = ([float(getattr(coding, field)) for coding in codings] for field in ("scale", "offset"))
    return OutputCoding(*(np.repeat(np.array(numbers), repeats) for numbers in (scales, offsets, errors)))


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
