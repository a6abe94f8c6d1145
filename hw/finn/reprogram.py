"""Other thresholds for generated RTL: their memories are files that the simulator reads when it starts.

Nothing is generated or compiled again, so that a simulated FPGA can be programmed in about a second. A board whose
thresholds are writable at run time would be programmed by the same fields.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from bitproof.export.integer import (
    Add,
    Affine,
    Concat,
    IntegerModel,
    MaxPool,
    Pad,
    Product,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
)
from bitproof.hw.finn.memory import Field, threshold_field
from bitproof.hw.finn.supported import code_type
from bitproof.hw.rtl.description import RtlNode, read_description
from bitproof.hw.rtl.providers import THRESHOLDING
from bitproof.pipeline import StageError

HOLDING_NOTHING = (Add, Concat, MaxPool, SumPool, Pad, Reshape, TopK, Transpose)
"""Operations without numbers that training changes."""


def reprogram_thresholds(source: Path, target: Path, original: IntegerModel, model: IntegerModel) -> bool:
    """Copy the RTL of *original* in *source* to the new folder *target*, with the thresholds of *model*.

    Returns:
        False, and nothing is copied, if *model* differs in more than its thresholds, or the hardware holds others than
        the model's (:func:`~bitproof.hw.finn.supported.in_steps_of_one`): it has to be generated.

    Raises:
        StageError: a threshold does not fit its memory, *source* does not hold the thresholds of *original*, or *model*
            adds a bias to the outputs that *original* does not: no memory holds it.
    """
    added = [node.name for node in model.nodes if isinstance(node, Affine)]
    if added and not any(isinstance(node, Affine) for node in original.nodes):
        raise StageError(
            f"layer {added[-1]!r} adds a bias to the output accumulators, which no memory of the RTL holds. "
            "Calibrate thresholds only, without output biases"
        )
    if not _differ_in_thresholds_only(original, model):
        return False
    description, after = read_description(source), {node.name: node for node in model.nodes_of(Threshold)}
    if {unit.covers for unit in description.units(THRESHOLDING)} != after.keys():
        return False  # constants of another form stand for some
    changes = [
        change
        for node in original.nodes_of(Threshold)
        for change in _changes(description.unit(node.name, THRESHOLDING), node, after[node.name], source)
    ]
    shutil.copytree(source, target)
    by_file: dict[str, list[tuple[Field, int]]] = defaultdict(list)
    for field, value in changes:
        by_file[field.file].append((field, value))
    for name, fields in by_file.items():
        path = target / name
        lines = path.read_text().split()
        for field, value in fields:
            mask = (1 << field.bits) - 1
            word = int(lines[field.word], 16) & ~(mask << field.bit) | (value & mask) << field.bit
            lines[field.word] = f"{word:0{len(lines[field.word])}x}"
        path.write_text("\n".join(lines) + "\n")
    return True


def _differ_in_thresholds_only(original: IntegerModel, model: IntegerModel) -> bool:
    if any(isinstance(node, Affine) for node in (*original.nodes, *model.nodes)):
        return False
    if [(node.name, sources) for node, sources in original.wired()] != [(n.name, s) for n, s in model.wired()]:
        return False
    pairs = list(zip(original.nodes, model.nodes, strict=True))
    weights = [(a, b) for a, b in pairs if isinstance(a, Product) and isinstance(b, Product)]
    moved = [a for a, b in pairs if type(a) is type(b) and isinstance(a, HOLDING_NOTHING)]
    shapes = [(a, b) for a, b in pairs if isinstance(a, Threshold) and isinstance(b, Threshold)]
    return (
        len(weights) + len(shapes) + len(moved) == len(pairs)
        and all(np.array_equal(a.weights, b.weights) for a, b in weights)
        and all(getattr(a, "window", None) == getattr(b, "window", None) for a, b in pairs)
        and all(a.thresholds.shape == b.thresholds.shape and a.lowest == b.lowest for a, b in shapes)
        and all(node.step == 1 and code_type(node).bits == node.levels.bit_length() for node, _ in shapes)
    )


def _changes(node: RtlNode, before: Threshold, after: Threshold, source: Path) -> list[tuple[Field, int]]:
    """Return every threshold of *after* with the field that it belongs into."""
    changes = []
    files: dict[str, list[str]] = {}
    for channel, (old_row, new_row) in enumerate(
        zip(before.thresholds.tolist(), after.thresholds.tolist(), strict=True)
    ):
        for index, (old, new) in enumerate(zip(old_row, new_row, strict=True)):
            field = threshold_field(node, channel, index)
            lines = files.setdefault(field.file, (source / field.file).read_text().split())
            raw = int(lines[field.word], 16) >> field.bit & ((1 << field.bits) - 1)
            if raw != old & ((1 << field.bits) - 1):
                raise StageError(
                    f"{node.name}: the memory {field.file} holds {raw:#x} where threshold [{channel}, {index}] = {old} "
                    "of the integer model belongs; build the RTL of this model again"
                )
            if not -(1 << (field.bits - 1)) <= new < 1 << (field.bits - 1):
                raise StageError(
                    f"{node.name}: threshold [{channel}, {index}] = {new} does not fit its memory of "
                    f"{field.bits} bits; generate the RTL of this model instead"
                )
            changes.append((field, new))
    return changes
