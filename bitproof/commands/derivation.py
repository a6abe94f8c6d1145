"""A run made a second time, from what of it cannot be derived: so that what it states can be compared with what is so.

A run that somebody else made is data. Its inputs (data, weights, a QONNX file, the configuration) are taken over, after
their digests; everything else is made again by the stages of this version in a folder of its own, and every executor
runs what was made here. Nothing of the run is executed, and nothing in its folder is written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bitproof.commands.stage import run_stage
from bitproof.pipeline.artifact import Artifact, plain_files, seal
from bitproof.pipeline.errors import BitproofError, InputError, IntegrityError
from bitproof.pipeline.ledger import FailureEntry
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.stage import StagePlan
from bitproof.plan import RunPlan


@dataclass(frozen=True, slots=True)
class Derivation:
    """A run and what was made of its inputs.

    Attributes:
        run: the run at hand.
        again: the same run, made again.
        plan: of both.
        taken_over: names of the stages whose artifacts are inputs.
    """

    run: RunFolder
    again: RunFolder
    plan: RunPlan
    taken_over: tuple[str, ...]

    def leave_out(self, name: str, why: str) -> None:
        """Record that the check called *name* is not carried out, so that what needs it is left out, too."""
        path = self.again.failure(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FailureEntry(stage=name, exit_code=2, message=why).model_dump_json() + "\n")

    def make(self, names: Sequence[str]) -> None:
        """Carry out the stages and checks called *names*, in this order; what is taken over is put in its place.

        A stage of a target or a check that fails is recorded, as in any run.

        Raises:
            IntegrityError: an input is not what its manifest says, or holds what is no plain file.
            BitproofError: a stage that all targets share fails.
        """
        for name in names:
            if name in self.taken_over:
                if not (self.again.path / name).exists():
                    _take_over(self.run, self.again, self.plan.stage(name))
                continue
            try:
                run_stage(name, self.again.path)
            except BitproofError:
                if name not in self.plan.may_fail:
                    raise


@contextmanager
def derivation_of(run: RunFolder, *, trust_code: bool) -> Iterator[Derivation]:
    """Yield the derivation of *run*, with nothing made yet; its folder is gone afterwards.

    Args:
        run: a finished run.
        trust_code: Python files that its configuration names may be executed.
    """
    plan = RunPlan(run.config())
    taken_over = plan.network.inputs(trust_code=trust_code)
    with tempfile.TemporaryDirectory(prefix="bitproof-verify-") as folder:
        again = RunFolder(Path(folder).resolve() / run.path.name)
        _keep_inputs(run, again, plan)
        again.write_config(plan.config)
        yield Derivation(run, again, plan, taken_over)


def _keep_inputs(run: RunFolder, again: RunFolder, plan: RunPlan) -> None:
    """Copy the users' files that *run* keeps for its targets: those alone, not what lies where they came from.

    Raises:
        IntegrityError: *run* holds one no longer, or another.
    """
    for name, file in plan.inputs.items():
        try:
            again.keep_input(run.input_file(file.sha256))
        except InputError as error:
            raise IntegrityError(f"the input {name} was changed after the run kept it: {error}") from error


def _take_over(run: RunFolder, again: RunFolder, stage: StagePlan) -> None:
    """Copy the artifact of *stage*, and seal it as what this version would have made it: its payload alone counts."""
    recorded = run.artifact(stage.name)
    partial = again.path / "tmp" / stage.name
    copy_plain_files(recorded.path, partial)
    made_from = () if stage.source is None else (again.artifact(stage.source).sha256,)
    final = again.path / stage.name
    copy = seal(
        partial,
        final,
        stage=stage.name,
        kind=stage.make().produces,
        made_from=made_from,
        tools=recorded.tools,
    )
    if copy.sha256 != recorded.sha256:
        raise IntegrityError(
            f"artifact {stage.name!r} at {recorded.path} was changed after it was made: SHA-256 {copy.sha256}, "
            f"recorded {recorded.sha256}. Delete the folder and run the stage again"
        )


def copy_plain_files(source: Path, target: Path) -> None:
    """Copy the folder *source* to the new folder *target*, its manifest left out.

    Raises:
        IntegrityError: it holds a link, a pipe, a device or anything else that is no file and no folder.
    """
    target.mkdir(parents=True)
    for path in sorted(plain_files(source)):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def differing_files(recorded: Artifact, derived: Artifact) -> list[str]:
    """Return the names of the files of two artifacts that are not byte for byte the same, or are in one alone."""
    one, two = (
        {path.relative_to(a.path).as_posix(): path for path in plain_files(a.path)} for a in (recorded, derived)
    )
    return [
        name
        for name in sorted(one.keys() | two.keys())
        if name not in one or name not in two or one[name].read_bytes() != two[name].read_bytes()
    ]
