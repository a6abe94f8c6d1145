"""FINN's graphs: equal to the integer model, reproducible byte by byte, and clear about what they cannot do."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from integer_nets import UINT8, random_and_extreme_codes, random_network
from rtl_builds import RtlBuild, build_rtl, integer_artifact, run_stage

from bitproof.export.integer import IntegerModel, IntegerType, MatMul, run
from bitproof.hw.finn import BuildFinnGraph, FinnExecutor
from bitproof.pipeline import Artifact, InputError, StageError, compare_codes
from bitproof.pipeline.toolchain import run_program

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("finn_flow")]

NETWORK = random_network((16, 8, 6, 3), 11)
FPS = 1_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    return build_rtl(NETWORK, tmp_path_factory.mktemp("finn") / "run", fps=FPS)


def test_hardware_layers_equal_the_integer_model(built: RtlBuild, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(NETWORK, 3000)  # more than one batch
    actual = FinnExecutor(built.graph, tmp_path)(codes)
    np.testing.assert_array_equal(run(NETWORK, codes), actual, strict=True)


def test_the_hardware_layers_of_another_network_differ(built: RtlBuild, tmp_path: Path) -> None:
    weights = NETWORK.nodes_of(MatMul)[1].weights.copy()
    weights[2, 3] = 1 if weights[2, 3] == 0 else 0
    changed = MatMul("fc1", weights, IntegerType(2, signed=True))
    nodes = tuple(changed if node.name == "fc1" else node for node in NETWORK.nodes)
    other = IntegerModel("other", UINT8, Fraction(1), (16,), nodes, Fraction(1))
    codes = random_and_extreme_codes(NETWORK, 200)
    actual = FinnExecutor(built.graph, tmp_path)(codes)
    report = compare_codes(run(other, codes), actual, names=("integer", "finn-hw"), origin="random")
    assert not report.ok
    assert report.differing > 0


def test_the_summary_names_layers_and_estimates(built: RtlBuild) -> None:
    summary = json.loads((built.graph.path / "graph.json").read_text())
    assert [layer["layer"] for layer in summary["layers"]] == ["fc0", "act0", "fc1", "act1", "fc2"]
    assert [layer["op"] for layer in summary["layers"]] == ["MVAU_rtl", "Thresholding_rtl"] * 2 + ["MVAU_rtl"]
    assert summary["estimated_initiation_interval"] == max(layer["cycles"] for layer in summary["layers"]) <= 100
    assert set(summary["finn_estimates"]) == {"LUT", "DSP", "BRAM_18K"}
    assert (summary["board"], summary["part"], summary["clock_ns"]) == ("pynq-z1", "xc7z020clg400-1", 10)


def test_a_second_build_has_the_same_bytes(built: RtlBuild, tmp_path: Path) -> None:
    again = build_rtl(NETWORK, tmp_path / "elsewhere", fps=FPS)
    assert again.graph.sha256 == built.graph.sha256
    assert again.rtl.sha256 == built.rtl.sha256


def test_no_path_of_this_machine_is_in_the_payload(built: RtlBuild) -> None:
    for artifact in (built.graph, built.rtl):
        for path in artifact.path.rglob("*"):
            if path.is_file():
                assert str(built.folder.parent.parent).encode() not in path.read_bytes(), path
                assert b"code_gen" not in path.read_bytes(), path


def test_nothing_is_written_outside_the_run(built: RtlBuild) -> None:
    assert {path.name for path in built.folder.iterdir()} == {"integer", "finn", "rtl", "tmp", "scratch"}
    assert list((built.folder / "tmp").iterdir()) == []


def test_a_frame_rate_that_folding_cannot_reach_is_refused(tmp_path: Path) -> None:
    source = integer_artifact(random_network((40, 4, 3), 1), tmp_path / "integer")
    expected = (
        r"^layer 'fc0' needs 4 cycles per sample at its widest folding; the target allows 1. "
        r"Ask for at most 25000000 frames/s$"
    )
    with pytest.raises(StageError, match=expected):
        run_stage(BuildFinnGraph(fps=100_000_000), source, tmp_path)


def test_a_network_that_does_not_fit_the_board_is_refused(tmp_path: Path) -> None:
    source = integer_artifact(random_network((60, 60, 60), 1), tmp_path / "integer")
    expected = (
        r"^FINN estimates \d+ DSP for 25000000 frames/s; pynq-z1 has 220. "
        r"Ask for fewer frames per second, or use a smaller network$"
    )
    with pytest.raises(StageError, match=expected):
        run_stage(BuildFinnGraph(fps=25_000_000), source, tmp_path)


BINARY_INPUT = """
import sys
from pathlib import Path
from bitproof.export.integer import IntegerType, load
from bitproof.hw.finn import hardware_layers
from bitproof.hw.finn.child import main
from dataclasses import replace
from bitproof.hw.finn.walk import hardware_of
narrow = lambda model: replace(hardware_of(model), input=IntegerType(1, signed=False))
hardware_layers.hardware_of = narrow
sys.exit(main(sys.argv[1:]))
"""
"""The child process, with the input of the hardware narrowed to one bit, of which FINN makes HLS."""


def test_a_fall_back_to_hls_is_an_error(tmp_path: Path) -> None:
    source = integer_artifact(random_network((16, 3), 1), tmp_path / "integer")
    assert refused_by(BINARY_INPUT, source, tmp_path).startswith(
        "FINN turned layer 'fc0' into MVAU_hls instead of MVAU_rtl (input BINARY, "
    )


OTHER_WEIGHT = """
import sys
from dataclasses import replace
from bitproof.hw.finn import hardware_layers
from bitproof.hw.finn.child import main
from bitproof.hw.finn.walk import hardware_of
def changed(model):
    wanted = hardware_of(model)
    weights = wanted.layers[0].node.weights.copy()
    weights[1, 2] = 1 - abs(weights[1, 2])
    layer = replace(wanted.layers[0], node=replace(wanted.layers[0].node, weights=weights))
    return replace(wanted, layers=(layer, *wanted.layers[1:]))
