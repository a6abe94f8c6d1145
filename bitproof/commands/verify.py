"""``bitproof verify``: nothing of a run is executed, what it states is derived again; and one flipped bit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from bitproof.check import CheckResult, compare, open_executor, run_vectors
from bitproof.commands.comparison import as_json as comparison_as_json
from bitproof.commands.comparison import compare_with_derivation, report_differs
from bitproof.commands.deployment_entry import deployment_contradictions
from bitproof.commands.derivation import Derivation, derivation_of
from bitproof.commands.parity import judge, require_ledger
from bitproof.commands.recorded_artifacts import artifact_problems, finish_command
from bitproof.commands.sign import require_signed
from bitproof.commands.verify_calibrations import verify_calibrations
from bitproof.pipeline.artifact import Artifact, sha256_of_bytes
from bitproof.pipeline.confined import landlock_version
from bitproof.pipeline.errors import BitproofError, ConfigError, GateError, IntegrityError, StageError, ToolMissingError
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.ledger import Ledger, read_ledger
from bitproof.pipeline.plain_file import read_json
from bitproof.pipeline.run_folder import RunFolder, config_to_json
from bitproof.plan import INTEGER, PARITY, REPORT, RunPlan


class MissingToolsError(BitproofError):
    """A part of a run cannot be verified on this machine."""

    exit_code = 3


def verify_run(
    run_path: Path, *, quick: bool = False, trust_code: bool = False, signed_by: Path | None = None, as_json: bool
) -> None:
    """Make everything of the run again that can be derived, run it, and compare it and the ledger field by field.

    Args:
        run_path: the run, which is only read; nothing that it brought is executed.
        quick: only hash the artifacts again.
        trust_code: Python files that its configuration names may be executed.
        signed_by: an SSH public key whose holder must have signed the ledger; None: no signature is asked for.
        as_json: print one JSON object.

    Raises:
        IntegrityError: an artifact or the ledger is not what was recorded.
        GateError: a file or a field is not what was derived; an executor differs from the integer model, or a proof
            or gate fails.
        MissingToolsError: a program that is needed is not installed.
    """
    run = RunFolder.open(run_path)
    ledger = require_ledger(run)
    if signed_by is not None:
        require_signed(run, ledger, signed_by)
        typer.echo(f"signed by the holder of {signed_by}", err=True)
    plan = RunPlan(run.config())
    problems = list(artifact_problems(run, ledger, hash_again=True))
    if problems:
        raise IntegrityError("\n".join(problems))
    typer.echo(f"{len(ledger.artifacts)} artifacts unchanged", err=True)
    reasons = [*_missing(run, plan, ledger), *judge(ledger, tuple(executor.name for executor in plan.executors))]
    reasons += deployment_contradictions(ledger)
    if quick:
        _conclude(
            ledger,
            reasons,
            f"{len(ledger.artifacts)} artifacts hashed; nothing was made or run again (--quick)",
            {"quick": True},
            as_json=as_json,
        )
        return
    if landlock_version() < 1:
        typer.echo("warning: this kernel has no Landlock, so that no program is confined to its folder", err=True)
    with derivation_of(run, trust_code=trust_code) as derivation:
        derive(derivation, trust_code=trust_code)
        comparison = compare_with_derivation(derivation, ledger, trust_code=trust_code)
        derived = read_ledger(derivation.again.ledger)
        reasons += [*comparison.lines, *judge(derived, tuple(executor.name for executor in plan.executors))]
        reasons += verify_calibrations(run, derivation.again, ledger)
        reasons += results_beside(run, plan, ledger)
        differing = [] if comparison.fields else report_differs(derivation, ledger)
        reasons += [
            f"{name} is not the page that the ledger gives: bitproof report RUN writes it again" for name in differing
        ]
        _require_tools(derivation)
    for line in comparison.stated:
        typer.echo(f"stated, not verified: {line}", err=True)
    made = len(derived.artifacts) - len(derivation.taken_over)
    done = f"{made} artifacts made again, {len(derived.checks)} executors verified, {_outcome(derived)}"
    content = {"quick": False, "checks": [check.model_dump(mode="json") for check in derived.checks]}
    _conclude(ledger, reasons, done, {**content, **comparison_as_json(comparison)}, as_json=as_json)


def _conclude(ledger: Ledger, reasons: list[str], done: str, content: dict[str, object], *, as_json: bool) -> None:
    """Print what came out; a run that is not what it states is an error.

    Raises:
        GateError: with all *reasons*.
    """
    reasons = list(dict.fromkeys(reasons))
    if as_json:
        typer.echo(json.dumps({"run": ledger.run, "ok": not reasons, **content, "reasons": reasons}))
    elif not reasons:
        typer.echo(f"{ledger.run}: {done}")
    if reasons:
        raise GateError("\n".join(reasons))


def derive(derivation: Derivation, *, trust_code: bool) -> None:
    """Make every artifact, check and the ledger of *derivation*.

    Raises:
        GateError: a stage that every target needs cannot be carried out on what the run holds.
        ToolMissingError: a program that it needs is not installed.
    """
    plan, left_out = derivation.plan, derivation.plan.network.left_out(trust_code=trust_code)
    for name in left_out:
        derivation.leave_out(f"check-{name}", "a user's code was not executed")
    checks = [executor.check for executor in plan.executors if executor.name not in left_out]
    try:
        derivation.make((*plan.stage_names, *checks, PARITY, REPORT))
    except ToolMissingError:
        raise
    except BitproofError as error:
        raise GateError(f"the run cannot be derived again from its inputs: {error}") from error


def _require_tools(derivation: Derivation) -> None:
    """Refuse to conclude where a program was missing: what it makes was not verified.

    Raises:
        MissingToolsError: with what the stages said.
    """
    missing = [failure.message for failure in derivation.again.failures() if failure.exit_code == 3]
    if missing:
        raise MissingToolsError("\n".join(missing))


def _outcome(derived: Ledger) -> str:
    rounded = [check.actual for check in derived.checks if check.rounded]
    return f"all equal but for what float rounding explains in {' and '.join(rounded)}" if rounded else "all equal"


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
    return reasons


def results_beside(run: RunFolder, plan: RunPlan, ledger: Ledger) -> list[str]:
    """Return which files in ``checks`` say something else than *ledger*, which was made from them; some may be gone."""
    reasons = []
    for executor in plan.executors:
        file = run.check(executor.file_name)
        if not file.is_file():
            continue
        try:
            result = CheckResult.model_validate(read_json(file))
        except (OSError, ValueError) as error:  # pydantic's own is one, too
            raise IntegrityError(f"{file} is not the result of a check: {error}") from error
        name = executor.name
        same = {
            "check": result.check in ledger.checks,
            "proofs": all(proof in ledger.proofs for proof in result.proofs),
            "accuracy": result.accuracy == ledger.accuracy.get(name),
            "resources": result.resources == ledger.resources.get(name, {}),
            "layers": all(layer in ledger.layers for layer in result.layers),
            "costs": all(part in ledger.costs for part in result.costs),
            "tools": result.tools.items() <= ledger.tools.items(),
        }
        place = file.relative_to(run.path)
        reasons += [f"{place}: its {field} is not in the ledger" for field, is_same in same.items() if not is_same]
    return reasons


def flip_and_verify(run_path: Path, spec: str, *, trust_code: bool = False, as_json: bool) -> None:
    """Flip the weight bit that *spec* names in an artifact that is made again, and run it; it must be found.

    Raises:
        ConfigError: the run has no such executor, its artifact no such weight, or the weight changes no output.
        GateError: the flipped bit was found, as it should be.
        StageError: it was not found: the check would be blind.
    """
    run = RunFolder.open(run_path)
    require_ledger(run)
    flip = Flip.parse(spec)
    plan = RunPlan(run.config())
    executor = _flippable(plan, flip)
    with derivation_of(run, trust_code=trust_code) as derivation:
        wanted = {
            *(stage.name for stage in plan.chain(executor.source)),
            *(s.name for s in plan.chain(INTEGER)),
            "data",
        }
        derivation.make([name for name in plan.stage_names if name in wanted])
        with flipped(derivation.again, flip) as (found, artifact, bit):
            _require_difference(derivation.again, found, artifact, bit, as_json=as_json)


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


def _flippable(plan: RunPlan, flip: Flip) -> ExecutorPlan:
    """Return the executor that *flip* names.

    Raises:
        ConfigError: *plan* has none of that name in whose artifact a bit can be flipped.
    """
    executors = [executor for executor in (*plan.executors, REFERENCE) if executor.flip is not None]
    found = next((executor for executor in executors if flip.executor in (executor.name, executor.file_name)), None)
    if found is None:
        allowed = ", ".join(executor.name for executor in executors)
        raise ConfigError(f"cannot flip a bit of {flip.executor!r}; allowed in this run: {allowed}")
    return found


@contextmanager
def flipped(run: RunFolder, flip: Flip) -> Iterator[tuple[ExecutorPlan, Artifact, FlippedBit]]:
    """Yield an executor, a copy of its artifact with one weight bit flipped, and which; the copy goes afterwards.

    Raises:
        ConfigError: the run has no such executor, or its artifact no such weight.
    """
    from bitproof.export.integer import choose_weight, load

    plan = _flippable(RunPlan(run.config()), flip)
    assert plan.flip is not None
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
