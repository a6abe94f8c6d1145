"""``bitproof deploy``: a run on a board, compared with the integer model, and recorded in the ledger."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import typer

from bitproof.check import reference_outputs, run_vectors
from bitproof.commands.bundle import Bundled, bundle_of
from bitproof.commands.report import write_report
from bitproof.hw.pynq.board.bitproof_driver import BITSTREAM
from bitproof.hw.pynq.bundle import SUMS, read_bundle
from bitproof.hw.pynq.deploy import SelfTest, deploy
from bitproof.hw.pynq.login import Login
from bitproof.hw.pynq.returned import Returned
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.errors import GateError, InputError, StageError
from bitproof.pipeline.ledger import DeploymentEntry, MismatchEntry, mismatch_to_json, record_deployment
from bitproof.pipeline.parity import ParityReport, compare_codes
from bitproof.pipeline.progress import ProgressLines
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import INTEGER


def deploy_run(
    run_path: Path,
    login: Login,
    *,
    board: str | None,
    bit: Path | None,
    test: SelfTest,
    ask_password: bool,
    as_json: bool,
) -> None:
    """Bundle the run at *run_path*, run it on the board, and write what came out into its ledger.

    Raises:
        InputError: the run has no bitstream, or the board refuses.
        StageError: the connection was lost, or the hardware does not finish.
        GateError: the board gives other codes than the integer model.
    """
    run = RunFolder.open(run_path)
    with tempfile.TemporaryDirectory(prefix="bitproof-deploy-") as folder:
        bundled = bundle_of(run, board=board, out=Path(folder), bit=bit)
        if not bundled.runs:
            raise InputError(
                f"{run_path} has no {BITSTREAM}; build it: bitproof bitstream {run_path}, or name one: --bit FILE.bit"
            )
        files = read_bundle(bundled.folder)
    if ask_password:
        login = replace(login, password=typer.prompt(f"password of {login}", hide_input=True, err=True))
    lines = ProgressLines(f"deploy {login}", partial(typer.echo, err=True))
    returned = deploy(login, run.path.name, files, test, lines)
    entry = entry_of(run, bundled, returned, sha256_of_bytes(files[SUMS]))
    with run.locked():
        record_deployment(run.ledger, entry)
        write_report(run)
    if as_json:
        typer.echo(json.dumps(entry.model_dump(mode="json"), sort_keys=True))
    else:
        typer.echo(entry.summary())
        typer.echo(", ".join(f"{name} {value}" for name, value in entry.timing.items()), err=True)
    if entry.differing:
        raise GateError(entry.summary())


def entry_of(run: RunFolder, bundled: Bundled, returned: Returned, bundle_sha256: str) -> DeploymentEntry:
    """Return the entry of what came back, compared here with the integer model.

    Raises:
        StageError: the board ran something else than the bundle, or contradicts its own outputs.
    """
    vectors, result = run_vectors(run), returned.result
    expected = reference_outputs(run, vectors)
    executor = f"pynq:{bundled.design.board}"
    if returned.outputs.shape != expected.shape:
        raise StageError(f"{executor} returned shape {returned.outputs.shape}; {expected.shape} is expected")
    report = compare_codes(expected, returned.outputs, names=(INTEGER, executor), origin=vectors.origin)
    contradictions = {
        "bundle": (result.bundle_sha256, bundle_sha256),
        "design": (result.design_id, bundled.design.design_id),
        "outputs": (result.outputs_sha256, report.outputs_sha256),
        "count of differing codes": (result.differing, report.differing),
    }
    for what, (said, found) in contradictions.items():
        if said != found:
            raise StageError(f"{executor} says of its {what} {said}, found was {found}; deploy it again")
    return _entry(bundled, returned, report, bundle_sha256)


def _entry(bundled: Bundled, returned: Returned, report: ParityReport, bundle_sha256: str) -> DeploymentEntry:
    return DeploymentEntry(
        executor=report.actual,
        vectors=report.origin,
        samples=report.samples,
        compared=report.compared,
        differing=report.differing,
        first=None if report.first is None else MismatchEntry(**mismatch_to_json(report.first)),
        outputs_sha256=report.outputs_sha256,
        design_id=bundled.design.design_id,
        bundle_sha256=bundle_sha256,
        made_from=bundled.design.rtl_sha256,
        timing=returned.result.timing,
        tools=returned.result.versions,
    )
