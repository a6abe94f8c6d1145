"""The output bias in C, on the host and as firmware, and behind FINN's hardware."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hardware_layers import interpret
from integer_nets import random_and_extreme_codes
from integer_nets import random_network as small_network
from integer_networks import random_codes, random_network
from mcu_host import host_executor
from rtl_builds import build_rtl, simulators

from bitproof.export.integer import Affine, IntegerModel, run
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.finn import FinnExecutor
from bitproof.hw.finn.layers import Scaling
from bitproof.hw.finn.walk import hardware_of
from bitproof.hw.mcu.plan import plan_network
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.pipeline import InputError, StageError, compare_codes


def with_bias(*offsets: int) -> IntegerModel:
    model = random_network((37, 7, 3), weight_range=(-1, 1), act_bits=(4,), spacing="even")
    return replace(model, nodes=(*model.nodes, Affine.bias("bias0", np.array(offsets, dtype=np.int64))))


@pytest.mark.tool
def test_generated_c_adds_the_bias(tmp_path: Path) -> None:
    model = with_bias(-5, 0, 1_000_000)
    executor = host_executor(model, tmp_path / "host", lanes=1)
    codes = random_codes(model, 50)
    compare_codes(run(model, codes), executor(codes), names=("integer", "c:host"), origin="random").require()
    for proof in (*prove_matrix_units(model, executor, 0), *prove_requantization(model, executor)):
        assert proof.holds, proof
    other = with_bias(-5, 0, 1_000_001)
    report = compare_codes(run(other, codes), executor(codes), names=("integer", "c:host"), origin="random")
    assert report.differing == 50


@pytest.mark.tool
def test_c_refuses_sums_over_32_bits_and_takes_a_bias_inside(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"sums of layer 'bias0' reach .*: use smaller offsets"):
        plan_network(with_bias(0, 0, 1 << 31))
    model = with_bias(0, 0, 0)
    first, *rest, bias = model.nodes
    inside = replace(model, nodes=(first, Affine.bias("early", np.arange(7) - 3), *rest, bias))
    executor, codes = host_executor(inside, tmp_path / "host", lanes=0), random_codes(inside, 20)
    np.testing.assert_array_equal(executor(codes), run(inside, codes), strict=True)


def test_a_bias_inside_is_a_layer_of_the_hardware() -> None:
    model = with_bias(1, 0, -1)
    first, *rest, bias = model.nodes
    inside = replace(model, nodes=(first, Affine.bias("early", np.arange(7) - 3), *rest, bias))
    hardware, codes = hardware_of(inside), random_codes(inside, 20)
    assert [layer.name for layer in hardware.layers if isinstance(layer, Scaling)] == ["early"]
    assert hardware.output_bias == (1, 0, -1)
    np.testing.assert_array_equal(interpret(hardware, codes), run(inside, codes), strict=True)


@pytest.mark.tool
def test_what_finn_builds_gives_the_accumulators_to_which_the_bias_is_added(tmp_path: Path) -> None:
    plain = small_network((16, 8, 3), 11)
    model = replace(plain, nodes=(*plain.nodes, Affine.bias("bias0", np.array([-5, 0, 1 << 33]))))
    built = build_rtl(model, tmp_path / "run", fps=1_000_000)
    codes = random_and_extreme_codes(model, 50)
    executors = (FinnExecutor(built.graph, tmp_path), RtlExecutor(built.rtl, tmp_path, simulators()))
    for executor in executors:
        np.testing.assert_array_equal(run(model, codes), executor(codes), strict=True)
    assert executors[1].measure(codes)["output_bias"] == "added to what the RTL gives"
    summary = built.graph.path / "graph.json"
    for wrong, message in (([-5, 0], "2 output biases for 3 outputs"), (None, "does not describe a FINN graph")):
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "output_bias": wrong}))
        with pytest.raises(InputError, match=message):
            FinnExecutor(built.graph, tmp_path)(codes)
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "output_bias": [-5, 1, 1 << 33]}))
    assert (FinnExecutor(built.graph, tmp_path)(codes) - run(model, codes)).any(axis=0).tolist() == [False, True, False]
