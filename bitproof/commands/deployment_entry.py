"""The rules of a deployment entry: what of it cannot be, though nobody can run that board again."""

from __future__ import annotations

from collections.abc import Iterator

from bitproof.commands.bitstream import RTL
from bitproof.hw.pynq.design import board_names
from bitproof.pipeline.ledger import CheckEntry, DeploymentEntry, Ledger


def deployment_contradictions(ledger: Ledger) -> list[str]:
    """Return what of the deployments in *ledger* contradicts itself, or its checks and artifacts, one line each."""
    rtl = next((artifact.sha256 for artifact in ledger.artifacts if artifact.stage == RTL), None)
    check = next((check for check in ledger.checks if check.actual == RTL), None)
    found = []
    names = [entry.executor for entry in ledger.deployments]
    for entry in ledger.deployments:
        lines = [*_alone(entry), *_beside(entry, rtl, check)]
        if names.count(entry.executor) > 1:
            lines.append("it is recorded twice; a board has one deployment")
        found += [f"deployment on {entry.executor}: {line}" for line in lines]
    return list(dict.fromkeys(found))


def _alone(entry: DeploymentEntry) -> Iterator[str]:
    known = [f"pynq:{name}" for name in board_names()]
    if entry.executor not in known:
        yield f"there is no such executor; known: {', '.join(known)}"
    if (entry.first is None) != (entry.differing == 0):
        yield f"differing = {entry.differing}, and first = {entry.first}"
    if entry.differing > entry.compared or entry.compared % entry.samples:
        yield f"{entry.differing} of {entry.compared} codes of {entry.samples} samples cannot differ"


def _beside(entry: DeploymentEntry, rtl: str | None, check: CheckEntry | None) -> Iterator[str]:
    if entry.made_from != rtl:
        yield f"made_from = {entry.made_from} is not the run's RTL, {rtl}; deploy it again"
    if check is None:
        yield "the ledger has no check of rtl that it could agree with"
        return
    for name in ("vectors", "samples", "compared"):
        said, expected = getattr(entry, name), getattr(check, name)
        if said != expected:
            yield f"{name} = {said!r}, and the check of rtl has {expected!r}; deploy it again"
    if check.differing == 0 and (entry.differing == 0) != (entry.outputs_sha256 == check.outputs_sha256):
        yield f"outputs_sha256 = {entry.outputs_sha256} and differing = {entry.differing} contradict the check of rtl"
