"""The int64 NumPy interpreter: runs a model node by node, as :mod:`bitproof.export.integer.ops` defines each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod

import numpy as np

from bitproof.export.integer.ir import IntegerModel
from bitproof.export.integer.ops import Node
from bitproof.export.integer.types import INPUT
from bitproof.pipeline import Codes, InputError

After = Callable[[Node, Codes], Codes]
"""Is given a node and its output, shape (N, *sample shape), and returns what the nodes behind it are given instead."""

ELEMENTS_AT_ONCE = 1 << 20
"""Elements of the largest value computed at a time, to bound the memory; four times as many are no faster."""


def require_codes(model: IntegerModel, codes: Codes) -> None:
    """Refuse input *codes* that *model* does not take.

    Raises:
        InputError: the codes have another shape than (N, inputs), or one does not occur in the model's input.
    """
    if codes.ndim != 2 or codes.shape[1] != model.inputs:
        raise InputError(f"{model.name!r} takes codes of shape (N, {model.inputs}), not {codes.shape}")
    allowed = model.allowed_codes
    if codes.size and not (allowed[0] <= codes.min() <= codes.max() <= allowed[-1]):
        raise InputError(
            f"{model.name!r} takes {model.input} codes ({allowed[0]}..{allowed[-1]}); "
            f"given {codes.min()}..{codes.max()}"
        )
    if allowed.step != 1 and ((codes - allowed[0]) % allowed.step).any():
        raise InputError(f"{model.name!r} takes the codes {list(allowed)} alone; others are given")


def trace(model: IntegerModel, codes: Codes) -> dict[str, Codes]:
    """Run *codes*, shape (N, inputs), and return the output of every node by its name, shape (N, *sample shape).

    Raises:
        InputError: the codes have another shape, or one does not occur in the model's input.
    """
    require_codes(model, codes)
    values = {INPUT: codes.astype(np.int64).reshape(len(codes), *model.shape)}
    for node, sources in model.wired():
        values[node.name] = node.apply(*(values[source] for source in sources))
    del values[INPUT]
    return values


def run(model: IntegerModel, codes: Codes, *, after: After | None = None) -> Codes:
    """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs).

    A value is dropped when the last node that takes it has run, and samples go through in groups, so the memory is
    bounded by the largest layer. *after* stands behind every node, for a machine that is not what the model says.

    Raises:
        InputError: the codes have another shape, or one does not occur in the model's input.
    """
    require_codes(model, codes)
    largest = max(prod(shape) for shape in model.shapes().values())
    rows = max(1, ELEMENTS_AT_ONCE // largest)
    groups = [_run_group(model, codes[start : start + rows], after) for start in range(0, len(codes), rows)]
    return np.concatenate(groups) if groups else np.zeros((0, model.outputs), dtype=np.int64)


def _run_group(model: IntegerModel, codes: Codes, after: After | None) -> Codes:
    pending = Counter(source for _, sources in model.wired() for source in sources)
    values = {INPUT: codes.astype(np.int64).reshape(len(codes), *model.shape)}
    for node, sources in model.wired():
        made = node.apply(*(values[source] for source in sources))
        values[node.name] = made if after is None else after(node, made)
        for source in sources:
            pending[source] -= 1
            if not pending[source]:
                values.pop(source, None)
    return values[model.nodes[-1].name].reshape(len(codes), -1)
