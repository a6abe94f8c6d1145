"""A run for this machine and for cores that it has no tools for: the machine's own is compared all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bitproof_command import bitproof
from qonnx_files import random_mlp

from bitproof.hw.mcu.cores import CORES

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end]
CROSS_TOOLS = {
    tool.name for core in CORES.values() for tool in (core.architecture.compiler, core.architecture.emulator)
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """All programs of the system but those of the cores of the table."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in CROSS_TOOLS:
            (programs / program.name).symlink_to(program)
    return str(programs)


def test_without_cross_tools_the_host_runs_and_the_others_are_exit_code_3(tmp_path: Path, path: str) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    targets = ["--target", "c{core=rv32imac}", "--target", "c{core=cortex-m4}", "--target", "c{core=host}"]
    options = ["--samples", "40", "--runs", tmp_path / "runs"]
    outcome = bitproof("import", tmp_path / "net.onnx", *targets, *options, path=path)
    assert outcome.code == 3
    for missing in ("gcc-riscv64-unknown-elf", "gcc-arm-none-eabi"):
        assert f"apt-get install --no-install-recommends {missing}" in outcome.err
    run = tmp_path / "runs" / "net"
    ledger = json.loads((run / "ledger.json").read_text())
    (check,) = (check for check in ledger["checks"] if check["actual"] == "c:host")
    assert (check["samples"], check["differing"]) == (40, 0)
    assert [proof["holds"] for proof in ledger["proofs"] if proof["actual"] == "c:host"] == [True] * 5
    assert {entry["stage"] for entry in ledger["failures"]} == {"firmware-rv32imac", "firmware-cortex-m4"}
    assert ledger["resources"]["c:host"].keys() == {"macs", "weight_bytes", "arena_bytes"}
    assert bitproof("explain", run, "--executor", "c:host").code == 0
    flipped = bitproof("explain", run, "--flip-bit", "c:host@fc0:1,2")
    assert flipped.code == 1
    assert "cause: wrong weight: weight of fc0 [1, 2]" in flipped.out


def test_a_run_for_both_is_made_again_byte_by_byte(tmp_path: Path) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    targets = ["--target", "c{core=rv32imac}", "--target", "c{core=host}"]
    options = ["--samples", "40", "--runs", tmp_path / "runs"]
    outcome = bitproof("import", tmp_path / "net.onnx", *targets, *options)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "net"
    assert bitproof("verify", run).code == 0
    for executor in ("c:rv32imac", "c:host"):
        found = bitproof("verify", run, "--flip-bit", executor)
        assert found.code == 1, found.err
        assert f"error: {executor} against integer on drawn[0:40]: " in found.err
    library = run / "library-host" / "network.so"
    image = library.read_bytes()
    library.write_bytes(image[:-1] + bytes([image[-1] ^ 1]))
    refused = bitproof("verify", run)
    assert refused.code == 1
    assert "library-host" in refused.err
