"""``bitproof calibrate``: tune what ships by what the device that runs it gives back."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bitproof.commands.calibration_inputs import device_of, samples_of
from bitproof.commands.parity import require_ledger
from bitproof.commands.recorded_artifacts import require_recorded
from bitproof.commands.report import write_report
from bitproof.export.integer import load, save
from bitproof.hw.calibrate import Access, Outcome, Samples, Scope, Settings, run_session
from bitproof.hw.faults import FaultSpec
from bitproof.pipeline.artifact import Artifact, digest_of, seal
from bitproof.pipeline.errors import ConfigError, error_of
from bitproof.pipeline.ledger import CalibrationEntry, replace_calibrations
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import distribution_version
from bitproof.plan import INTEGER, RunPlan

EVALUATIONS = {"scalar": 1504, "logits": 750}
"""The budgets of the published figures, for executors that a target gives no smaller ones."""


@dataclass(frozen=True, slots=True)
class CalibrateRequest:
    """What the command line asks for; None: the default of the executor.

    Attributes:
        executor: name of the device, as in the ledger.
        faults: spec of simulated faults; for the executor ``integer`` only.
        fault_seed: number of the simulated chip.
        access: ``scalar`` or ``logits``.
        parameters: ``output``, ``thresholds`` or ``all``; None: all that the executor can take.
        keep_weights: calibrate no weights, although outputs can be read.
        images: images of an evaluation.
        pairs: antithetic pairs per step.
        evaluations: budget.
        held_out: most validation images to decide on; None: all.
        seed: of batches and directions.
    """

    executor: str = INTEGER
    faults: str = ""
    fault_seed: int = 0
    access: str = "scalar"
    parameters: str | None = None
    keep_weights: bool = False
    images: int = 256
    pairs: int = 8
    evaluations: int | None = None
    held_out: int | None = None
    seed: int = 0


def calibrate_run(run: RunFolder, request: CalibrateRequest, *, as_json: bool) -> None:
    """Calibrate the integer model of *run* on one of its executors, and record what came of it.

    Nothing is written into the run before the calibration is finished, so it may be interrupted at any time.

    Raises:
        ConfigError: no such executor, a bad fault spec, or faults on an executor that simulates none.
        InputError: a setting is not possible, there are no labelled images, or artifacts are not those of the ledger.
        StageError: the target cannot take what is calibrated.
        ToolMissingError: a tool of the target is not installed.
    """
    with run.locked(), _disk_problems_named():
        ledger = require_ledger(run)
        require_recorded(run, ledger)
        integer = run.artifact(INTEGER)
        integer.verify()
        model = load(integer.path)
        plan = RunPlan(run.config()).executor(request.executor)
        if plan is not None:
            request = replace(request, executor=plan.name)  # it may have been named as in file names
        device = device_of(run, request.executor, request.faults, request.fault_seed, model)
        _refuse_options_without_effect(request)
        settings = _settings(run, request)
        calibration = samples_of(run, "train", None)
        held_out = samples_of(run, "validation", request.held_out)
        _say_what_is_better(request)
        with Display(request.executor) as display:
            outcome = run_session(
                device, model, calibration, held_out, settings, announce=display.announce, progress=display.progress
            )
        others = [c for c in ledger.calibrations if c.made_from == integer.sha256]
        earlier = next((c for c in others if _device_key(c) == _device_key(request)), None)
        others = [c for c in others if c is not earlier]
        stays = _stays(earlier, held_out, outcome)
        artifact = _store(run, request, integer, outcome) if stays is None and outcome.kept else None
        entry = _entry(request, settings, held_out, outcome, integer, artifact)
        if stays is None:
            replace_calibrations(run.ledger, (*others, entry))
            _delete_unnamed(run, (*others, entry))
            if run.report.is_file():
                write_report(run)
    _report(entry, stays, as_json=as_json)


def _delete_unnamed(run: RunFolder, entries: tuple[CalibrationEntry, ...]) -> None:
    """Delete the calibrated models that no entry of the ledger names: replaced ones, and those of a killed command."""
    named = {entry.path for entry in entries}
    for folder in run.path.glob("calibrated-*"):
        if folder.name not in named and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _refuse_options_without_effect(request: CalibrateRequest) -> None:
    if request.keep_weights and request.access != "logits":
        raise ConfigError("--keep-weights has no effect without --access logits: a scalar loss changes no weights")
    if request.fault_seed and not request.faults:
        raise ConfigError(f"--fault-seed {request.fault_seed} has no effect without --faults; give the faults, too")


def _stays(earlier: CalibrationEntry | None, held_out: Samples, outcome: Outcome) -> CalibrationEntry | None:
    """Return the *earlier* calibration of the same device if the new one is not better; None: the new one counts."""
    if earlier is None or earlier.path is None:
        return None
    comparable = (earlier.held_out, earlier.samples) == (held_out.origin, len(held_out))
    return earlier if not outcome.kept or (comparable and earlier.after <= outcome.after) else None


@contextmanager
def _disk_problems_named() -> Iterator[None]:
    """Turn what the system says about files into an error for the user, as stages do."""
    try:
        yield
    except OSError as error:
        raise error_of(error, go_on="run the same command again") from error


def _settings(run: RunFolder, request: CalibrateRequest) -> Settings:
    plan = RunPlan(run.config()).executor(request.executor)
    budgets = EVALUATIONS if plan is None else {**EVALUATIONS, **plan.evaluations}
    default = budgets.get(request.access, 1)
    parameters = request.parameters or ("all" if plan is None or plan.takes_output_bias else "thresholds")
    return Settings(
        access=cast(Access, request.access),  # it refuses what it does not know
        scope=cast(Scope, parameters),
        weights=request.access == "logits" and parameters == "all" and not request.keep_weights,
        evaluations=default if request.evaluations is None else request.evaluations,
        pairs=request.pairs,
        images=request.images,
        seed=request.seed,
    )


def _say_what_is_better(request: CalibrateRequest) -> None:
    if request.access == "scalar":
        typer.echo(
            "using a scalar loss only; where the outputs of the device can be read, --access logits does better",
            err=True,
        )


def _store(run: RunFolder, request: CalibrateRequest, integer: Artifact, outcome: Outcome) -> Artifact:
    """Write the calibrated model as an artifact by a rename.

    The folder's name holds the digest, so an earlier calibration stays whole until the ledger names the new one.
    """
    stem = f"calibrated-{request.executor.replace(':', '-')}"
    partial = run.path / "tmp" / stem
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    save(outcome.model, partial)
    name = f"{stem}-{digest_of(partial)[:12]}"
    final = run.path / name
    tools = {"bitproof": distribution_version("bitproof") or "unknown"}
    return seal(partial, final, stage=name, kind=integer.kind, made_from=(integer.sha256,), tools=tools)


def _entry(
    request: CalibrateRequest,
    settings: Settings,
    held_out: Samples,
    outcome: Outcome,
    integer: Artifact,
    artifact: Artifact | None,
) -> CalibrationEntry:
    return CalibrationEntry(
        executor=request.executor,
        faults=str(FaultSpec.parse(request.faults)),
        fault_seed=request.fault_seed,
        access=settings.access,
        parameters=settings.scope,
        weights=settings.weights,
        pairs=settings.pairs,
        evaluations=outcome.evaluations,
        images=outcome.images,
        seed=settings.seed,
        held_out=held_out.origin,
        samples=len(held_out),
        before=outcome.before,
        after=outcome.after,
        kept=artifact is not None,
        path=None if artifact is None else artifact.path.name,
        sha256=None if artifact is None else artifact.sha256,
        made_from=integer.sha256,
    )


def _device_key(what: CalibrateRequest | CalibrationEntry) -> tuple[str, str, int]:
    """Return what makes a device another one: the executor and, of a simulated chip, its faults and its number."""
    return (what.executor, str(FaultSpec.parse(what.faults)), what.fault_seed)


def _report(entry: CalibrationEntry, stays: CalibrationEntry | None, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(entry.model_dump(mode="json"), sort_keys=True))
        return
    change = f"loss on {entry.samples} held-out images {entry.before:.4f} before, {entry.after:.4f} after"
    fate = f"kept in {entry.path}" if entry.kept else "not kept: it did not fall, the original stays"
    if stays is not None:
        fate = f"not kept: the earlier one in {stays.path}, with {stays.after:.4f}, is as good or better"
    typer.echo(f"{entry.executor}: {change}; {fate}")


@dataclass
class Display:
    """Cost beforehand, and a progress bar with the time left if standard error is a terminal."""

    executor: str
    started: float = field(default_factory=time.monotonic)
    bar: Progress | None = None
    task: TaskID | None = None

    def __enter__(self) -> Display:
        console = Console(stderr=True)
        if console.is_terminal:
            columns = TextColumn(f"calibrating ({self.executor})"), BarColumn(), TimeRemainingColumn()
            self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def announce(self, before: float, evaluations: int, images: int) -> None:
        """Say what follows, and what one programming with the held-out images took."""
        took = time.monotonic() - self.started
        typer.echo(
            f"{self.executor}: loss before {before:.4f}, measured in {took:.2f} s; {evaluations} evaluations of "
            f"{images} images follow (--evaluations changes it)",
            err=True,
        )
        if self.bar is not None:
            self.task = self.bar.add_task("", total=None, note="")

    def progress(self, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total, note=f"batch loss {loss:.4f}")
