"""Run one executor against the integer model, with every proof that it allows, and record the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bitproof.pipeline.errors import InputError
from bitproof.pipeline.executor import Codes, Executor, FloatReference, MatrixUnit, Requantizer
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.ledger import CheckEntry, ProofEntry
from bitproof.pipeline.parity import ParityReport, compare_codes
from bitproof.pipeline.plan import ExecutorStep, make_executor
from bitproof.pipeline.progress import Progress, ShowsProgress, silent
from bitproof.pipeline.registry import EXECUTORS, FUNCTIONS, resolve
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import QEMU_ARM, VERILATOR
from bitproof.pipeline.vectors import Vectors, load_vectors

MAX_OPERATIONS = 1 << 42
"""On all drawn samples together: ResNet-50 on 1,000."""

SIMULATORS = (("c", QEMU_ARM), ("rtl", VERILATOR))
"""Which program runs the executors of a kind; its version belongs in the ledger."""


@runtime_checkable
class Measured(Protocol):
    """An executor that can tell what it costs: bytes, instructions, cycles."""

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return its costs; *codes*, shape (N, inputs), are inputs to measure on."""
        ...


class CheckResult(BaseModel):
    """What the check of one executor found; ``checks/<slot>.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: CheckEntry
    proofs: tuple[ProofEntry, ...]
    accuracy: float | None
    resources: dict[str, int | float | str]
    tools: dict[str, str] = {}


def accuracy_percent(run: RunFolder, outputs: Codes, labels: NDArray[np.int64]) -> float:
    """Return how many percent of *outputs*, shape (N, outputs), name the class that *labels*, shape (N,), holds.

    The integer model tells what its output codes stand for.
    """
    model = resolve(FUNCTIONS, "load-integer-model")(run.artifact("integer").path)
    classes: Codes = resolve(FUNCTIONS, "classify")(model, outputs)
    return 100.0 * float((classes == labels).mean())


def reference_outputs(run: RunFolder, vectors: Vectors) -> Codes:
    """Return the integer model's output codes on *vectors*."""
    executor: Executor = resolve(EXECUTORS, "integer")(run.artifact("integer"))
    return executor(vectors.codes)


def run_vectors(run: RunFolder) -> Vectors:
    """Return the vectors that the run's configuration asks for, without labels where no class is named."""
    config = run.config()
    vectors = load_vectors(run.artifact("data"), config.split).head(config.parity.samples)
    return vectors if config.labelled else replace(vectors, labels=None)


def compare(run: RunFolder, step: ExecutorStep, executor: Executor, vectors: Vectors) -> tuple[ParityReport, Codes]:
    """Compare *executor* with the integer model on *vectors*; return the report and the executor's outputs."""
    outputs = executor(vectors.codes)
    report = compare_codes(
        reference_outputs(run, vectors), outputs, names=("integer", step.name), origin=vectors.origin
    )
    return report, outputs


def require_affordable(operations: int, samples: int) -> None:
    """Refuse to run a network of so many *operations* a sample on *samples* drawn ones where nobody would wait for it.

    Raises:
        InputError: they are more than :data:`MAX_OPERATIONS`.
    """
    if operations * samples > MAX_OPERATIONS:
        raise InputError(
            f"{samples} drawn samples take {operations * samples} operations, {operations} each; at most "
            f"{MAX_OPERATIONS} are carried out: import the file with --samples {max(1, MAX_OPERATIONS // operations)}, "
            "or with --vectors of your own"
        )


def run_check(run: RunFolder, step: ExecutorStep, progress: Progress = silent) -> CheckResult:
    """Run executor *step* on the test vectors and through every proof that it allows."""
    executor = make_executor(
        step, run.artifact(step.source), run.artifact("integer"), workdir=run.workdir(step.slot), cache=run.cache
    )
    vectors = run_vectors(run)
    model = resolve(FUNCTIONS, "load-integer-model")(run.artifact("integer").path)
    config = run.config()
    if isinstance(config, ImportConfig) and config.vectors is None:
        require_affordable(resolve(FUNCTIONS, "operations-of-sample")(model), len(vectors))
    if isinstance(executor, ShowsProgress):
        executor.progress = progress
    # Asked only if a float executor differs: the file is lowered again for them.
    activations = cache(lambda: resolve(FUNCTIONS, "activations-of")(model, run.artifact("export").path))
    if isinstance(executor, FloatReference):
        judge = resolve(FUNCTIONS, "judge-reference")
        report, outputs = judge(executor, model, activations, vectors.codes, vectors.origin)
    else:
        report, outputs = compare(run, step, executor, vectors)
    proofs: list[ProofEntry] = []
    if isinstance(executor, Requantizer):
        proofs.extend(resolve(FUNCTIONS, "prove-requantization")(model, executor, activations, progress))
    if isinstance(executor, MatrixUnit):
        proofs.extend(resolve(FUNCTIONS, "prove-matrix-units")(model, executor, run.config().seed))
    resources = dict(executor.measure(vectors.codes)) if isinstance(executor, Measured) else {}
    accuracy = None if vectors.labels is None else accuracy_percent(run, outputs, vectors.labels)
    simulators = [tool for kind, tool in SIMULATORS if kind == step.kind]
    return CheckResult(
        check=CheckEntry.of(report),
        proofs=tuple(proofs),
        accuracy=accuracy,
        resources=resources,
        tools={tool.name: tool.version() or "unknown" for tool in simulators},
    )


def write_result(result: CheckResult, path: Path) -> None:
    """Write *result* to *path* by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(result.model_dump_json(indent=2) + "\n")
    partial.replace(path)
