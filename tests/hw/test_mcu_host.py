"""The generated C on the host, under address and undefined-behaviour sanitizers, equals the integer model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_networks import Spacing, network_for, random_codes, random_network
from mcu_host import HostExecutor, compile_host, host_executor

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Threshold, hull, run
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import StageError, compare_codes
from bitproof.pipeline.toolchain import run_program

pytestmark = pytest.mark.tool
ODD_WIDTHS = (37, 5, 7, 6, 3)


def require_equal(model: IntegerModel, executor: HostExecutor, samples: int = 50) -> None:
    codes = random_codes(model, samples)
    compare_codes(run(model, codes), executor(codes), names=("integer", executor.name), origin="random").require()


def require_proven(model: IntegerModel, executor: HostExecutor) -> None:
    for proof in (*prove_matrix_units(model, executor, 0), *prove_requantization(model, executor)):
        assert proof.holds, proof


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_weight_width_at_every_code_width(tmp_path: Path, bits: int, lanes: int) -> None:
    model = random_network(ODD_WIDTHS, weight_type=IntegerType(bits, signed=True), act_bits=(2, 4, 8), seed=bits)
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    require_equal(model, executor)
    require_proven(model, executor)


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("ends", [(-1, 1), (0, 1), (-1, 0), (-5, 3), (2, 7)])
def test_two_different_weights_at_every_code_width(tmp_path: Path, ends: tuple[int, int], lanes: int) -> None:
    model = random_network(
        (131, 37, 5, 64, 36, 7, 33, 16, 3),
        weight_type=IntegerType(4, signed=True),
        weight_range=ends,
        only_ends=True,
        act_bits=(7, 4, 3, 8, 5, 6, 2),
    )
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    assert {entry.layout for entry in executor.manifest.products} == {"u1"}
    require_equal(model, executor)
    require_proven(model, executor)


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("ends", [(-1, 1), (0, 1)])
def test_codes_of_one_bit_are_packed_and_counted(tmp_path: Path, ends: tuple[int, int], lanes: int) -> None:
    widths = (1919, 896, 224, 197, 17, 211, 16, 3)  # 896 columns are packed at a time
    model = random_network(widths, weight_range=ends, only_ends=True, act_bits=(1,), input_bits=1)
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    assert [entry.layout for entry in executor.manifest.products] == ["binary"] * 4 + ["u1", "binary", "u1"]
    require_equal(model, executor)
    require_proven(model, executor)
    for node in model.nodes_of(MatMul):
        codes = np.ones((1, node.inputs), dtype=np.int64)
        np.testing.assert_array_equal(executor.multiply(node.name, codes), node.apply(codes), strict=True)


@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize(("bits", "act_bits"), [(1, (4, 7, 8)), (2, (2, 5, 8)), (4, (4, 6, 8)), (8, (2, 6, 8))])
def test_a_long_row_of_largest_codes_overflows_no_partial_sum(
    tmp_path: Path, bits: int, act_bits: tuple[int, ...], lanes: int
) -> None:
    high = (1 << (bits - 1)) - 1 or 1
    model = random_network(
        (300, 517, 517, 517, 3),
        weight_type=IntegerType(max(2, bits), signed=True),
        weight_range=(-1 if bits == 1 else -high - 1, high),
        only_ends=bits == 1,
        act_bits=act_bits,
    )
    executor = host_executor(model, tmp_path / "host", lanes=lanes)
    assert {entry.bits_per_weight for entry in executor.manifest.products} == {bits}
    require_equal(model, executor, samples=3)
    for node, entry in zip(model.nodes_of(MatMul), executor.manifest.products, strict=True):
        codes = np.full((1, node.inputs), entry.codes.codes[-1], dtype=np.int64)
        np.testing.assert_array_equal(executor.multiply(node.name, codes), node.apply(codes), strict=True)


@pytest.mark.parametrize("lanes", [0, 1])
def test_unsigned_and_ternary_weights(tmp_path: Path, lanes: int) -> None:
    cases = {
        "unsigned": random_network((19, 6, 3), weight_type=IntegerType(3, signed=False)),
        "ternary": random_network((83, 9, 70, 2), weight_range=(-1, 1), act_bits=(4, 8)),
        "narrow input": random_network((40, 4, 4), input_bits=3),
        "one layer": random_network((300, 4), weight_range=(-1, 1)),
        "one input": random_network((1, 1, 1), act_bits=(1,)),
    }
    for name, model in cases.items():
        executor = host_executor(model, tmp_path / name.replace(" ", "_"), lanes=lanes)
        require_equal(model, executor)
        require_proven(model, executor)


def test_a_long_ternary_row_of_largest_codes_does_not_run_into_the_next(tmp_path: Path) -> None:
    model = random_network((4000, 4, 1200, 2), weight_range=(-1, 1), act_bits=(4,))
    for lanes in (0, 1):
        require_equal(model, host_executor(model, tmp_path / str(lanes), lanes=lanes), samples=3)


@pytest.mark.parametrize(("spacing", "method"), [("even", "multiply-shift"), ("irregular", "thresholds")])
@pytest.mark.parametrize("bits", [1, 2, 4, 5])
def test_both_requantizations_on_every_reachable_accumulator(
    tmp_path: Path, spacing: Spacing, method: str, bits: int
) -> None:
    model = random_network((24, 6, 4), act_bits=(bits,), spacing=spacing, seed=3)
    executor = host_executor(model, tmp_path / "host", lanes=1)
    if bits > 1:  # one threshold per channel is always reproduced by a multiplication
        assert executor.manifest.activations[0].method == method
    require_proven(model, executor)


@pytest.mark.parametrize("method", ["multiply-shift-64", "rounding-shift"])
def test_eight_bit_codes_need_no_table_of_thresholds(tmp_path: Path, method: str) -> None:
    model = network_for(method)
    executor = host_executor(model, tmp_path / "host", lanes=1)
    assert executor.manifest.activations[0].method == method
    assert executor.manifest.activations[0].table_bytes <= 12 * 6
    require_equal(model, executor)
    require_proven(model, executor)
    node = model.nodes_of(Threshold)[0]
    moved = replace(node, thresholds=node.thresholds + (np.arange(6) == 4)[:, None])
    other = replace(model, nodes=(model.nodes[0], moved, model.nodes[2]))
    (proof,) = prove_requantization(other, executor)
    assert not proof.holds
    assert proof.first is not None
    assert proof.first["channel"] == 4


def test_a_flipped_weight_bit_is_found(tmp_path: Path) -> None:
    model = random_network(ODD_WIDTHS, weight_range=(-1, 1))
    executor = host_executor(model, tmp_path / "host", lanes=1)
    source = executor.folder / "mlp_weights.c"
    layout = plan_network(model).products[0].layout
    word, bit = layout.locate(1, 36)
    words = re.findall(r"0x[0-9A-F]{8}u", source.read_text())
    flipped = f"0x{int(words[word][:-1], 16) ^ 1 << bit:08X}u"
    pieces = re.split(r"0x[0-9A-F]{8}u", source.read_text())
    words[word] = flipped
    source.write_text("".join(a + b for a, b in zip(pieces, [*words, ""], strict=True)))
    compile_host(executor.folder, executor.manifest, lanes=1)
    proof = prove_matrix_units(model, executor, 0)[0]
    assert not proof.holds
    assert proof.first == {"vector": 36, "channel": 1, "expected": 255, "actual": 510}


def test_a_code_out_of_range_is_refused(tmp_path: Path) -> None:
    model = random_network((5, 4, 4), input_bits=3)
    executor = host_executor(model, tmp_path / "host", lanes=0)
    with pytest.raises(StageError, match="host ended with code 4"):
        executor(np.full((1, 5), 8, dtype=np.int64))


NULL_ARGUMENTS = """
#include "mlp.h"
int main(void) {
    static uint8_t input[MLP_INPUTS];
    static int32_t output[MLP_OUTPUTS], arena[MLP_ARENA_BYTES / 4];
    return mlp_run(input, output, NULL, MLP_ARENA_BYTES) == MLP_NULL_POINTER
        && mlp_run(NULL, output, arena, MLP_ARENA_BYTES) == MLP_NULL_POINTER
        && mlp_run(input, output, (uint8_t *)arena + 1, MLP_ARENA_BYTES) == MLP_ARENA_MISALIGNED
        && mlp_run(input, output, arena, MLP_ARENA_BYTES - 1) == MLP_ARENA_TOO_SMALL
        && mlp_run(input, output, arena, MLP_ARENA_BYTES) == MLP_OK ? 0 : 1;
}
"""


def test_wrong_arguments_are_told_before_anything_is_computed_with_them(tmp_path: Path) -> None:
    model = random_network((5, 6, 4))
    executor = host_executor(model, tmp_path / "host", lanes=0)
    source = (executor.folder / "mlp.c").read_text()
    checked = source.index("arena == NULL")
    assert checked < source.index("run_step(i,", checked), "that computes with the pointers"
    (executor.folder / "host_main.c").write_text(NULL_ARGUMENTS)
    compile_host(executor.folder, executor.manifest, lanes=0)
    run_program(
        [str(executor.folder / "host")],
        needed_by="host test",
        cwd=executor.folder,
        log=executor.folder / "run.log",
        timeout_s=60,
    )


def test_the_header_names_the_accumulators_that_an_activation_is_proven_for(tmp_path: Path) -> None:
    model = random_network((5, 6, 4))
    executor = host_executor(model, tmp_path / "host", lanes=0)
    ends = hull(model.values["fc0"].ranges)
    header = (executor.folder / "mlp.h").read_text()
    assert f"0: 6 accumulators in [{ends.low}, {ends.high}] -> codes 0 to 15, by thresholds" in header
