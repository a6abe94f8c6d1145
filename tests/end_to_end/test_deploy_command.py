"""``bitproof bitstream``, ``bundle`` and ``deploy`` on a run: to a real sshd, with a simulated fabric behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bitproof_command import Outcome, bitproof
from pynq_boards import flip_last_weight
from ssh_board import USER, SshBoard, ssh_board, why_no_board

from bitproof.hw.pynq.bitstream import prepare_bitstream
from bitproof.hw.pynq.check_project import check_project
from bitproof.hw.pynq.design import design_of
from bitproof.hw.pynq.simulated.fabric import hardware_description, simulated_bitstream
from bitproof.pipeline import Artifact
from bitproof.pipeline.ledger import Ledger, read_ledger
from bitproof.pipeline.toolchain import TCLSH, VIVADO

pytestmark = [
    pytest.mark.tool,
    pytest.mark.end_to_end,
    pytest.mark.slow,
    pytest.mark.xdist_group("digits_run"),
    pytest.mark.skipif(TCLSH.find() is None, reason=f"{TCLSH.name} is missing: {TCLSH.install}"),
]


@pytest.fixture(scope="module")
def run(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "digits_mlp"
    shutil.copytree(digits_run, folder)
    return folder


@pytest.fixture(scope="module")
def bits(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bit file of the run for the simulated board, and one with a flipped weight."""
    folder = tmp_path_factory.mktemp("bits")
    rtl = Artifact.load(run / "rtl")
    design = design_of(rtl, name="digits_mlp", board="pynq-z1")
    prepare_bitstream(rtl, design, folder / "project")
    hwh = hardware_description(check_project(folder / "project", design, scratch=folder))
    shutil.copytree(rtl.path, folder / "flipped")
    flip_last_weight(folder / "flipped")
    found = {}
    for name, source in (("good", rtl), ("flipped", replace(rtl, path=folder / "flipped"))):
        bit = simulated_bitstream(source, design, cache=run.parent / ".cache", workdir=folder)
        found[name] = folder / f"{name}.bit"
        found[name].write_bytes(bit)
        found[name].with_suffix(".hwh").write_text(hwh)
    return found


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    pytest.importorskip("asyncssh", reason="pip install 'bitproof[deploy]'")
    if why_no_board():
        pytest.skip(why_no_board())
    with ssh_board(tmp_path_factory.mktemp("board")) as started:
        yield started


def deployed(run: Path, board: SshBoard, *options: object) -> Outcome:
    to = f"{USER}@127.0.0.1:{board.port}"
    return bitproof("deploy", run, "--to", to, *board.options, "--repeats", 1, *options)


def test_without_vivado_everything_is_checked_and_the_exit_code_is_3(run: Path) -> None:
    if VIVADO.find() is not None:
        pytest.skip("Vivado is installed")
    outcome = bitproof("bitstream", run)
    assert outcome.code == 3
    assert "its Tcl, ports, widths and addresses are checked" in outcome.err
    assert "the bitstream needs 'vivado', which was not found. Install it: " in outcome.err
    assert (run / "vivado" / "pynq-z1" / "build.tcl").is_file()
    assert bitproof("bitstream", run, "--board", "vcu118").code == 2


def test_a_bundle_says_whether_it_can_run(run: Path, bits: dict[str, Path], tmp_path: Path) -> None:
    outcome = bitproof("bundle", run, "--out", tmp_path, "--json")
    assert (outcome.code, json.loads(outcome.out)["bitstream"]) == (0, False)
    outcome = bitproof("bundle", run, "--out", tmp_path, "--bit", bits["good"], "--json")
    assert (outcome.code, json.loads(outcome.out)["bitstream"]) == (0, True)
    assert (tmp_path / "digits_mlp" / "bitproof.bit").read_bytes() == bits["good"].read_bytes()
    assert json.loads((tmp_path / "digits_mlp" / "ledger.json").read_text())["run"] == "digits_mlp"
    for wrong in (tmp_path / "none.bit", "."):
        outcome = bitproof("bundle", run, "--out", tmp_path, "--bit", wrong)
        assert outcome.code == 2
        assert f"--bit {wrong} is no file; name a bit file, its .hwh beside it" in outcome.err


def test_a_run_without_a_bitstream_is_not_deployed(run: Path) -> None:
    outcome = bitproof("deploy", run, "--to", "xilinx@127.0.0.1:1")
    assert outcome.code == 2
    assert "has no bitproof.bit; build it: bitproof bitstream " in outcome.err


def test_a_board_that_is_equal_is_recorded_and_the_run_stays_verified(
    run: Path, bits: dict[str, Path], board: SshBoard
) -> None:
    outcome = deployed(run, board, "--bit", bits["good"], "--json")
    assert outcome.code == 0, outcome.err
    ledger = read_ledger(run / "ledger.json")
    (entry,) = ledger.deployments
    assert json.loads(outcome.out) == json.loads(entry.model_dump_json())
    assert (entry.executor, entry.differing, entry.first) == ("pynq:pynq-z1", 0, None)
    assert entry.outputs_sha256 == rtl_outputs(ledger)
    assert entry.tools["pynq"] == "simulated"
    assert entry.timing["images_per_s"] > 0
    assert "On a board" in (run / "report.html").read_text()
    assert bitproof("verify", run, "--quick").code == 0


def rtl_outputs(ledger: Ledger) -> str:
    return next(check.outputs_sha256 for check in ledger.checks if check.actual == "rtl")


def test_a_board_with_a_flipped_weight_ends_with_1_and_fails_the_run_until_it_is_right(
    run: Path, bits: dict[str, Path], board: SshBoard
) -> None:
    outcome = deployed(run, board, "--bit", bits["flipped"])
    assert outcome.code == 1
    (entry,) = read_ledger(run / "ledger.json").deployments
    assert entry.first is not None
    first = f"first at image {entry.first.sample}, class {entry.first.output}: expected code "
    assert first in outcome.err
    failing = bitproof("verify", run, "--quick")
    assert failing.code == 1
    assert first in failing.err
    assert deployed(run, board, "--bit", bits["good"]).code == 0
    assert bitproof("verify", run, "--quick").code == 0
