"""The lowering stage: QONNX in, the integer model, its proofs and its origins out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bitproof.export.integer import KIND, IntegerModel, Threshold, load, save
from bitproof.export.lowering import Lowered, lower_graph, save_origins
from bitproof.export.proofs import Activations, prove_lowering, prove_thresholds
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.pipeline import Artifact, InputError, Stage, StageContext
from bitproof.pipeline.artifact import MANIFEST
from bitproof.pipeline.ledger import ProofEntry
from bitproof.pipeline.progress import Progress, silent

PROOFS = "proofs.json"


@dataclass(frozen=True)
class LowerToInteger(Stage):
    """Lower a QONNX file to the integer model."""

    name: ClassVar[str] = "integer"
    consumes: ClassVar[str] = "qonnx"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("numpy", "onnx")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write the integer model, ``proofs.json`` and ``origins.json``."""
        write_lowered(lower_file(source.path / FILE), ctx.workdir, ctx.progress)
        return {}


def write_lowered(lowered: Lowered, folder: Path, progress: Progress = silent) -> list[ProofEntry]:
    """Prove *lowered*, write model, origins and proofs into the existing *folder*, and return the proofs."""
    save(lowered.model, folder)
    save_origins(lowered, folder)
    proofs = prove_lowering(lowered, progress)
    text = json.dumps([proof.model_dump(mode="json") for proof in proofs], indent=1, sort_keys=True)
    (folder / PROOFS).write_text(text + "\n")
    return proofs


def derive_again(source: Artifact, integer: Artifact, scratch: Path) -> tuple[list[ProofEntry], list[str]]:
    """Lower the QONNX file of *source* again and compare with *integer*, trusting nothing that was recorded.

    Args:
        source: the QONNX artifact.
        integer: the integer model that was made from it.
        scratch: a folder for the files made on the way; what it holds is deleted.

    Returns:
        The proofs, and what differs: one line for each file that is not byte for byte the same.

    Raises:
        InputError: the file cannot be lowered.
    """
    again = scratch / "lowered-again"
    if again.exists():
        shutil.rmtree(again)
    again.mkdir(parents=True)
    lowered = lower_file(source.path / FILE)
    proofs = write_lowered(lowered, again)
    made = {path.name for path in again.iterdir()}
    held = {path.name for path in integer.path.iterdir() if path.name != MANIFEST}
    differing = [
        f"integer model: {name} is not what the QONNX file gives"
        for name in sorted(made | held)
        if name not in made or name not in held or (again / name).read_bytes() != (integer.path / name).read_bytes()
    ]
    shutil.rmtree(again)
    return proofs, [*differing, *(_wrong_thresholds(lowered, load(integer.path)) if differing else ())]


def _wrong_thresholds(lowered: Lowered, held: IntegerModel) -> Iterator[str]:
    """Yield for each activation of *held* that is not the exported one its first wrong channel and accumulator."""
    values = lowered.model.values
    nodes = {node.name: node for node in held.nodes_of(Threshold)}
    for true in lowered.model.nodes_of(Threshold):
        node = nodes.get(true.name)
        if node is None or node.thresholds.shape != true.thresholds.shape:
            yield f"proof fails: the integer model has no activation {true.name} of shape {true.thresholds.shape}"
            continue
        (source,) = lowered.model.sources(true.name)
        proof = prove_thresholds(node, lowered.activations[true.name], values[source].ranges)
        if proof.first is not None:
            at = proof.first
            yield (
                f"proof fails: {true.name}, channel {at['channel']}, accumulator {at['accumulator']}: the thresholds "
                f"give code {at['actual']}, the exported activation {at['expected']} ({proof.failing} cases)"
            )


def lower_file(path: Path) -> Lowered:
    """Lower the QONNX file at *path*; the network is named after its folder.

    Raises:
        InputError: it holds operations that cannot be lowered exactly; the message names each node.
    """
    return lower_graph(load_qonnx(path), path, path.resolve().parent.name)


def activations_of(model: IntegerModel, folder: Path) -> Activations:
    """Return the exact activations of *model* by lowering its file in *folder* again; empty: it cannot be."""
    try:
        lowered = lower_file(folder / FILE)
    except InputError:
        return {}
    again = {node.name: node for node in lowered.model.nodes_of(Threshold)}
    return {
        node.name: lowered.activations[node.name]
        for node in model.nodes_of(Threshold)
        if node.name in again and np.array_equal(again[node.name].thresholds, node.thresholds)
    }


def lower(path: Path) -> tuple[IntegerModel, list[ProofEntry]]:
    """Lower the QONNX file at *path* and prove the result.

    Raises:
        InputError: it holds operations that cannot be lowered exactly; the message names each node.
    """
    lowered = lower_file(path)
    return lowered.model, prove_lowering(lowered)
