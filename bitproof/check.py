"""The check of one executor: it is run against the integer model, with every proof that it allows, and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.executor import (
    Codes,
    Executor,
    ExecutorPlan,
    FloatReference,
    MatrixUnit,
    Place,
    Requantizer,
)
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.ledger import CheckEntry, CostEntry, LayerEntry, ProofEntry
from bitproof.pipeline.parity import ParityReport, compare_codes
from bitproof.pipeline.progress import Progress, ShowsProgress, silent
from bitproof.pipeline.record import Record
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.vectors import Vectors, load_vectors
from bitproof.plan import INTEGER

MAX_OPERATIONS = 1 << 42
"""On all drawn samples together: ResNet-50 on 1,000."""


@runtime_checkable
class Measured(Protocol):
    """An executor that can tell what it costs: bytes, instructions, cycles."""

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return its costs; *codes*, shape (N, inputs), are inputs to measure on."""
        ...


@runtime_checkable
class HasConstructions(Protocol):
    """An executor that has several constructions of a layer, and tells which it took."""

    @property
    def layers(self) -> tuple[LayerEntry, ...]:
        """A line for each layer, without its proof."""
        ...


@runtime_checkable
class MeasuredByPart(Protocol):
    """An executor that can tell what each of its layers costs."""

    def part_costs(self, codes: Codes) -> tuple[CostEntry, ...]:
        """Return the costs of its parts, which add up; *codes*, shape (N, inputs), are inputs to measure on."""
        ...


class CheckResult(Record):
    """What the check of one executor found; ``checks/<executor>.json``."""

    check: CheckEntry
    proofs: tuple[ProofEntry, ...]
    accuracy: float | None
    resources: dict[str, int | float | str]
    tools: dict[str, str] = Field(default={})
    layers: tuple[LayerEntry, ...] = ()
    costs: tuple[CostEntry, ...] = ()


def accuracy_percent(run: RunFolder, outputs: Codes, labels: NDArray[np.int64]) -> float:
    """Return how many percent of *outputs*, shape (N, outputs), name the class that *labels*, shape (N,), holds.

    The integer model tells what its output codes stand for.
    """
    from bitproof.export.integer import classify, load

    classes = classify(load(run.artifact(INTEGER).path), outputs)
    return 100.0 * float((classes == labels).mean())


def reference_outputs(run: RunFolder, vectors: Vectors) -> Codes:
    """Return the integer model's output codes on *vectors*."""
    from bitproof.export.executors import IntegerExecutor

    return IntegerExecutor(run.artifact(INTEGER))(vectors.codes)


def open_executor(
    run: RunFolder, plan: ExecutorPlan, artifact: Artifact | None = None, workdir: Path | None = None
) -> Executor:
    """Import and return the executor *plan* of *run*.

    *artifact* is what it runs, by default that of the run; *workdir* is an existing folder for its files.
    """
    artifact = run.artifact(plan.source) if artifact is None else artifact
    workdir = run.workdir(plan.file_name) if workdir is None else workdir
    return plan.make(Place(artifact, run.artifact(INTEGER), workdir, run.cache))


def run_vectors(run: RunFolder) -> Vectors:
    """Return the vectors that the run's configuration asks for, without labels if no class is named."""
    config = run.config()
    vectors = load_vectors(run.artifact("data"), config.split).head(config.parity.samples)
    return vectors if config.labelled else replace(vectors, labels=None)


def vectors_for(plan: ExecutorPlan, vectors: Vectors) -> Vectors:
    """Return those of *vectors* that the executor *plan* is compared on."""
    return vectors if plan.samples is None else vectors.head(plan.samples)


def compare(run: RunFolder, plan: ExecutorPlan, executor: Executor, vectors: Vectors) -> tuple[ParityReport, Codes]:
    """Compare *executor* with the integer model on *vectors*; return the report and the executor's outputs."""
    outputs = executor(vectors.codes)
    report = compare_codes(reference_outputs(run, vectors), outputs, names=(INTEGER, plan.name), origin=vectors.origin)
    return report, outputs


def require_affordable(operations: int, samples: int) -> None:
    """Refuse to run a network of so many *operations* per sample on *samples* drawn ones if nobody would wait for it.

    Raises:
        InputError: they are more than :data:`MAX_OPERATIONS`.
    """
    if operations * samples > MAX_OPERATIONS:
        raise InputError(
            f"{samples} drawn samples take {operations * samples} operations, {operations} each; at most "
            f"{MAX_OPERATIONS} are carried out: import the file with --samples {max(1, MAX_OPERATIONS // operations)}, "
            "or with --vectors of your own"
        )


def run_check(run: RunFolder, plan: ExecutorPlan, progress: Progress = silent) -> CheckResult:
    """Run the executor *plan* on the test vectors and through every proof that it allows."""
    from bitproof.export.float_reference import judge_reference
    from bitproof.export.integer import load
    from bitproof.export.lower import activations_of
    from bitproof.export.proofs import prove_matrix_units, prove_requantization
    from bitproof.export.proofs.sums import ProvesSums

    executor = open_executor(run, plan)
    every = run_vectors(run)
    vectors = vectors_for(plan, every)
    model = load(run.artifact(INTEGER).path)
    config = run.config()
    if isinstance(config, ImportConfig) and config.vectors is None:
        require_affordable(model.operations, len(vectors))
    if isinstance(executor, ShowsProgress):
        executor.progress = progress
    # Asked only if a float executor differs: the file is lowered again for them.
    activations = cache(lambda: activations_of(model, run.artifact("export").path))
    if isinstance(executor, FloatReference):
        report, outputs = judge_reference(executor, model, activations, vectors.codes, vectors.origin)
    else:
        report, outputs = compare(run, plan, executor, vectors)
    proofs: list[ProofEntry] = []
    if isinstance(executor, Requantizer):
        proofs.extend(prove_requantization(model, executor, activations, progress))
    if isinstance(executor, ProvesSums):
        proofs.extend(executor.prove_sums(model))
    if isinstance(executor, MatrixUnit):
        proofs.extend(prove_matrix_units(model, executor, run.config().seed))
    layers = executor.layers if isinstance(executor, HasConstructions) else ()
    resources = dict(executor.measure(vectors.codes)) if isinstance(executor, Measured) else {}
    labels = vectors.labels if len(vectors) == len(every) else None  # of some images alone it says little
    accuracy = None if labels is None else accuracy_percent(run, outputs, labels)
    return CheckResult(
        check=CheckEntry.of(report),
        proofs=tuple(proofs),
        accuracy=accuracy,
        resources=resources,
        tools={tool.name: tool.version() or "unknown" for tool in plan.tools},
        layers=tuple(_with_proof(entry, proofs) for entry in layers),
        costs=executor.part_costs(vectors.codes) if isinstance(executor, MeasuredByPart) else (),
    )


def _with_proof(entry: LayerEntry, proofs: list[ProofEntry]) -> LayerEntry:
    """Return *entry* with how the first of *proofs* that is about its layer was decided, if it holds."""
    found = next((proof for proof in proofs if proof.layer == entry.layer), None)
    return entry if found is None or not found.holds else entry.model_copy(update={"proof": found.method})


def write_result(result: CheckResult, path: Path) -> None:
    """Write *result* to *path* by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(result.model_dump_json(indent=2) + "\n")
    partial.replace(path)
