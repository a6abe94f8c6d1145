"""The verdict on a float reference: equal to the integer model, explained by rounding errors, or unexplained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod

import numpy as np

from bitproof.export.float_reference.walk import Walk, walk
from bitproof.export.integer import IntegerModel, run
from bitproof.export.proofs import Activations
from bitproof.pipeline import Codes, FloatReference, ParityReport, compare_codes
from bitproof.pipeline.progress import ShowsProgress, silent

ELEMENTS_AT_ONCE = 1 << 23
"""So many codes of all layers together are held at a time."""


def judge_reference(
    executor: FloatReference,
    model: IntegerModel,
    activations: Callable[[], Activations],
    codes: Codes,
    origin: str,
) -> tuple[ParityReport, Codes]:
    """Compare *executor* with *model* on *codes*, shape (N, inputs), layer by layer.

    An output code that differs is explained if no difference of its sample is unexplained, in whatever layer.

    Args:
        executor: the float reference.
        model: the integer model.
        activations: gives the exact activations of the model; asked only if something differs.
        codes: input codes.
        origin: what they are called in the report.

    Returns:
        The report, and the reference's output codes.
    """
    found, outputs = walk_reference(executor, model, activations, codes)
    expected = outputs.copy()  # what the model gives, too, where no code of the sample differs
    expected[found.differing] = run(model, codes[found.differing])
    report = compare_codes(expected, outputs, names=("integer", executor.name), origin=origin)
    explained = int(((expected != outputs) & ~found.faulty[:, None]).sum())
    return replace(report, explained=explained, explained_layers=found.explained, unexplained=found.first), outputs


def walk_reference(
    executor: FloatReference, model: IntegerModel, activations: Callable[[], Activations], codes: Codes
) -> tuple[Walk, Codes]:
    """Walk along *model* beside *executor* on *codes*, in groups of samples; return what was found and its outputs."""
    nothing = np.zeros(len(codes), dtype=np.bool_)
    total = Walk(0, {}, {}, nothing.copy(), nothing)
    outputs = [np.zeros((0, model.outputs), dtype=np.int64)]
    progress = executor.progress if isinstance(executor, ShowsProgress) else silent
    for start, chosen in _groups(model, codes):
        progress("samples beside the integer model", start, len(codes))
        observation = executor.observe(chosen)
        outputs.append(observation.codes)
        part = walk(model, chosen, observation, activations, precision=executor.precision_bits)
        total.compared += part.compared
        _count(total.explained, part.explained)
        _count(total.unexplained, part.unexplained)
        total.differing[start : start + len(chosen)] = part.differing
        total.faulty[start : start + len(chosen)] = part.faulty
        if total.first is None and part.first is not None:
            total.first = replace(part.first, sample=part.first.sample + start)
    return total, np.concatenate(outputs)


def _count(total: dict[str, int], part: dict[str, int]) -> None:
    for layer, count in part.items():
        total[layer] = total.get(layer, 0) + count


def _groups(model: IntegerModel, codes: Codes) -> Iterator[tuple[int, Codes]]:
    rows = max(1, ELEMENTS_AT_ONCE // sum(prod(shape) for shape in model.shapes().values()))
    for start in range(0, len(codes), rows):
        yield start, codes[start : start + rows]
