"""The self-test finds every flipped bit of a weight, on the host and on an emulated core, and says where it looked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coded_networks import coded_network
from integer_graphs import every_operation, on_a_line, pooled_groups, residual_network
from integer_networks import random_network
from mcu_host import SANITIZERS, WARNINGS
from mcu_selftest import SelfTestFirmware

from bitproof.export.integer import IntegerModel, IntegerType, run
from bitproof.hw.mcu.codegen import write_sources
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.mcu.selftest import (
    MOST_OUTPUT_BYTES,
    MOST_VECTORS,
    SelfTest,
    checksum,
    draw,
    drawn_input,
    self_test_of,
)
from bitproof.pipeline.toolchain import GCC, run_program

DEEP = random_network((37, 6, 5, 7, 3), weight_type=IntegerType(8, signed=True), act_bits=(2, 4, 8))
TERNARY = random_network((203, 9, 150, 3), weight_range=(-1, 1))
PROGRAM = """#include <stdio.h>
#include "net_selftest.h"
int32_t memory[NET_SELFTEST_BYTES / 4 + 1];
int main(void) {{
    printf("%ld\\n", (long)net_selftest({memory}, {size}));
    return 0;
}}
"""


def generated(model: IntegerModel, folder: Path) -> Manifest:
    folder.mkdir(parents=True)
    return write_sources(plan_network(model, "net"), folder, model_sha256="0" * 64, core="cortex-m4")


def drawn_test(model: IntegerModel, folder: Path) -> SelfTest:
    return self_test_of(plan_network(model), generated(model, folder).products)


def answer(folder: Path, memory: str = "memory", size: str = "NET_SELFTEST_BYTES") -> int:
    """Compile the self-test in *folder* under sanitizers, and return what it says."""
    (folder / "main.c").write_text(PROGRAM.format(memory=memory, size=size))
    sources = sorted(path.relative_to(folder) for path in (folder / "src").glob("*.c"))
    options: list[str | Path] = [*WARNINGS, *SANITIZERS, "-Isrc", *sources, "main.c", "-o", "main"]
    GCC.run(options, needed_by="host test", cwd=folder, log=folder / "gcc.log", timeout_s=120)
    log = folder / "run.log"
    log.unlink(missing_ok=True)
    run_program([str(folder / "main")], needed_by="host test", cwd=folder, log=log, timeout_s=60)
    return int(log.read_text().split()[-1])


def test_the_vectors_are_the_ends_and_codes_that_all_occur() -> None:
    assert (drawn_input(1, 9, 16) == 0).all()
    assert (drawn_input(2, 9, 16) == 15).all()
    for vector in (0, 4, 6):
        assert set(drawn_input(vector, 500, 16).tolist()) == set(range(16))
    for vector in (3, 5, 7):
        assert set(drawn_input(vector, 500, 16).tolist()) == {0, 15}
    assert set(draw(3, 5000, 256).tolist()) == set(range(256))
    assert not np.array_equal(draw(0, 50, 256), draw(1, 50, 256))


def test_one_other_accumulator_is_always_another_checksum() -> None:
    numbers = np.array([5, -7, 0, 1 << 30, -(1 << 31)], dtype=np.int64)
    for place in range(numbers.size):
        for bit in range(32):
            other = numbers.copy()
            other[place] ^= 1 << bit
            assert checksum(other) != checksum(numbers)


def test_the_table_stays_small_for_any_network(tmp_path: Path) -> None:
    for widths in ((784, 64, 10), (20, 6, 300), (20, 6, 5000)):
        test = drawn_test(random_network(widths, weight_range=(-1, 1)), tmp_path / str(widths[-1]))
        assert 1 <= len(test.outputs) <= MOST_VECTORS
        assert len(test.outputs) == 1 or test.outputs.size * 4 <= MOST_OUTPUT_BYTES
    model = TERNARY
    test = drawn_test(model, tmp_path / "ternary")
    codes = np.stack([drawn_input(vector, model.inputs, 256) for vector in range(len(test.outputs))])
    np.testing.assert_array_equal(test.outputs, run(model, codes), strict=True)


@pytest.mark.tool
@pytest.mark.parametrize("network", [residual_network, every_operation, pooled_groups, on_a_line])
def test_networks_of_every_operation_pass_on_the_host(network: Callable[[], IntegerModel], tmp_path: Path) -> None:
    generated(network(), tmp_path / "net")
    assert answer(tmp_path / "net") == 0


@pytest.mark.tool
@pytest.mark.parametrize("codes", [range(-1, 2, 2), range(-3, 4), range(-256, 254, 2)])
def test_codes_that_are_not_their_bytes_are_drawn_all_the_same(codes: range, tmp_path: Path) -> None:
    generated(coded_network(codes, range(-4, 4)), tmp_path / "net")
    assert answer(tmp_path / "net") == 0


@pytest.mark.tool
def test_what_differs_is_told_by_its_number(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    manifest = generated(DEEP, folder)
    vectors, outputs = len(self_test_of(plan_network(DEEP), manifest.products).outputs), manifest.outputs
    source = folder / "src/net_selftest.c"
    text = source.read_text()
    rows = re.findall(r"^    -?[0-9].*,$", text, re.MULTILINE)
    third = rows[2].split(",")
    third[1] = f" {int(third[1]) + 1}"
    source.write_text(text.replace(rows[2], ",".join(third)))
    assert answer(folder) == 2 * outputs + 1 + 1, "output 1 of input 2"
    last = text.rindex("0x")
    source.write_text(text[:last] + "0x00000001u" + text[last + 11 :])
    assert answer(folder) == vectors * outputs + len(manifest.products), "the last product"
    source.write_text(text)
    assert answer(folder) == 0
    assert answer(folder, memory="NULL") == -1
    assert answer(folder, size="NET_SELFTEST_BYTES - 1") == -2
    assert answer(folder, memory="(char *)memory + 1") == -3


@pytest.mark.tool
@pytest.mark.parametrize("name", ["deep", "ternary", "groups"])
def test_every_flipped_weight_bit_is_found_in_qemu(name: str, tmp_path: Path) -> None:
    model = {"deep": DEEP, "ternary": TERNARY, "groups": pooled_groups()}[name]
    firmware = SelfTestFirmware.build(model, tmp_path)
    assert firmware.answer() == 0
    generator = np.random.default_rng(0)
    for _ in range(12):
        with firmware.flipped(generator) as flipped:
            assert firmware.answer() > 0, flipped
    assert firmware.answer() == 0, "each flip was taken back"


@pytest.mark.tool
def test_it_is_not_linked_unless_it_is_called(tmp_path: Path) -> None:
    firmware = SelfTestFirmware.build(DEEP, tmp_path / "called")
    plain = SelfTestFirmware.build(DEEP, tmp_path / "not", called=False)
    assert b"mlp_selftest" in firmware.elf.read_bytes()
    assert b"mlp_selftest\0" not in plain.elf.read_bytes()