hardware_layers.hardware_of = changed
sys.exit(main(sys.argv[1:]))
"""
"""The child process, with one weight changed on the way to FINN."""


def test_graphs_are_compared_when_they_are_written(tmp_path: Path) -> None:
    source = integer_artifact(random_network((16, 3), 1), tmp_path / "integer")
    assert refused_by(OTHER_WEIGHT, source, tmp_path).startswith("hw.onnx gives ")


def refused_by(program: str, source: Artifact, folder: Path) -> str:
    """Run *program* as the child process on *source*, and return why it ended."""
    (folder / "out").mkdir()
    refusal = folder / "refusal"
    arguments = ["build", refusal, source.path, folder / "out", "xc7z020clg400-1", "10", "100"]
    with pytest.raises(StageError):
        run_program(
            [sys.executable, "-c", program, *map(str, arguments)],
            needed_by="finn",
            cwd=folder,
            log=folder / "finn.log",
            timeout_s=120,
        )
    return refusal.read_text()


def test_an_error_inside_finn_reaches_the_caller(tmp_path: Path) -> None:
    (tmp_path / "hw.onnx").write_bytes(b"not a graph")
    (tmp_path / "graph.json").write_text('{"input_shape": [4], "output_shape": [1], "output_bias": []}')
    executor = FinnExecutor(Artifact("finn", "finn-graph", tmp_path, ""), tmp_path)
    with pytest.raises(StageError, match=r"(?s)^finn-hw: python.* ended with code 1; its log is .*DecodeError"):
        executor(np.zeros((1, 4), dtype=np.int64))


def test_a_folder_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no FINN graph \(hw.onnx is missing\)$"):
        FinnExecutor(Artifact("finn", "finn-graph", tmp_path, ""), tmp_path)


def test_finn_imports_no_torch_and_a_layer_that_needs_it_says_so(tmp_path: Path) -> None:
    """In a process of its own: this one has torch."""
    script = """
import sys
from bitproof.hw.finn.child import TORCH, leave_torch_out
leave_torch_out()
import bitproof.hw.finn.execute, bitproof.hw.finn.generate, bitproof.hw.finn.hardware_layers
from finn.custom_op.fpgadataflow import layernorm
assert {name for name in sys.modules if name.split(".")[0] == "torch"} == set(TORCH)
try:
    layernorm.torch.from_numpy
except AttributeError as error:
    print(error)
"""
    argv = [sys.executable, "-P", "-c", script]
    said = run_program(argv, needed_by="test", cwd=tmp_path, log=tmp_path / "log", timeout_s=120)
    assert said.splitlines()[-1] == "module 'torch' has no attribute 'from_numpy'"
