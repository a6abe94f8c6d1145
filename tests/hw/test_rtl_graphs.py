"""Networks with branches and layers of our own in simulated RTL: equal to the integer model; a flipped bit is seen."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hardware_graphs import GRAPHS
from integer_nets import random_and_extreme_codes
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.divergence import Cause, explain
from bitproof.export.integer import Conv, IntegerModel, Threshold, run
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.hw.finn import FinnExecutor
from bitproof.hw.finn.fault import flip_weight_bit
from bitproof.hw.finn.memory import weight_field
from bitproof.hw.rtl.description import RtlNode, read_description
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import (
    ADD,
    AFFINE,
    CONCAT,
    DEPTHWISE_UNIT,
    DUPLICATE,
    IMAGE_PADDING,
    LOGIC_MATRIX_UNIT,
    MATRIX_UNIT,
    MULTIPLY_SHIFT,
    PRODUCTS,
    PROVIDERS,
    ROUNDING_SHIFT,
    SCALED_ADD,
    SELECT_LARGEST,
    THRESHOLDING,
    Op,
)
from bitproof.pipeline import Artifact

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_graphs")]

FPS = 200_000
OPERATIONS: dict[str, set[Op]] = {
    "residual": {MATRIX_UNIT, THRESHOLDING, DUPLICATE, ADD, DEPTHWISE_UNIT},
    "joined": {
        *(MATRIX_UNIT, LOGIC_MATRIX_UNIT, THRESHOLDING, DUPLICATE, SCALED_ADD, CONCAT, IMAGE_PADDING, AFFINE),
        SELECT_LARGEST,
    },
}
"""Those that a network is in the tests for."""


@dataclass(frozen=True)
class Simulated:
    """A network with its RTL and a folder for compiled simulators."""

    name: str
    build: RtlBuild
    cache: Path

    @property
    def model(self) -> IntegerModel:
        return self.build.model


@pytest.fixture(scope="module", params=list(GRAPHS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    name = str(request.param)
    folder = tmp_path_factory.mktemp("graph")
    return Simulated(name, build_rtl(GRAPHS[name], folder / "run", fps=FPS, fifo_depth=2), simulators())


def copied(artifact: Artifact, folder: Path) -> Artifact:
    shutil.copytree(artifact.path, folder)
    return replace(artifact, path=folder)


def flip(folder: Path, file: str, *, word: int = 0, bit: int = 0) -> None:
    """Flip one bit of a memory file."""
    path = folder / "data" / file
    lines = path.read_text().split()
    lines[word] = f"{int(lines[word], 16) ^ 1 << bit:0{len(lines[word])}x}"
    path.write_text("\n".join(lines) + "\n")


def unit_of(made: Simulated, op: Op) -> RtlNode:
    return read_description(made.build.rtl.path).units(op)[0]


def test_images_equal_the_integer_model(made: Simulated, tmp_path: Path) -> None:
    codes = random_and_extreme_codes(made.model, 40)
    expected = run(made.model, codes)
    np.testing.assert_array_equal(expected, FinnExecutor(made.build.graph, tmp_path)(codes), strict=True)
    for stall_percent in (0, 50, 90):
        executor = RtlExecutor(made.build.rtl, tmp_path, made.cache, stall_percent=stall_percent, seed=stall_percent)
        np.testing.assert_array_equal(expected, executor(codes), strict=True)


def test_every_layer_has_the_module_of_the_table(made: Simulated) -> None:
    description = read_description(made.build.rtl.path)
    ops = {node.op for node in description.nodes}
    assert OPERATIONS[made.name] <= ops
    assert (made.name == "joined") == bool(ops & {MULTIPLY_SHIFT, ROUNDING_SHIFT})
    for node in description.nodes:
        wrapper = made.build.rtl.path / "rtl" / f"{node.name}.v"
        ours = wrapper.is_file() and ") unit (" in wrapper.read_text()
        assert ours == (PROVIDERS[node.op].origin == "bitproof")


def test_every_weight_and_every_boundary_is_the_models(made: Simulated, tmp_path: Path) -> None:
    executor = RtlExecutor(made.build.rtl, tmp_path, made.cache, stall_percent=30, seed=1)
    proofs = [*prove_matrix_units(made.model, executor, 0), *prove_requantization(made.model, executor)]
    assert {proof.layer for proof in proofs} == {
        node.name for node in made.model.nodes if node in made.model.products or isinstance(node, Threshold)
    }
    assert [proof for proof in proofs if not proof.holds] == []
    description = read_description(made.build.rtl.path)
    for node in made.model.products:
        unit = description.unit(node.name, *PRODUCTS)
        for (row, column), weight in np.ndenumerate(node.weights.reshape(node.outputs, -1)):
            assert weight_field(unit, row, column).read(made.build.rtl.path) == weight


def test_the_slowest_node_alone_decides_the_throughput(made: Simulated, tmp_path: Path) -> None:
    measured = RtlExecutor(made.build.rtl, tmp_path, made.cache).measure(random_and_extreme_codes(made.model, 10))
    assert measured["cycles_per_image"] == measured["slowest_node_cycles"]
    assert int(measured["fifo_words_held"]) > 0


def test_a_flipped_bit_of_any_weight_is_found(made: Simulated, tmp_path: Path) -> None:
    """In every product: FINN's unit, ours, and the depthwise one."""
    for node in made.model.products:
        broken = copied(made.build.rtl, tmp_path / node.name)
        last = node.weights[1].size - 1
        flip_weight_bit(broken.path, node=node.name, row=1, column=last)
        proofs = prove_matrix_units(made.model, RtlExecutor(broken, tmp_path, made.cache), 0)
        assert [proof.layer for proof in proofs if not proof.holds] == [node.name]


