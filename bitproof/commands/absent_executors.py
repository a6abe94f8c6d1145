"""Executors of a run that cannot be examined, and why: a stage before them failed, was not made, or is outdated."""

from __future__ import annotations

from bitproof.pipeline.artifact import MANIFEST
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan


def why_absent(run: RunFolder, plan: RunPlan, stage: str) -> str | None:
    """Return in one line why *run* has no artifact of *stage* that goes with those before it; None: it has one.

    An artifact that was made from an earlier version of its source does not count: it is of another network.

    Raises:
        IntegrityError: a manifest is damaged.
    """
    failures = {failure.stage: failure for failure in run.failures()}
    for link in plan.chain(stage):
        name, source = link.name, link.source
        if name in failures:
            failure = failures[name]
            said = failure.message.partition("\n")[0]
            return f"stage {name} failed (exit code {failure.exit_code}): {said}"
        if not (run.path / name / MANIFEST).is_file():
            return f"stage {name} has not been carried out"
        if source is not None and run.artifact(source).sha256 not in run.artifact(name).made_from:
            return f"{name} was made from an earlier {source}"
    return None
