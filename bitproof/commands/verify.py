"""``bitproof verify``: trust nothing that a run recorded; and its negative control, one flipped bit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from bitproof.check import CheckResult, compare, open_executor, run_check, run_vectors
from bitproof.commands.parity import judge, require_ledger
from bitproof.commands.recorded_artifacts import artifact_problems, finish_command
from bitproof.commands.verify_calibrations import verify_calibrations
from bitproof.pipeline.artifact import Artifact, sha256_of_bytes
from bitproof.pipeline.errors import ConfigError, GateError, IntegrityError, StageError
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.ledger import Ledger
from bitproof.pipeline.run_folder import RunFolder, config_to_json
from bitproof.plan import INTEGER, RunPlan


def verify_run(run_path: Path, *, as_json: bool) -> None:
    """Hash every artifact of the run again, run every executor and proof again, and compare with the ledger.

    Raises:
        IntegrityError: an artifact or the ledger is not what was recorded.
        GateError: an executor differs from the integer model, from the ledger, or a proof or gate fails.
    """
    run = RunFolder.open(run_path)
    ledger = require_ledger(run)
    plan = RunPlan(run.config())
    problems = list(artifact_problems(run, ledger, hash_again=True))
    if problems:
        raise IntegrityError("\n".join(problems))
    typer.echo(f"{len(ledger.artifacts)} artifacts unchanged", err=True)
    reasons = [*_missing(run, plan, ledger), *judge(ledger, tuple(executor.name for executor in plan.executors))]
    reasons.extend(_derive_again(run, ledger))
    results = []
    for recorded in ledger.checks:
        executor = plan.executor(recorded.actual)
        if executor is None:
            raise IntegrityError(
                f"the ledger of {run.path} names the executor {recorded.actual!r}, its config does not"
            )
        result = run_check(run, executor)
        typer.echo(result.check.summary(), err=True)
        results.append(result)
        if not result.check.ok:
            reasons.append(result.check.summary())
        elif result.check.outputs_sha256 != recorded.outputs_sha256:
            reasons.append(
                f"{executor.name}: outputs have SHA-256 {result.check.outputs_sha256}, not that of the ledger"
            )
        reasons.extend(
            f"proof fails: {p.layer}, {p.actual}: {p.claim}: {p.first}" for p in result.proofs if not p.holds
        )
    reasons.extend(verify_calibrations(run, ledger))
    if as_json:
        checks = [result.check.model_dump(mode="json") for result in results]
        typer.echo(json.dumps({"run": ledger.run, "ok": not reasons, "checks": checks, "reasons": reasons}))
    elif not reasons:
        typer.echo(
            f"{ledger.run}: {len(ledger.artifacts)} artifacts and {len(results)} executors verified, "
            f"{_outcome(results)}"
        )
    if reasons:
        raise GateError("\n".join(dict.fromkeys(reasons)))


def _outcome(results: list[CheckResult]) -> str:
    rounded = [result.check.actual for result in results if result.check.rounded]
    return f"all equal but for what float rounding explains in {' and '.join(rounded)}" if rounded else "all equal"


def _derive_again(run: RunFolder, ledger: Ledger) -> list[str]:
    """Lower the QONNX file again, prove it again, and return what is not as recorded."""
    from bitproof.export.lower import derive_again

    source, integer = run.artifact("export"), run.artifact(INTEGER)
    proofs, reasons = derive_again(source, integer, run.workdir(INTEGER))
    typer.echo(f"lowered again: {len(proofs)} proofs, {sum(proof.cases for proof in proofs)} cases", err=True)
    for proof in proofs:
        if proof not in ledger.proofs:
            reasons.append(f"the ledger does not hold what is proven of layer {proof.layer} now: {proof.claim}")
        if not proof.holds:
            reasons.append(f"proof fails: {proof.layer}: {proof.claim}: {proof.first}")
    return list(reasons)


def _missing(run: RunFolder, plan: RunPlan, ledger: Ledger) -> list[str]:
    """Return what the configuration asks for and the ledger does not hold: an empty ledger proves nothing."""
    reasons = [f"stage {failure.stage} failed in this run: {failure.message}" for failure in ledger.failures]
    if ledger.inputs.get("config") != sha256_of_bytes(config_to_json(plan.config).encode()):
        finish = f"finish the run: {finish_command(run)}"
        reasons.append(f"the configuration recorded in {run.path} is not the one of the ledger; {finish}")
    checked = [check.actual for check in ledger.checks]
    reasons.extend(f"the ledger has no check of {s.name}" for s in plan.executors if s.name not in checked)
    held = [artifact.path for artifact in ledger.artifacts]
    reasons.extend(f"the ledger has no artifact {name!r}" for name in plan.stage_names if name not in held)
    proven = {(proof.actual, proof.layer) for proof in ledger.proofs}
    if not proven:
        reasons.append("the ledger holds no proofs")
    return reasons


def flip_and_verify(run_path: Path, spec: str, *, as_json: bool) -> None:
    """Flip the weight bit that *spec* names in a copy of an executor's artifact and run it; it must be found.

    Raises:
        ConfigError: the run has no such executor, its artifact no such weight, or the weight changes no output.
        GateError: the flipped bit was found, as it should be.
        StageError: it was not found: the check would be blind.
    """
    run = RunFolder.open(run_path)
    require_ledger(run)
    with flipped(run, Flip.parse(spec)) as (executor, artifact, bit):
        _require_difference(run, executor, artifact, bit, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Flip:
    """Which bit to flip: ``EXECUTOR``, ``EXECUTOR@LAYER`` or ``EXECUTOR@LAYER:I,J,...``.

    Attributes:
        executor: its name in the ledger, which may hold colons.
        layer: name of a node of the integer model; None: the last one that holds weights.
        index: of the weight within the layer's weights; empty: one that shows at the outputs.
    """

    executor: str
    layer: str | None = None
    index: tuple[int, ...] = ()

    @classmethod
    def parse(cls, spec: str) -> Flip:
        """Return what *spec* names.

        Raises:
            ConfigError: it is malformed.
        """
        match = re.fullmatch(r"([^@]+)(?:@(\w+)(?::(\d{1,9}(?:,\d{1,9})*))?)?", spec)
        if match is None:
            raise ConfigError(
                f"--flip-bit {spec!r} names no bit; write EXECUTOR, EXECUTOR@LAYER or EXECUTOR@LAYER:I,J with the "
                "index of the weight, for example onnx-int8, c:cortex-m4@fc1 or onnx-int8@conv2:0,3,1,1"
            )
        executor, layer, index = match.groups()
        return cls(executor, layer, tuple(int(part) for part in index.split(",")) if index else ())


@dataclass(frozen=True, slots=True)
class FlippedBit:
    """Which bit was flipped, in words and as an option, and whether the integer model shows it at its outputs."""

    what: str
    spec: str
    visible: bool


def _run_integers(place: Place) -> Executor:
    from bitproof.export.executors import IntegerExecutor

    return IntegerExecutor(place.artifact)


def _flip_integers(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.export.integer import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)


REFERENCE = ExecutorPlan(INTEGER, INTEGER, INTEGER, "the integer model", _run_integers, flip=_flip_integers)
"""The reference itself: a bit can be flipped in a copy of it, too."""


@contextmanager
def flipped(run: RunFolder, flip: Flip) -> Iterator[tuple[ExecutorPlan, Artifact, FlippedBit]]:
    """Yield an executor, a copy of its artifact with one weight bit flipped, and which; the copy goes afterwards.

    Raises:
        ConfigError: the run has no such executor, or its artifact no such weight.
    """
    from bitproof.export.integer import choose_weight, load

    executors = [plan for plan in (*RunPlan(run.config()).executors, REFERENCE) if plan.flip is not None]
    plan = next((plan for plan in executors if flip.executor in (plan.name, plan.file_name)), None)
    if plan is None or plan.flip is None:
        allowed = ", ".join(plan.name for plan in executors)
        raise ConfigError(f"cannot flip a bit of {flip.executor!r}; allowed in this run: {allowed}")
    original, integer = run.artifact(plan.source), run.artifact(INTEGER)
    original.verify()
    integer.verify()
    weight = choose_weight(load(integer.path), run_vectors(run).codes, node=flip.layer, index=flip.index)
    copy = run.workdir(plan.file_name) / "flipped"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(original.path, copy)
    try:
        what = plan.flip(copy, node=weight.node, row=weight.row, column=weight.column)
        spec = f"{plan.name}@{weight.node}:{','.join(map(str, weight.index))}"
        typer.echo(f"flipped one bit in a copy: {what} ({spec})", err=True)
        yield plan, Artifact(plan.source, "flipped", copy, ""), FlippedBit(what, spec, weight.visible)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _require_difference(
    run: RunFolder, plan: ExecutorPlan, artifact: Artifact, bit: FlippedBit, *, as_json: bool
) -> None:
    executor = open_executor(run, plan, artifact, run.workdir(f"{plan.file_name}-flipped"))
    report, _ = compare(run, plan, executor, run_vectors(run))
    if as_json:
        first = (
            None
            if report.first is None
            else {
                "sample": report.first.sample,
                "output": report.first.output,
                "expected": report.first.expected,
                "actual": report.first.actual,
            }
        )
        content = {"executor": plan.name, "flipped": bit.what, "differing": report.differing, "first": first}
        typer.echo(json.dumps(content))
    if report.ok and not bit.visible:
        raise ConfigError(
            f"{bit.what}: no code of {report.compared} changed, and the integer model too may give the same outputs "
            f"with it: the layers behind hide it. Name another weight, or see it by 'bitproof explain {run.path} "
            f"--flip-bit {bit.spec}'"
        )
    if report.ok:
        raise StageError(
            f"{bit.what}: no code of {report.compared} changed; the check of {plan.name} is blind, please report it"
        )
    report.require()
