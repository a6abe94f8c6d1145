"""Convolutional networks in simulated RTL and in FINN's Python: equal to the integer model; one flipped bit is seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from image_nets import ImageNet, window
from integer_nets import random_and_extreme_codes
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.divergence import Cause, explain
from bitproof.export.integer import Conv, IntegerModel, IntegerType, Threshold, run
from bitproof.export.integer.flip import choose_weight
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.finn import FinnExecutor
from bitproof.hw.finn.fault import flip_threshold_bit, flip_weight_bit
from bitproof.hw.finn.memory import weight_field
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import MATRIX_UNIT, PROVIDERS, WINDOW_REDUCER
from bitproof.pipeline import Artifact

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_images")]

SIGNED8 = IntegerType(8, signed=True)


@dataclass(frozen=True)
class Case:
    """A network with the throughput that it is folded for."""

    model: IntegerModel
    fps: int
    fifo_depth: int = 2


CASES = {
    "padded, pooled": Case(
        ImageNet((2, 6, 6), 1)
        .conv(4, window((3, 3), 1, 1))
        .act()
        .max_pool(window((2, 2), 2))
        .conv(3, window((2, 2)))
        .act()
        .dense(3)
        .model,
        400_000,
    ),
    "signed, strided": Case(
        ImageNet((3, 7, 7), 2, SIGNED8)
        .conv(4, window((3, 3), 2, 1), bits=4)
        .act(15, -8)
        .conv(2, window((1, 1), 2))
        .act(3, -2)
        .dense(2)
        .model,
        100_000,
    ),
    "whole windows at once, sums": Case(
        ImageNet((1, 6, 6), 3)
        .conv(4, window((3, 3)))
        .act()
        .max_pool(window((3, 3), 2, 1))
        .sum_pool(window((1, 2)))
        .act(7)
        .conv(3, window((1, 1)))
        .model,
        900_000,
    ),
}


@pytest.fixture(scope="module")
def cache() -> Path:
    return simulators()


@pytest.fixture(scope="module", params=list(CASES))
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    case = CASES[str(request.param)]
    return build_rtl(case.model, tmp_path_factory.mktemp("rtl") / "run", fps=case.fps, fifo_depth=case.fifo_depth)


def copied(artifact: Artifact, folder: Path) -> Artifact:
    shutil.copytree(artifact.path, folder)
    return replace(artifact, path=folder)


def test_images_equal_the_integer_model(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(build.model, 40)
    expected = run(build.model, codes)
    np.testing.assert_array_equal(expected, FinnExecutor(build.graph, tmp_path)(codes), strict=True)
    for stall_percent in (0, 50, 90):
        executor = RtlExecutor(build.rtl, tmp_path, cache, stall_percent=stall_percent, seed=stall_percent)
        np.testing.assert_array_equal(expected, executor(codes), strict=True)


def test_every_weight_and_every_boundary_is_the_models(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    executor = RtlExecutor(build.rtl, tmp_path, cache, stall_percent=30, seed=1)
    proofs = [*prove_matrix_units(build.model, executor, 0), *prove_requantization(build.model, executor)]
    assert {proof.layer for proof in proofs} == {
        node.name for node in build.model.nodes if node in build.model.products or isinstance(node, Threshold)
    }
    assert all(proof.holds for proof in proofs)
    description = read_description(build.rtl.path)
    for node in build.model.products:
        unit = description.unit(node.name, MATRIX_UNIT)
        for (row, column), weight in np.ndenumerate(node.weights.reshape(node.outputs, -1)):
            assert weight_field(unit, row, column).read(build.rtl.path) == weight


def test_the_slowest_node_alone_decides_the_throughput(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    measured = RtlExecutor(build.rtl, tmp_path, cache).measure(random_and_extreme_codes(build.model, 10))
    assert measured["cycles_per_image"] == measured["slowest_node_cycles"]


def test_one_flipped_bit_is_seen_and_explained(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(build.model, 40)
    node = build.model.nodes[0]
    assert isinstance(node, Conv)
    last = node.weights[1].size - 1
    weight = copied(build.rtl, tmp_path / "weight")
    said = flip_weight_bit(weight.path, node=node.name, row=1, column=last)
    assert said.startswith(f"weight [1, {last}] of MVAU_rtl_0 ")
    executor = RtlExecutor(weight, tmp_path, cache)
    (proof,) = (proof for proof in prove_matrix_units(build.model, executor, 0) if not proof.holds)
    assert proof.layer == node.name
    found = explain(executor, build.model, codes).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == (node.name, Cause.WRONG_WEIGHT)


def test_one_flipped_bit_changes_what_images_give(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(build.model, 40)
    chosen = choose_weight(build.model, codes, node=None, index=())
    assert chosen.visible
    broken = copied(build.rtl, tmp_path / "last")
    flip_weight_bit(broken.path, node=chosen.node, row=chosen.row, column=chosen.column)
    assert (run(build.model, codes) != RtlExecutor(broken, tmp_path, cache)(codes)).any()


def test_one_flipped_threshold_bit_is_found(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    node = build.model.nodes_of(Threshold)[0]
    gaps = np.diff(node.thresholds, axis=1)
    channel, index = (int(i) for i in np.argwhere((gaps[:, :-1] > 1) & (gaps[:, 1:] > 1))[0] + [0, 1])
    broken = copied(build.rtl, tmp_path / "threshold")
    flip_threshold_bit(broken.path, node=node.name, channel=channel, index=index)
    proofs = prove_requantization(build.model, RtlExecutor(broken, tmp_path, cache))
    assert [proof.layer for proof in proofs if not proof.holds] == [node.name]


@pytest.mark.parametrize("build", ["padded, pooled"], indirect=True)
def test_a_second_build_has_the_same_bytes(build: RtlBuild, tmp_path: Path) -> None:
    case = next(case for case in CASES.values() if case.model is build.model)
    again = build_rtl(case.model, tmp_path / "elsewhere", fps=case.fps, fifo_depth=case.fifo_depth)
    assert (again.graph.sha256, again.rtl.sha256) == (build.graph.sha256, build.rtl.sha256)


def test_layers_are_named_and_served_as_the_table_says(build: RtlBuild) -> None:
    layers = json.loads((build.graph.path / "graph.json").read_text())["layers"]
    named = {node.name for node in build.model.nodes}
    assert {layer["layer"] for layer in layers} <= named
    description = read_description(build.rtl.path)
    for unit in description.nodes:
        ours = (build.rtl.path / "rtl" / f"{unit.name}.v").is_file() and unit.op == WINDOW_REDUCER
        assert ours == (PROVIDERS[unit.op].origin == "bitproof")
    if build.model is CASES["whole windows at once, sums"].model:
        assert any(layer.get("parallel_window") == 1 for layer in layers)
