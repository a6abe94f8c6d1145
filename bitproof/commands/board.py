"""``bitproof board``: the images of a run go to an open FPGA over its serial line, and its codes are compared."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import typer

from bitproof.check import reference_outputs, run_vectors
from bitproof.commands.parity import require_ledger
from bitproof.commands.recorded_artifacts import require_recorded
from bitproof.pipeline.errors import ConfigError, GateError
from bitproof.pipeline.ledger import CheckEntry, Ledger
from bitproof.pipeline.parity import ParityReport, compare_codes
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import INTEGER, RunPlan

BITSTREAM = "bitstream"
TIMEOUT_S = 5.0
"""Of one reply: an image of 100,000 bytes takes 1 s at 1,000,000 baud."""


def compare_board(run_path: Path, port: str, *, samples: int | None, as_json: bool) -> None:
    """Send the first *samples* of the run's vectors to the board on *port*; its codes have to be the model's.

    On all vectors they have to be those whose digest is in the ledger, too.

    Raises:
        ConfigError: the run made no bitstream.
        GateError: the board gives other codes.
        InputError: the port cannot be opened, or the board holds another design.
        StageError: the board does not answer.
        ToolMissingError: pyserial is not installed.
    """
    from bitproof.hw.synth.host import BoardExecutor, open_port
    from bitproof.hw.synth.netlist import open_fpga_of, read_netlist

    run = RunFolder.open(run_path)
    ledger, plan = require_ledger(run), RunPlan(run.config())
    if BITSTREAM not in plan.stage_names:
        raise ConfigError(f"{run_path} made no bitstream; give it a target such as finn{{board=ulx3s-85f}}")
    require_recorded(run, ledger)
    artifact = run.artifact(BITSTREAM)
    artifact.verify()
    description = read_netlist(artifact.path)
    vectors = run_vectors(run)
    shown = vectors if samples is None else vectors.head(samples)
    name = f"board:{description.board}"
    with closing(open_port(port, open_fpga_of(description.board).baud, timeout_s=TIMEOUT_S)) as opened:
        executor = BoardExecutor(opened, description, name)
        outputs = executor(shown.codes)
    expected = reference_outputs(run, shown)
    report = compare_codes(expected, outputs, names=(INTEGER, name), origin=shown.origin)
    if len(shown) == len(vectors):
        require_recorded_outputs(report, ledger)
    content = {"run": run.path.name, "ok": report.ok, "port": port, "sent_again": executor.repeated}
    if as_json:
        typer.echo(json.dumps({**content, "check": CheckEntry.of(report).model_dump(mode="json")}, sort_keys=True))
    else:
        typer.echo(report.summary())
    report.require()


def require_recorded_outputs(report: ParityReport, ledger: Ledger) -> None:
    """Check that the digest of the board's codes is that of the netlist in the ledger.

    Raises:
        GateError: it is another one.
    """
    recorded = {check.actual: check.outputs_sha256 for check in ledger.checks if check.actual.startswith("netlist:")}
    for name, digest in recorded.items():
        if report.ok and digest != report.outputs_sha256:
            raise GateError(f"{report.actual} gives codes with the digest {report.outputs_sha256}; {name} has {digest}")
