"""Firmware in QEMU equals the integer model on every core; its cost is exact; a flipped bit and a fault are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from integer_networks import network_for, random_codes, random_network
from mcu_firmware import built_firmware, executor_on

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Threshold, run, trace
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.mcu import CoreName, EmulatedCore, FirmwareExecutor, HostExecutor, flip_weight_bit, measure
from bitproof.hw.mcu.elf import file_offset, sections
from bitproof.pipeline import (
    Artifact,
    MatrixUnit,
    Requantizer,
    StageError,
    TooLargeError,
    ToolMissingError,
    compare_codes,
)
from bitproof.pipeline.toolchain import GCC, Tool

pytestmark = pytest.mark.tool
DEFAULT_WIDTHS = (784, 64, 64, 64, 10)


def require_equal(model: IntegerModel, executor: FirmwareExecutor | HostExecutor, samples: int = 40) -> None:
    codes = random_codes(model, samples)
    compare_codes(run(model, codes), executor(codes), names=("integer", executor.name), origin="random").require()


@pytest.mark.parametrize("core", get_args(CoreName))
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_core_equals_the_integer_model(tmp_path: Path, core: CoreName, bits: int) -> None:
    model = random_network((37, 6, 5, 7, 3), weight_type=IntegerType(bits, signed=True), act_bits=(2, 4, 8))
    executor = executor_on(core, built_firmware(model, tmp_path, core), tmp_path / "run")
    assert executor.name == f"c:{core}"
    require_equal(model, executor)
    assert isinstance(executor, Requantizer)
    assert isinstance(executor, MatrixUnit)
    for proof in prove_matrix_units(model, executor, 0):
        assert proof.holds, proof


@pytest.mark.parametrize("core", get_args(CoreName))
def test_every_core_runs_ternary_rows(tmp_path: Path, core: CoreName) -> None:
    model = random_network((203, 9, 150, 3), weight_range=(-1, 1))
    require_equal(model, executor_on(core, built_firmware(model, tmp_path, core), tmp_path / "run"))


@pytest.mark.parametrize("core", get_args(CoreName))
def test_every_core_runs_weights_of_one_bit(tmp_path: Path, core: CoreName) -> None:
    model = random_network((139, 40, 9, 70, 3), weight_range=(-1, 1), only_ends=True, act_bits=(4, 7, 8))
    executor = executor_on(core, built_firmware(model, tmp_path, core), tmp_path / "run")
    assert {entry.layout for entry in executor.manifest.products} == {"u1"}
    require_equal(model, executor)
    for proof in prove_matrix_units(model, executor, 0):
        assert proof.holds, proof


@pytest.mark.parametrize("core", get_args(CoreName))
def test_every_core_counts_the_ones_of_codes_of_one_bit(tmp_path: Path, core: CoreName) -> None:
    model = random_network((330, 17, 3), weight_range=(-1, 1), only_ends=True, input_bits=1)
    executor = executor_on(core, built_firmware(model, tmp_path, core), tmp_path / "run")
    assert "bitproof_multiply_binary.c" in executor.manifest.sources
    require_equal(model, executor)
    assert all(proof.holds for proof in prove_matrix_units(model, executor, 0))


def test_every_reachable_accumulator_is_requantized_alike(tmp_path: Path) -> None:
    for spacing, method in (("even", "multiply-shift"), ("irregular", "thresholds")):
        model = random_network((20, 6, 4), act_bits=(4,), spacing=spacing)  # type: ignore[arg-type]
        executor = FirmwareExecutor(built_firmware(model, tmp_path / spacing), tmp_path / spacing / "run")
        assert executor.manifest.activations[0].method == method
        (proof,) = prove_requantization(model, executor)
        assert proof.holds
        assert proof.cases > 6 * 1000


@pytest.mark.parametrize("core", get_args(CoreName))
@pytest.mark.parametrize("method", ["multiply-shift-64", "rounding-shift"])
def test_every_core_requantizes_to_8_bits_without_thresholds(tmp_path: Path, core: CoreName, method: str) -> None:
    model = network_for(method)
    executor = executor_on(core, built_firmware(model, tmp_path, core), tmp_path / "run")
    assert executor.manifest.activations[0].method == method
    require_equal(model, executor)
    (proof,) = prove_requantization(model, executor)
    assert proof.holds
    assert proof.method.startswith("every reachable" if method == "rounding-shift" else "decided at the boundaries")
    node = model.nodes_of(Threshold)[0]
    ends = np.concatenate([node.thresholds.T, node.thresholds.T - 1])
    low, high = (np.array([getattr(i, end) for i in model.values["fc0"].ranges]) for end in ("low", "high"))
    accumulators = np.clip(ends, low, high)
    np.testing.assert_array_equal(node.apply(accumulators), executor.requantize_at("act0", accumulators), strict=True)


def test_accumulators_of_another_shape_or_width_are_refused(tmp_path: Path) -> None:
    executor = FirmwareExecutor(built_firmware(random_network((5, 4, 3)), tmp_path), tmp_path / "run")
    with pytest.raises(StageError, match=r"^act0 takes accumulators of shape \(N, 4\), not \(2, 3\)$"):
        executor.requantize_at("act0", np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(StageError, match=r"^accumulators 0 to 2147483648 do not fit int32$"):
        executor.requantize_at("act0", np.array([[0, 1, 2, 1 << 31]]))


def test_dual_lane_and_single_products_give_the_same_integers(tmp_path: Path) -> None:
    for bits in (2, 3, 8):
        model = random_network((45, 6, 4), weight_type=IntegerType(bits, signed=True))
        folder = tmp_path / str(bits)
        single = built_firmware(model, folder / "single", definitions=("BITPROOF_LANES=0",))
        dual = built_firmware(model, folder / "dual", definitions=("BITPROOF_LANES=1",))
        assert (single.path / "firmware.elf").read_bytes() != (dual.path / "firmware.elf").read_bytes()
        for artifact in (single, dual):
            require_equal(model, FirmwareExecutor(artifact, folder / "run"))


@pytest.mark.parametrize("core", ["cortex-m4", "rv32imac"])
def test_firmware_depends_on_the_sources_alone(tmp_path: Path, core: CoreName) -> None:
    model = random_network((20, 6, 4))
    first, second = (built_firmware(model, tmp_path / name, core) for name in ("a", "b/deeper"))
    for name in ("firmware.elf", "size.json", "manifest.json"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert str(tmp_path).encode() not in (first.path / "firmware.elf").read_bytes()


def test_instructions_are_counted_on_risc_v_too(tmp_path: Path) -> None:
    model = random_network((203, 9, 150, 3), weight_range=(-1, 1))
    executor = FirmwareExecutor(built_firmware(model, tmp_path, "rv32imac"), tmp_path / "run", "rv32imac")
    codes = random_codes(model, 20)
    cost = measure(executor, codes)
    assert cost == measure(executor, codes)
    assert cost["macs"] == 203 * 9 + 9 * 150 + 150 * 3
    assert int(cost["macs"]) < int(cost["instructions_least"]) <= int(cost["instructions_per_inference"])
    assert int(cost["instructions_per_inference"]) < 10 * int(cost["macs"])
    assert 0 < int(cost["stack_bytes"]) < 1_024


def test_the_default_network_costs_what_it_should(tmp_path: Path) -> None:
    model = random_network(DEFAULT_WIDTHS, weight_range=(-1, 1))
    artifact = built_firmware(model, tmp_path)
    executor = FirmwareExecutor(artifact, tmp_path / "run")
    codes = random_codes(model, 20)
    cost = measure(executor, codes)
    assert cost == measure(executor, codes) == executor.measure(codes)
    assert cost["instructions_per_inference"] == cost["instructions_least"]
    assert cost["macs"] == 59_008
    assert cost["weight_bytes"] == 14_784
    assert int(cost["instructions_per_inference"]) < 80_000
    assert int(cost["flash_bytes"]) < 40_000
    assert int(cost["ram_bytes"]) < 1_024
    sizes = json.loads((artifact.path / "size.json").read_text())
    assert sizes["data_bytes"] == 0
    assert sizes["bss_bytes"] >= sizes["arena_bytes"] == 320


@pytest.mark.parametrize(
    ("bits", "low", "high", "flipped"),
    [
        (1, -1, 0, "0 -> -1"),
        (2, -1, 1, "1 -> 2"),
        (2, -2, 1, "1 -> 0"),
        (4, -8, 7, "7 -> 6"),
        (8, -128, 127, "127 -> 126"),
    ],
)
@pytest.mark.parametrize("core", ["cortex-m4", "rv32imac", "host"])
def test_a_flipped_weight_bit_is_that_weight_alone(
    tmp_path: Path, core: CoreName, bits: int, low: int, high: int, flipped: str
) -> None:
    model = random_network((30, 5, 5), weight_type=IntegerType(bits, signed=True), weight_range=(low, high))
    original = built_firmware(model, tmp_path, core)
    copy = tmp_path / "copy"
    shutil.copytree(original.path, copy)
    # Row 1 of every random matrix holds the largest weight.
    assert flip_weight_bit(copy, node="fc0", row=1, column=29) == f"weight [1, 29] of layer fc0: {flipped}"
    codes = np.eye(30, dtype=np.int64) * 255
    expected = codes @ model.nodes_of(MatMul)[0].weights.T
    actual = executor_on(core, Artifact("flipped", "firmware", copy, ""), tmp_path / "run").multiply("fc0", codes)
    assert np.argwhere(actual != expected).tolist() == [[29, 1]]
    assert (executor_on(core, original, tmp_path / "run").multiply("fc0", codes) == expected).all()


def test_a_flipped_bit_of_the_last_layer_fails_the_parity_check(tmp_path: Path) -> None:
    model = random_network((30, 5, 5), weight_range=(-1, 1))
    artifact = built_firmware(model, tmp_path)
    codes = random_codes(model, 50)
    column = int(trace(model, codes)["act0"].sum(axis=0).argmax())
    flip_weight_bit(artifact.path, node="fc1", row=0, column=column)
    report = compare_codes(
        run(model, codes), FirmwareExecutor(artifact, tmp_path / "run")(codes), names=("integer", "c"), origin="random"
    )
    assert report.first is not None
    assert report.first.output == 0


@pytest.mark.parametrize(
    ("core", "undefined"), [("cortex-m4", b"\x00\xde"), ("rv32imac", b"\x00\x00")], ids=["cortex-m4", "rv32imac"]
)
def test_a_hard_fault_ends_the_run_with_its_own_code(tmp_path: Path, core: EmulatedCore, undefined: bytes) -> None:
    artifact = built_firmware(random_network((8, 4, 4)), tmp_path, core)
    path = artifact.path / "firmware.elf"
    image = bytearray(path.read_bytes())
    entry = file_offset(bytes(image), "mlp_run") & ~1  # bit 0 of a function's address says Thumb
    image[entry : entry + 2] = undefined
    path.write_bytes(image)
    with pytest.raises(StageError, match=r"qemu-system-\w+ ended with code 101(.|\n)*firmware: hard fault"):
        FirmwareExecutor(artifact, tmp_path / "run", core)(np.zeros((1, 8), dtype=np.int64))


def test_what_the_executor_refuses(tmp_path: Path) -> None:
    artifact = built_firmware(random_network((8, 4, 4), input_bits=4), tmp_path)
    executor = FirmwareExecutor(artifact, tmp_path / "run")
    zeros = np.zeros((2, 8), dtype=np.int64)
    with pytest.raises(StageError, match="was given codes 0 to 16; allowed are 0 to 15"):
        executor(zeros + np.array([0] * 7 + [16]))
    with pytest.raises(StageError, match=r"takes codes of shape \(N, 8\), not \(2, 7\)"):
        executor(zeros[:, 1:])
    with pytest.raises(StageError, match=r"^no activation 'act1': the generated C has act0$"):
        executor.requantize("act1", 0, 1)
    with pytest.raises(StageError, match="are not an ascending range of int32"):
        executor.requantize("act0", 0, 1 << 31)
    with pytest.raises(StageError, match=r"^no product 'fc2': the generated C has fc0, fc1$"):
        executor.multiply("fc2", zeros)
    with pytest.raises(StageError, match=r"no weight \[4, 0\] in a matrix of 4 rows, 8 columns"):
        flip_weight_bit(artifact.path, node="fc0", row=4, column=0)
    with pytest.raises(StageError, match="the firmware is for cortex-m4, not cortex-m3"):
        FirmwareExecutor(artifact, tmp_path / "run", "cortex-m3")
    with pytest.raises(StageError, match="the ELF file has no symbol 'nothing'"):
        file_offset((artifact.path / "firmware.elf").read_bytes(), "nothing")
    with pytest.raises(StageError, match="not a little-endian ELF file"):
        sections(b"MZ")


def test_too_large_a_network_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = random_network((1300, 1000, 4), weight_range=(-1, 1), act_bits=(1,))
    with pytest.raises(TooLargeError, match=r"flash: needed are .*, available 262,144; largest: fc0 326,000 bytes"):
        built_firmware(model, tmp_path, "cortex-m0")
    assert list((tmp_path / "c").iterdir()) == []


def test_without_a_host_compiler_counting_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_network((8, 4, 4))
    executor = FirmwareExecutor(built_firmware(model, tmp_path), tmp_path / "run")
    monkeypatch.setattr("bitproof.hw.mcu.cost.GCC", Tool("no-such-gcc", GCC.wanted, GCC.install))
    with pytest.raises(ToolMissingError, match="instruction counting needs 'no-such-gcc'"):
        measure(executor, random_codes(model, 2))