def test_a_flipped_bit_is_explained_within_a_branch(made: Simulated, tmp_path: Path) -> None:
    node = [product for product in made.model.products if isinstance(product, Conv)][1]
    broken = copied(made.build.rtl, tmp_path / "weight")
    flip_weight_bit(broken.path, node=node.name, row=1, column=0)
    found = explain(RtlExecutor(broken, tmp_path, made.cache), made.model, random_and_extreme_codes(made.model, 40))
    assert found.divergence is not None
    assert (found.divergence.layer, found.divergence.finding.cause) == (node.name, Cause.WRONG_WEIGHT)


@pytest.mark.parametrize("made", ["joined"], indirect=True)
@pytest.mark.parametrize(
    ("op", "memory", "bit"),
    [(SCALED_ADD, "factors0", 2), (SCALED_ADD, "offsets", 6), (AFFINE, "factors", 2), (AFFINE, "offsets", 6)],
)
def test_a_flipped_bit_of_a_constant_changes_the_outputs(
    made: Simulated, tmp_path: Path, op: Op, memory: str, bit: int
) -> None:
    broken = copied(made.build.rtl, tmp_path / "constant")
    flip(broken.path, f"{unit_of(made, op).name}_{memory}.dat", bit=bit)
    codes = random_and_extreme_codes(made.model, 60)
    assert (RtlExecutor(broken, tmp_path, made.cache)(codes) != run(made.model, codes)).any()


@pytest.mark.parametrize("made", ["joined"], indirect=True)
def test_a_flipped_bit_of_a_requantizer_is_found(made: Simulated, tmp_path: Path) -> None:
    nodes = read_description(made.build.rtl.path).nodes
    unit = next(node for node in nodes if node.op in (MULTIPLY_SHIFT, ROUNDING_SHIFT))
    broken = copied(made.build.rtl, tmp_path / "offset")
    flip(broken.path, f"{unit.name}_offsets.dat", bit=unit.parameters["shift"])
    proofs = prove_requantization(made.model, RtlExecutor(broken, tmp_path, made.cache))
    assert [proof.layer for proof in proofs if not proof.holds] == [unit.covers]
