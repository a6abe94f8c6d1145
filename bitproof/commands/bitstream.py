"""``bitproof bitstream``: the Vivado project of a run for a PYNQ board, checked, and built if Vivado is installed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from bitproof.commands.parity import require_ledger
from bitproof.commands.recorded_artifacts import finish_command, require_recorded
from bitproof.hw.finn.target import FinnTarget
from bitproof.hw.pynq.bitstream import build_bitstream, prepare_bitstream
from bitproof.hw.pynq.design import Design, design_of
from bitproof.pipeline.artifact import MANIFEST, Artifact
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan

RTL = "rtl"


def make_bitstream(run_path: Path, *, board: str | None, as_json: bool) -> None:
    """Write the project of the run at *run_path*, check it, and build the bitstream.

    Raises:
        ConfigError: there is no such board.
        InputError: the run has no RTL.
        ToolMissingError: Vivado or tclsh is not installed.
        StageError: a check failed, Vivado failed, or timing is not met.
    """
    run = RunFolder.open(run_path)
    rtl, design = rtl_and_design(run, board)
    folder = project_folder(run, design.board)
    prepare_bitstream(rtl, design, folder)
    typer.echo(f"{folder}: project written; its Tcl, ports, widths and addresses are checked", err=True)
    built = build_bitstream(design, folder)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **asdict(built)}))
    else:
        typer.echo(
            f"{folder / 'bitproof.bit'}: Vivado {built.vivado}, slack {built.setup_slack_ns} ns (setup), "
            f"{built.hold_slack_ns} ns (hold)"
        )


def rtl_and_design(run: RunFolder, board: str | None) -> tuple[Artifact, Design]:
    """Return the RTL of *run* and its design for *board*, by default that of its target ``finn``.

    Raises:
        InputError: it has none, or a part of it was made again after its ledger.
        IntegrityError: there is no ledger, or the artifact was changed.
    """
    plan = RunPlan(run.config())
    target = next((target for target in plan.targets if isinstance(target, FinnTarget)), None)
    if target is None:
        raise InputError(f"{run.path} has no target finn; add finn{{board=pynq-z1}} to its targets and run it again")
    if not (run.path / RTL / MANIFEST).is_file():
        raise InputError(f"{run.path} holds no RTL yet; finish the run: {finish_command(run)}")
    require_recorded(run, require_ledger(run))
    rtl = run.artifact(RTL)
    rtl.verify()
    return rtl, design_of(rtl, name=run.path.name, board=board or target.board)


def project_folder(run: RunFolder, board: str) -> Path:
    """Return where the Vivado project of *run* for *board* lies."""
    return run.path / "vivado" / board
