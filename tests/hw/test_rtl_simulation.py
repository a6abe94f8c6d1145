"""The simulated RTL equals the integer model: images, every reachable accumulator, every weight; one bit is seen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from integer_nets import random_and_extreme_codes, random_network
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Threshold, hull, run
from bitproof.hw.finn.fault import flip_threshold_bit, flip_weight_bit
from bitproof.hw.finn.memory import threshold_field, weight_field
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import MATRIX_UNIT, THRESHOLDING
from bitproof.hw.rtl.simulator import Stimulus, simulator_for
from bitproof.pipeline import Artifact, Codes, InputError, PointRequantizer, StageError

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_simulation")]


@dataclass(frozen=True)
class Case:
    """A network with its folding: serial, fully parallel (a result in every cycle), or wide and odd."""

    model: IntegerModel
    fps: int
    fifo_depth: int
    cycles_per_image: int


CASES = {
    "serial": Case(random_network((16, 8, 6, 3), 11), 1_000_000, 32, 64),
    "parallel": Case(random_network((9, 4, 3), 12), 100_000_000, 2, 1),
    "odd-signed": Case(
        random_network((37, 10, 7, 3), 13, weight_bits=4, levels=200, source=IntegerType(8, signed=True)),
        2_000_000,
        600,
        35,
    ),
}


@pytest.fixture(scope="module")
def cache() -> Path:
    return simulators()


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, RtlBuild]:
    chosen = CASES[str(request.param)]
    run_folder = tmp_path_factory.mktemp("rtl") / "run"
    return chosen, build_rtl(chosen.model, run_folder, fps=chosen.fps, fifo_depth=chosen.fifo_depth)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    chosen = CASES["serial"]
    return build_rtl(chosen.model, tmp_path_factory.mktemp("serial") / "run", fps=chosen.fps)


def copied(artifact: Artifact, folder: Path) -> Artifact:
    shutil.copytree(artifact.path, folder)
    return replace(artifact, path=folder)


def reachable(model: IntegerModel, node: Threshold) -> tuple[int, int]:
    total = hull(model.values[model.sources(node.name)[0]].ranges)
    return total.low, total.high


def every_accumulator(model: IntegerModel, node: Threshold) -> Codes:
    """The codes of the activation *node* for all reachable accumulators, as the integer model has them."""
    low, high = reachable(model, node)
    return node.apply(np.repeat(np.arange(low, high + 1)[:, None], node.channels, axis=1))


@pytest.mark.parametrize("stall_percent", [0, 50, 95])
def test_images_equal_the_integer_model(
    case: tuple[Case, RtlBuild], cache: Path, tmp_path: Path, stall_percent: int
) -> None:
    model, build = case[1].model, case[1]
    codes = random_and_extreme_codes(model, 500)
    executor = RtlExecutor(build.rtl, tmp_path, cache, stall_percent=stall_percent, seed=stall_percent)
    np.testing.assert_array_equal(run(model, codes), executor(codes), strict=True)


def test_activations_equal_the_thresholds_on_every_reachable_accumulator(
    case: tuple[Case, RtlBuild], cache: Path, tmp_path: Path
) -> None:
    model, build = case[1].model, case[1]
    executor = RtlExecutor(build.rtl, tmp_path, cache)
    for node in model.nodes_of(Threshold):
        actual = executor.requantize(node.name, *reachable(model, node))
        np.testing.assert_array_equal(every_accumulator(model, node), actual, strict=True)


def test_channels_take_accumulators_of_their_own(case: tuple[Case, RtlBuild], cache: Path, tmp_path: Path) -> None:
    model, build = case[1].model, case[1]
    executor = RtlExecutor(build.rtl, tmp_path, cache)
    assert isinstance(executor, PointRequantizer)
    for node in model.nodes_of(Threshold):
        ends = np.concatenate([node.thresholds.T - 1, node.thresholds.T])
        accumulators = np.clip(ends, *reachable(model, node))
        actual = executor.requantize_at(node.name, accumulators)
        np.testing.assert_array_equal(node.apply(accumulators), actual, strict=True)


@pytest.mark.parametrize("stall_percent", [0, 60])
def test_every_weight_is_the_models(
    case: tuple[Case, RtlBuild], cache: Path, tmp_path: Path, stall_percent: int
) -> None:
    model, build = case[1].model, case[1]
    executor = RtlExecutor(build.rtl, tmp_path, cache, stall_percent=stall_percent, seed=1)
    largest = [model.input.maximum, *(node.levels for node in model.nodes_of(Threshold))]
    for node, code in zip(model.nodes_of(MatMul), largest, strict=True):
        one_input_each = np.eye(node.inputs, dtype=np.int64) * code
        extremes = np.where(node.weights > 0, code, 0)
        codes = np.concatenate([one_input_each, extremes, code - extremes])
        np.testing.assert_array_equal(node.apply(codes), executor.multiply(node.name, codes), strict=True)


def test_memory_files_hold_every_weight_and_threshold_where_the_layout_says(case: tuple[Case, RtlBuild]) -> None:
    model, rtl = case[1].model, case[1].rtl
    description = read_description(rtl.path)
    for matmul_node, unit in zip(model.nodes_of(MatMul), description.units(MATRIX_UNIT), strict=True):
        for (row, column), weight in np.ndenumerate(matmul_node.weights):
            assert weight_field(unit, row, column).read(rtl.path) == weight
    for activation, unit in zip(model.nodes_of(Threshold), description.units(THRESHOLDING), strict=True):
        for (channel, index), value in np.ndenumerate(activation.thresholds):
            assert threshold_field(unit, channel, index).read(rtl.path) == value


def test_measured_cycles_are_those_of_the_folding(case: tuple[Case, RtlBuild], cache: Path, tmp_path: Path) -> None:
    chosen, build = case
    measured = RtlExecutor(build.rtl, tmp_path, cache).measure(random_and_extreme_codes(build.model, 10))
    assert measured["finn_estimate_initiation_interval"] == chosen.cycles_per_image
    assert measured["cycles_per_image"] == chosen.cycles_per_image
    assert int(measured["latency_cycles"]) > chosen.cycles_per_image
    assert measured["images_per_s_at_clock"] == round(1e8 / chosen.cycles_per_image)
    assert (measured["part"], measured["clock_ns"]) == ("xc7z020clg400-1", 10)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_flipped_weight_bit_is_found(serial: RtlBuild, cache: Path, tmp_path: Path, layer: int) -> None:
    node = serial.model.nodes_of(MatMul)[layer]
    broken = copied(serial.rtl, tmp_path / "broken")
    said = flip_weight_bit(broken.path, node=node.name, row=2, column=1)
    old = int(node.weights[2, 1])
    assert said.startswith(f"weight [2, 1] of MVAU_rtl_{layer} in data/MVAU_rtl_{layer}_memblock.dat: {old} became ")
    executor = RtlExecutor(broken, tmp_path, cache)
    vectors = np.eye(node.inputs, dtype=np.int64)
    differs = np.argwhere(node.apply(vectors) != executor.multiply(node.name, vectors))
    np.testing.assert_array_equal(differs, [[1, 2]])
    codes = random_and_extreme_codes(serial.model, 300)
    assert (run(serial.model, codes) != executor(codes)).any()
    serial.rtl.verify()


@pytest.mark.parametrize("layer", [0, 1])
def test_one_flipped_threshold_bit_differs_in_one_accumulator(
    serial: RtlBuild, cache: Path, tmp_path: Path, layer: int
) -> None:
    node = serial.model.nodes_of(Threshold)[layer]
    low, high = reachable(serial.model, node)
    gaps = np.diff(node.thresholds, axis=1)
    lonely = (gaps[:, :-1] > 1) & (gaps[:, 1:] > 1)  # its neighbours stay in order when it moves by one
    channel, index = (int(i) for i in np.argwhere(lonely)[0] + [0, 1])
    broken = copied(serial.rtl, tmp_path / "broken")
    said = flip_threshold_bit(broken.path, node=node.name, channel=channel, index=index)
    old = int(node.thresholds[channel, index])
    assert said.endswith(f": {old} became {old ^ 1}")
    actual = RtlExecutor(broken, tmp_path, cache).requantize(node.name, low, high)
    differs = np.argwhere(every_accumulator(serial.model, node) != actual)
    np.testing.assert_array_equal(differs, [[min(old, old ^ 1) - low, channel]])


def test_a_retrained_network_needs_no_compilation(
    serial: RtlBuild, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = random_and_extreme_codes(serial.model, 50)
    RtlExecutor(serial.rtl, tmp_path, cache)(codes)
    monkeypatch.delattr("bitproof.hw.rtl.compile._compile")
    retrained = build_rtl(random_network((16, 8, 6, 3), 99), tmp_path / "run", fps=1_000_000)
    actual = RtlExecutor(retrained.rtl, tmp_path, cache)(codes)
    np.testing.assert_array_equal(run(retrained.model, codes), actual, strict=True)


def test_inputs_that_do_not_fit_are_refused(serial: RtlBuild, cache: Path, tmp_path: Path) -> None:
    executor = RtlExecutor(serial.rtl, tmp_path, cache)
    with pytest.raises(InputError, match=r"^top takes codes of shape \(N >= 1, 16\), not \(2, 15\)$"):
        executor(np.zeros((2, 15), dtype=np.int64))
    with pytest.raises(InputError, match=r"^top: codes 0..256 do not fit 8-bit unsigned elements \(0..255\)$"):
        executor(np.tile([0, 256], (1, 8)))
    with pytest.raises(InputError, match=r"^accumulators -9000..5 do not fit the input of .*, -8192..8191$"):
        executor.requantize("act0", -9000, 5)
    with pytest.raises(InputError, match=r"^there is no MVAU_rtl or .* for 'fc3'; the RTL has one for fc0, fc1, fc2$"):
        executor.multiply("fc3", np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(InputError, match=r"^stall_percent = 100 is not possible; allowed: 0..99$"):
        RtlExecutor(serial.rtl, tmp_path, cache, stall_percent=100)
    with pytest.raises(InputError, match=r"^top takes codes of shape \(N >= 1, 16\), not \(0, 16\)$"):
        executor(np.zeros((0, 16), dtype=np.int64))


def test_a_unit_that_owes_an_output_is_stuck(serial: RtlBuild, cache: Path, tmp_path: Path) -> None:
    simulator = simulator_for(read_description(serial.rtl.path), serial.rtl.path, cache=cache, workdir=tmp_path)
    top = simulator.units[0]
    stimulus = Stimulus(np.zeros((top.input.words, top.input.word_bytes), dtype=np.uint8), 1, top.output.words + 1)
    with pytest.raises(StageError, match=r"the unit is stuck: 3 of 4 output words came, 8 of 8 input words .*fc0\) in"):
        simulator.run(top, stimulus, memories=serial.rtl.path, workdir=tmp_path, stall_percent=0, seed=0)


def test_rtl_that_does_not_compile_is_a_stage_error(serial: RtlBuild, tmp_path: Path) -> None:
    broken = copied(serial.rtl, tmp_path / "broken")
    path = broken.path / "rtl" / "finn_top.sv"
    path.write_text(path.read_text().replace("endmodule", "endmodul"))
    cache = tmp_path / "simulators"
    with pytest.raises(StageError, match=r"(?s)^target finn \(RTL simulation\): verilator ended with code 1; .*%Error"):
        RtlExecutor(broken, tmp_path, cache)(np.zeros((1, 16), dtype=np.int64))
    assert list(cache.iterdir()) == []
