"""``bitproof explain``: the first layer at which an executor and the integer model diverge, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from bitproof.check import open_executor, run_vectors, vectors_for
from bitproof.commands.absent_executors import why_absent
from bitproof.commands.recorded_artifacts import finish_command
from bitproof.commands.verify import Flip, flipped
from bitproof.export.divergence import Explanation, explain_run
from bitproof.pipeline.artifact import MANIFEST, Artifact
from bitproof.pipeline.errors import ConfigError, GateError, ToolMissingError
from bitproof.pipeline.executor import ExecutorPlan
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.vectors import Vectors
from bitproof.plan import INTEGER, RunPlan


def explain_executors(
    run_path: Path, *, executor: str | None, samples: int | None, flip_bit: str | None, as_json: bool
) -> None:
    """Compare executors of the run with the integer model, layer by layer if they allow it, and explain them.

    Args:
        run_path: the run.
        executor: one executor; None: all.
        samples: at most so many samples; None: those of the run.
        flip_bit: explain an executor on a copy of its artifact with one weight bit flipped, see :class:`Flip`.
        as_json: print one JSON object.

    Raises:
        ConfigError: the run has no such executor, or none of which the artifacts are there.
        IntegrityError: an artifact was changed.
        GateError: an executor differs; where and why is on stdout.
    """
    run = RunFolder.open(run_path)
    flip = None if flip_bit is None else Flip.parse(flip_bit)
    if flip is not None and executor not in (None, flip.executor):
        raise ConfigError(f"--flip-bit {flip_bit} explains {flip.executor}; leave out --executor {executor}")
    if (run.path / INTEGER / MANIFEST).is_file():  # where there is none, the configuration tells what to do
        run.artifact(INTEGER).verify()
    asked = executor if flip is None else flip.executor
    there, absent = _executors(run, asked, copied=flip is not None)
    vectors = run_vectors(run)
    vectors = vectors if samples is None else vectors.head(samples)
    explained = []
    with _artifacts(run, there, flip) as pairs:
        for step, artifact in pairs:
            try:
                found = _explain(run, step, artifact, vectors, asked=asked is not None)
            except ToolMissingError as error:
                if asked is not None:
                    raise
                absent[step.name] = str(error)
                continue
            explained.append(found)
            if not as_json:
                typer.echo("\n".join(found.lines()))
    if not explained:
        raise ConfigError(_nothing(run, absent))
    _require_equal(run, explained, absent, vectors, as_json=as_json)


def _executors(run: RunFolder, asked: str | None, *, copied: bool) -> tuple[list[ExecutorPlan], dict[str, str]]:
    """Return the executors of *run* that can be explained, and why each other one cannot.

    If a flipped copy is *asked* for, ``copied``, it may be one of the integer model, and its name is checked later.

    Raises:
        ConfigError: there is none, or the one that is *asked* for is not among them.
    """
    plan = RunPlan(run.config())
    for name in (INTEGER, "data"):
        why = why_absent(run, plan, name)
        if why is not None:
            raise ConfigError(f"{run.path} has nothing to compare with: {why}; finish the run: {finish_command(run)}")
    step = None if asked is None else plan.executor(asked)
    if asked is not None and step is None and not copied:
        names = ", ".join(step.name for step in plan.executors)
        raise ConfigError(f"this run has no executor {asked!r}; it has {names}")
    steps = plan.executors if step is None else (step,)
    reasons = {step.name: why_absent(run, plan, step.source) for step in steps}
    there = [step for step in steps if reasons[step.name] is None]
    absent = {name: why for name, why in reasons.items() if why is not None}
    if not there:
        raise ConfigError(_nothing(run, absent))
    return there, absent


def _nothing(run: RunFolder, absent: Mapping[str, str]) -> str:
    lines = "\n".join(f"  {name}: {why}" for name, why in absent.items())
    finish = f"once that is put right, finish the run: {finish_command(run)}"
    return f"nothing of {run.path} can be explained:\n{lines}\n{finish}"


def _require_equal(
    run: RunFolder, explained: list[Explanation], absent: Mapping[str, str], vectors: Vectors, *, as_json: bool
) -> None:
    """Print what is left to say, and raise a GateError if an executor differs."""
    ok = all(found.ok for found in explained)
    if as_json:
        missing = [{"executor": name, "why": why} for name, why in absent.items()]
        executors = [found.as_json() for found in explained]
        content = {"run": run.path.name, "ok": ok, "executors": executors, "absent": missing}
        typer.echo(json.dumps(content, sort_keys=True))
    else:
        for name, why in absent.items():
            typer.echo(f"{name}: not explained: {why}")
    if not ok:
        names = ", ".join(found.executor for found in explained if not found.ok)
        raise GateError(f"not equal to the integer model on {vectors.origin}: {names}")


@contextmanager
def _artifacts(
    run: RunFolder, steps: list[ExecutorPlan], flip: Flip | None
) -> Iterator[list[tuple[ExecutorPlan, Artifact]]]:
    """Yield *steps*, each with the artifact that it runs; with *flip* the one that it names, with its copy."""
    if flip is not None:
        with flipped(run, flip) as (step, artifact, _):
            yield [(step, artifact)]
        return
    artifacts = [(step, run.artifact(step.source)) for step in steps]
    for _, artifact in artifacts:
        artifact.verify()
    yield artifacts


def _explain(run: RunFolder, plan: ExecutorPlan, artifact: Artifact, vectors: Vectors, *, asked: bool) -> Explanation:
    """Compare one executor; its units are run alone if it was *asked* for, or if its outputs differ."""
    executor = open_executor(run, plan, artifact, run.workdir(f"{plan.file_name}-explained"))
    codes = vectors_for(plan, vectors).codes
    return explain_run(executor, run.artifact(INTEGER).path, run.artifact("export").path, codes, units=asked)
