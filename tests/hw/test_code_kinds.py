"""Signed codes, codes about a zero point, bipolar codes, and codes as outputs: in C, as firmware, in FINN's RTL."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coded_networks import NARROW8, TERNARY, coded_network, drawn_codes
from hypothesis import given
from hypothesis import strategies as st
from mcu_firmware import built_firmware
from mcu_host import HostExecutor, compile_host, host_executor
from rtl_builds import build_rtl, simulators

from bitproof.export.divergence import Cause, explain
from bitproof.export.integer import IntegerModel, IntegerType, MatMul, run
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.finn import FinnExecutor
from bitproof.hw.finn.fault import flip_weight_bit as flip_rtl
from bitproof.hw.mcu import FirmwareExecutor, flip_weight_bit
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import STACK_BYTES
from bitproof.hw.mcu.memory import SLACK_BYTES, footprint
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.pipeline import Executor, StageError, compare_codes

SIGNED8, SIGNED4, BIPOLAR, ABOUT_ZERO = range(-128, 128), range(-8, 8), range(-1, 2, 2), range(-37, 219)
NETWORKS = {
    "signed": coded_network(SIGNED8, SIGNED4, range(-7, 8), weights=NARROW8),
    "narrow signed input": coded_network(range(-3, 4), SIGNED4, SIGNED4),
    "bipolar": coded_network(BIPOLAR, BIPOLAR, BIPOLAR, weights=TERNARY),
    "bipolar behind unsigned": coded_network(range(256), BIPOLAR, range(16), bias=True),
    "about a zero point": coded_network(ABOUT_ZERO, ABOUT_ZERO, range(16), weights=NARROW8),
    "codes as outputs": coded_network(range(256), range(16), range(4), outputs=range(-4, 4)),
    "bipolar outputs, flattened": coded_network(SIGNED4, BIPOLAR, SIGNED4, outputs=BIPOLAR, shape=(1, 37)),
    "bipolar, made 0 and 2": coded_network(BIPOLAR, range(16), recoding=(1, 1), shape=(1, 37)),
    "unsigned, made odd": coded_network(range(16), range(16), recoding=(2, 5)),
    "one signed layer": coded_network(SIGNED8, widths=(37, 5)),
    "one layer of codes": coded_network(SIGNED8, outputs=SIGNED8, widths=(37, 5)),
}


def require_equal(model: IntegerModel, executor: Executor, samples: int = 50) -> None:
    codes = drawn_codes(model, samples)
    compare_codes(run(model, codes), executor(codes), names=("integer", executor.name), origin="random").require()


def require_proven(model: IntegerModel, executor: FirmwareExecutor | HostExecutor | RtlExecutor) -> None:
    proofs = (*prove_matrix_units(model, executor, 0), *prove_requantization(model, executor))
    assert len(proofs) == len(model.products) + len([n for n in model.nodes if n.op == "threshold"])
    for proof in proofs:
        assert proof.holds, proof


@given(lowest=st.integers(-300, 300), step=st.integers(1, 3), count=st.integers(1, 300))
def test_a_byte_stands_for_one_code(lowest: int, step: int, count: int) -> None:
    codes = range(lowest, lowest + step * count, step)
    as_they_are = lowest >= 0 and step == 1 and codes[-1] < 256
    if count > 256 and not as_they_are:
        with pytest.raises(ValueError, match=f"{count} codes from {lowest} to .*; a byte holds 256"):
            ByteCodes.of(codes)
        return
    stored = ByteCodes.of(codes)
    assert stored.as_they_are is as_they_are
    numbers = stored.to_bytes(np.array(codes))
    assert 0 <= numbers.min() <= numbers.max() <= 255
    assert stored.from_bytes(numbers).tolist() == list(codes)
    for wrong in (stored.codes[0] - 1, stored.codes[-1] + 1, *([lowest + 1] if step > 1 and count > 1 else [])):
        with pytest.raises(ValueError, match="allowed are"):
            stored.to_bytes(np.array([wrong]))


@pytest.mark.tool
@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_generated_c_gives_the_codes_of_the_integer_model(name: str, lanes: int, tmp_path: Path) -> None:
    model = NETWORKS[name]
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    require_equal(model, executor)
    require_proven(model, executor)


@pytest.mark.tool
def test_a_wrong_offset_of_a_row_is_found(tmp_path: Path) -> None:
    model = NETWORKS["signed"]
    executor = host_executor(model, tmp_path / "host", lanes=1)
    source = tmp_path / "host" / "coded_weights.c"
    text = source.read_text()
    offsets = re.search(r"row_offsets_1\[9\] = \{\n {4}(-?\d+)", text)
    assert offsets is not None
    start, end = offsets.span(1)
    source.write_text(text[:start] + str(int(offsets[1]) + 1) + text[end:])
    compile_host(executor.folder, executor.manifest, lanes=1)
    proofs = prove_matrix_units(model, executor, 0)
    assert [proof.holds for proof in proofs] == [True, False, True]
    assert proofs[1].first is not None
    assert proofs[1].first["channel"] == 0


@pytest.mark.tool
def test_an_input_that_is_no_code_is_refused(tmp_path: Path) -> None:
    for name, wrong in (("narrow signed input", (-4, 4)), ("bipolar", (-2, 0, 2)), ("codes as outputs", ())):
        executor = host_executor(NETWORKS[name], tmp_path / name.replace(" ", "_"), lanes=0)
        for code in wrong:
            codes = drawn_codes(NETWORKS[name], 10)
            codes[7, 5] = code
            with pytest.raises(StageError, match="host ended with code 4"):
                executor(codes)
    header = (tmp_path / "bipolar" / "coded.h").read_text()
    assert "coded_run(const int8_t *input, int32_t *output," in header
    assert "#define CODED_LEAST_INPUT (-1)\n#define CODED_LARGEST_INPUT 1\n" in header
    assert re.search(r"1: 7 bytes -> 9 accumulators in \[-\d, \d\]; byte b stands for code 2 \* b - 1\n", header)
    assert "input:  37 codes, each -1 or 1; any alignment; not changed." in header
    assert "An input code stands for 1/128 times the code. An output stands for 1 times the number." in header


@pytest.mark.tool
@pytest.mark.parametrize("name", NETWORKS)
def test_firmware_is_exact_fits_the_estimate_and_shows_a_flipped_bit(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]
    artifact = built_firmware(model, tmp_path, "cortex-m0")
    folder = artifact.path
    executor = FirmwareExecutor(artifact, tmp_path, "cortex-m0")
    require_equal(model, executor)
    require_proven(model, executor)
    estimate, sizes = footprint(model, "cortex-m0"), json.loads((folder / "size.json").read_text())
    assert sizes["flash_bytes"] <= estimate.flash_bytes <= sizes["flash_bytes"] + SLACK_BYTES
    used = sizes["bss_bytes"] + sizes["data_bytes"] + STACK_BYTES
    assert used <= estimate.ram_bytes <= used + 32
    flip_weight_bit(folder, node="fc0", row=2, column=3)
    require_found(model, executor)


def require_found(model: IntegerModel, executor: FirmwareExecutor) -> None:
    """The lowest bit of weight [2, 3] of fc0 was flipped: the bit is named, also if no code is 0."""
    divergence = explain(executor, model, drawn_codes(model, 50)).divergence
    assert divergence is not None
    assert (divergence.layer, divergence.finding.cause) == ("fc0", Cause.WRONG_WEIGHT)
    assert "[2, 3]" in divergence.finding.detail


@pytest.mark.tool
def test_firmware_refuses_what_is_no_code(tmp_path: Path) -> None:
    model = NETWORKS["bipolar"]
    executor = FirmwareExecutor(built_firmware(model, tmp_path, "cortex-m0"), tmp_path, "cortex-m0")
    zero = np.zeros((1, 37), dtype=np.int64)
    with pytest.raises(StageError, match="was given codes 0 to 0; allowed are -1 to 1 in steps of 2"):
        executor(zero)


def test_no_scratch_is_needed_beyond_what_is_kept() -> None:
    sizes = {name: plan_network(model).arena_bytes for name, model in NETWORKS.items()}
    assert sizes["one signed layer"] == 40  # the 37 bytes of its input
    assert sizes["about a zero point"] == 4 * 9 + 12  # bytes are given; 9 accumulators, 9 codes
    assert sizes["signed"] == 4 * 9 + 40


RTL = {
    "signed": coded_network(SIGNED4, SIGNED4, range(-7, 8), outputs=range(-4, 4)),
    "one bit, bipolar, flattened": coded_network(range(2), BIPOLAR, range(-1, 3), shape=(37, 1), bias=True),
}


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("name", RTL)
def test_rtl_gives_the_codes_of_the_integer_model_and_shows_a_flipped_bit(name: str, tmp_path: Path) -> None:
    model = RTL[name]
    made = build_rtl(model, tmp_path / "run", fps=1_000_000)
    require_equal(model, FinnExecutor(made.graph, tmp_path))
    executor = RtlExecutor(made.rtl, tmp_path, simulators())
    require_equal(model, executor)
    require_proven(model, executor)
    weight = next(n for n in model.nodes if isinstance(n, MatMul)).weights[2, 3]
    said = flip_rtl(made.rtl.path, node="fc0", row=2, column=3)
    assert f": {weight} became " in said
    assert not prove_matrix_units(model, RtlExecutor(made.rtl, tmp_path, simulators()), 0)[0].holds


def test_a_recoding_whose_constants_exceed_a_word_is_refused_by_name() -> None:
    for recoding in ((1 << 23, -250 << 23), (1 << 33, 0)):
        model = coded_network(range(250, 256), recoding=recoding, widths=(2, 1), weights=(0, 0))
        first = model.nodes[0]
        product = MatMul("fc0", np.array([[1, 1]]) * (recoding[1] != 0), IntegerType(2, signed=True))
        with pytest.raises(StageError, match=r"layer '(fc0|recoding)' (takes|makes|needs) .*: use smaller factors"):
            plan_network(replace(model, nodes=(first, product), wiring=None))
