"""``bitproof explain``: the first layer at which an executor and the integer model part, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import typer

from pipeline.artifact import Artifact
from pipeline.check import run_vectors
from pipeline.commands.verify import Flip, flipped
from pipeline.errors import ConfigError, GateError
from pipeline.plan import ExecutorStep, Plan, make_executor
from pipeline.registry import FUNCTIONS, resolve
from pipeline.run_folder import RunFolder
from pipeline.vectors import Vectors


class Explained(Protocol):
    """What the comparison of one executor gave."""

    executor: str

    @property
    def ok(self) -> bool:
        """Every code was equal."""
        ...

    def lines(self) -> list[str]:
        """Return what was found, for a reader."""
        ...

    def as_json(self) -> Mapping[str, object]:
        """Return what was found, as plain JSON values."""
        ...


def explain_executors(
    run_path: Path, *, executor: str | None, samples: int | None, flip_bit: str | None, as_json: bool
) -> None:
    """Compare executors of the run with the integer model, layer by layer where they allow it, and explain them.

    Args:
        run_path: the run.
        executor: one executor; None: all.
        samples: at most so many samples; None: those of the run.
        flip_bit: explain an executor on a copy of its artifact with one weight bit flipped, see :class:`Flip`.
        as_json: print one JSON object.

    Raises:
        ConfigError: the run has no such executor.
        IntegrityError: an artifact is missing, or was changed.
        GateError: an executor differs; where and why is on stdout.
    """
    run = RunFolder.open(run_path)
    flip = None if flip_bit is None else Flip.parse(flip_bit)
    if flip is not None and executor not in (None, flip.executor):
        raise ConfigError(f"--flip-bit {flip_bit} explains {flip.executor}; leave out --executor {executor}")
    run.artifact("integer").verify()
    vectors = run_vectors(run)
    vectors = vectors if samples is None else vectors.head(samples)
    explained = []
    with _artifacts(run, executor, flip) as pairs:
        for step, artifact in pairs:
            found = _explain(run, step, artifact, vectors, asked=executor is not None or flip is not None)
            explained.append(found)
            if not as_json:
                typer.echo("\n".join(found.lines()))
    ok = all(found.ok for found in explained)
    if as_json:
        content = {"run": run.path.name, "ok": ok, "executors": [found.as_json() for found in explained]}
        typer.echo(json.dumps(content, sort_keys=True))
    if not ok:
        names = ", ".join(found.executor for found in explained if not found.ok)
        raise GateError(f"not equal to the integer model on {vectors.origin}: {names}")


@contextmanager
def _artifacts(
    run: RunFolder, executor: str | None, flip: Flip | None
) -> Iterator[list[tuple[ExecutorStep, Artifact]]]:
    """Yield the executors that are asked for, each with the artifact that it runs."""
    if flip is not None:
        with flipped(run, flip) as (step, artifact, _):
            yield [(step, artifact)]
        return
    plan = Plan(run.config())
    step_asked = None if executor is None else plan.executor(executor)
    if executor is not None and step_asked is None:
        names = ", ".join(step.name for step in plan.executors)
        raise ConfigError(f"this run has no executor {executor!r}; it has {names}")
    steps = plan.executors if step_asked is None else (step_asked,)
    artifacts = [(step, run.artifact(step.source)) for step in steps]
    for _, artifact in artifacts:
        artifact.verify()
    yield artifacts


def _explain(run: RunFolder, step: ExecutorStep, artifact: Artifact, vectors: Vectors, *, asked: bool) -> Explained:
    """Compare one executor; its units are run alone where it was *asked* for, or where its outputs differ."""
    integer = run.artifact("integer")
    workdir = run.workdir(f"{step.slot}-explained")
    executor = make_executor(step, artifact, integer, workdir=workdir, cache=run.cache)
    found: Explained = resolve(FUNCTIONS, "explain-divergence")(
        executor,
        integer.path,
        run.artifact("export").path,
        vectors.codes,
        units=asked,
    )
    return found
