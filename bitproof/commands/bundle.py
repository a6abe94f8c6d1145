"""``bitproof bundle``: the folder that goes onto a board, with driver, golden vectors, ledger and self-test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import typer

from bitproof.check import reference_outputs, run_vectors
from bitproof.commands.bitstream import project_folder, rtl_and_design
from bitproof.commands.parity import require_ledger
from bitproof.hw.pynq.bitstream import bitstream_in, read_bitstream
from bitproof.hw.pynq.board.bitproof_driver import BITSTREAM
from bitproof.hw.pynq.bundle import write_bundle
from bitproof.hw.pynq.design import Design
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.ledger import canonical_bytes
from bitproof.pipeline.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle that was written: its folder, its design, and whether a bitstream is in it."""

    folder: Path
    design: Design
    runs: bool


def make_bundle(run_path: Path, *, board: str | None, out: Path, bit: Path | None, as_json: bool) -> None:
    """Write the bundle of the run at *run_path* and say where it is.

    Raises:
        InputError: the run has no RTL, or the bit file cannot be read.
    """
    made = bundle_of(RunFolder.open(run_path), board=board, out=out, bit=bit)
    if as_json:
        content = {"bundle": str(made.folder), "design_id": made.design.design_id, "bitstream": made.runs}
        typer.echo(json.dumps(content))
        return
    typer.echo(str(made.folder))
    if not made.runs:
        typer.echo(f"it holds no {BITSTREAM} yet: bitproof bitstream {run_path}, or --bit FILE.bit", err=True)


def bundle_of(run: RunFolder, *, board: str | None, out: Path, bit: Path | None) -> Bundled:
    """Write the bundle of *run* into the folder of its name in *out*.

    Args:
        run: a run that is finished.
        board: by default that of its target ``finn``.
        out: the folder of all bundles.
        bit: a bit file, with its ``.hwh`` beside it; None: that of the run, if it was built.

    Raises:
        InputError: the run has no RTL, or the bit file cannot be read.
    """
    if bit is not None and not bit.is_file():
        raise InputError(f"--bit {bit} is no file; name a bit file, its .hwh beside it")
    _, design = rtl_and_design(run, board)
    bitstream = (
        bitstream_in(project_folder(run, design.board), design)
        if bit is None
        else read_bitstream(bit, _description_beside(bit))
    )
    vectors = run_vectors(run)
    folder = out / run.path.name
    write_bundle(
        folder,
        design,
        inputs=vectors.codes,
        expected=reference_outputs(run, vectors),
        ledger=canonical_bytes(require_ledger(run).model_dump(mode="json")),
        bitstream=bitstream,
    )
    return Bundled(folder, design, bitstream is not None)


def _description_beside(bit: Path) -> Path:
    """Return the ``.hwh`` beside the bit file *bit*.

    Raises:
        InputError: *bit* names no file.
    """
    if not bit.name:
        raise InputError(f"--bit {bit} names no file; give a bit file, its .hwh beside it: --bit FILE.bit")
    return bit.with_suffix(".hwh")
