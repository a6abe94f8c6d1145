"""Firmware and Verilog of others: neither runs a command on the host, nor opens a file that it was not given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from integer_networks import random_network
from mcu_firmware import built_firmware

from bitproof.hw.mcu import FirmwareExecutor, qemu
from bitproof.hw.rtl.tasks import ALLOWED, require_known_tasks
from bitproof.pipeline import Artifact, StageError
from bitproof.pipeline.toolchain import ARM_GCC

HOSTILE = """
    .syntax unified
    .cpu cortex-m0
    .thumb
    .word 0x20001000
    .word reset + 1
    .thumb_func
reset:
    ldr r0, =OPERATION
    ldr r1, =arguments
    bkpt 0xab
    ldr r2, =result
    ldr r3, [r2]
    movs r0, #0x20
    ldr r1, =leave
    bkpt 0xab
    b .
    .align 2
arguments: .word text, MODE, TEXT_BYTES
leave: .word 0x20026, 0
result: .word 0
text: .asciz "TEXT"
"""
"""A vector table, one request to the host, and the end of the emulation with exit code 0."""


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_firmware(random_network((5, 4, 3)), tmp_path_factory.mktemp("firmware"), "cortex-m0").path


def run_hostile(firmware: Path, tmp_path: Path, operation: int, first: int, text: str) -> FirmwareExecutor:
    """Put firmware of one semihosting request in the place of *firmware*, and return its executor."""
    folder = tmp_path / "firmware"
    shutil.copytree(firmware, folder)
    source = HOSTILE.replace("OPERATION", hex(operation)).replace("TEXT_BYTES", str(len(text)))
    source = source.replace("TEXT", text).replace("MODE", str(first))
    (tmp_path / "hostile.s").write_text(source)
    ARM_GCC.run(
        ["-mcpu=cortex-m0", "-nostdlib", "-Wl,-Ttext=0", "hostile.s", "-o", folder / "firmware.elf"],
        needed_by="test",
        cwd=tmp_path,
        log=tmp_path / "gcc.log",
        timeout_s=60,
    )
    return FirmwareExecutor(Artifact("firmware", "firmware", folder, ""), tmp_path / "work", "cortex-m0")


@pytest.mark.tool
@pytest.mark.parametrize("sandbox", [True, False])
def test_firmware_that_asks_for_a_command_gets_none(
    firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sandbox: bool
) -> None:
    """Without the sandbox of QEMU it gets one: the request is what it is meant to be."""
    if not sandbox:
        monkeypatch.setattr(qemu, "MACHINE_OPTIONS", qemu.MACHINE_OPTIONS[: qemu.MACHINE_OPTIONS.index("-sandbox")])
    target = tmp_path / "work" / "owned"
    text = f"touch {target}"
    executor = run_hostile(firmware, tmp_path, 0x12, len(text), text)  # SYS_SYSTEM: text, length
    with pytest.raises((StageError, FileNotFoundError)):
        executor(np.zeros((1, 5), dtype=np.int64))
    assert target.exists() is not sandbox


@pytest.mark.tool
@pytest.mark.parametrize(("place", "made"), [("work", True), ("elsewhere", False)])
def test_firmware_opens_no_file_outside_of_its_folder(
    firmware: Path, tmp_path: Path, place: str, *, made: bool
) -> None:
    """SYS_OPEN for writing; within its folder it may, which shows that the request is what it is meant to be."""
    (tmp_path / place).mkdir(exist_ok=True)
    target = tmp_path / place / "written"
    executor = run_hostile(firmware, tmp_path, 0x01, 5, str(target))
    with pytest.raises((StageError, FileNotFoundError)):
        executor(np.zeros((1, 5), dtype=np.int64))
    assert target.exists() is made


@pytest.mark.parametrize(
    "text",
    [
        'initial $system("touch /tmp/owned");',
        'integer f = $fopen("/etc/passwd");',
        'initial $c("system(0);");',
        "`systemc_header\n#include <cstdlib>\n`verilog",
        'import "DPI-C" function void system(string s);',
        'initial $value$plusargs("x=%s", x);',
        "`define T(x) $``x\ninitial `T(system)(0);",
        'initial $\nsystem("x");',
        "`define W $write``memh\ninitial `W(0);",
        '`include "/tmp/tasks.svh"',
        'initial $writememh("/etc/x", memory);',
    ],
)
def test_verilog_that_asks_the_host_for_something_is_refused_by_name(text: str) -> None:
    with pytest.raises(StageError, match=r"^rtl/x.sv, line [12], uses .* beyond a simulation; allowed are "):
        require_known_tasks("rtl/x.sv", text)


def test_verilog_of_a_simulation_passes() -> None:
    words = " ".join(f"{task}(x)" for task in sorted(ALLOWED))
    require_known_tasks("x.sv", f"{words}\nint q[$]; // a queue\nint last = q[$]; x inside {{[1:$]}}")
