"""A branch beside a longer one: the FIFO that the schedules ask for is enough under any pauses, and a short one is not.

One network is compiled with the depths that were computed, and with the shortcut's cut short.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hardware_graphs import reconvergent_network
from integer_nets import random_and_extreme_codes
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.integer import run
from bitproof.hw.rtl.description import RtlNode, read_description
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import ADD, FIFO
from bitproof.pipeline import Artifact, StageError

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_reconvergence")]

MODEL = reconvergent_network()
NEEDED = 27
"""Words of the shortcut's FIFO: with one less it is full now and then, and the fork waits."""


@pytest.fixture(scope="module")
def cache() -> Path:
    return simulators()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    return build_rtl(MODEL, tmp_path_factory.mktemp("joined") / "run", fps=400_000, fifo_depth=2)


def shortcut(rtl: Artifact) -> RtlNode:
    """The FIFO behind the fork that ends in the join without a product between."""
    description = read_description(rtl.path)
    (join,) = description.units(ADD)
    feeding = {port.stream for port in join.inputs}
    fifos = [node for node in description.units(FIFO) if node.outputs[0].stream in feeding]
    return max(fifos, key=lambda node: node.parameters["depth"])


def shortened(rtl: Artifact, folder: Path, depth: int) -> Artifact:
    """Return a copy of *rtl* whose shortcut has a FIFO of *depth* words."""
    shutil.copytree(rtl.path, folder)
    node = shortcut(rtl)
    path = folder / "rtl" / f"{node.name}.v"
    text, count = re.subn(r"(\.DEPTH\()\d+(\))", rf"\g<1>{depth}\g<2>", path.read_text())
    assert count == 1
    path.write_text(text)
    return replace(rtl, path=folder)


@pytest.mark.parametrize("stall_percent", [0, 25, 75, 95])
def test_the_computed_depth_holds_under_pauses(
    build: RtlBuild, cache: Path, tmp_path: Path, stall_percent: int
) -> None:
    codes = random_and_extreme_codes(MODEL, 40)
    executor = RtlExecutor(build.rtl, tmp_path, cache, stall_percent=stall_percent, seed=stall_percent)
    np.testing.assert_array_equal(run(MODEL, codes), executor(codes), strict=True)


def test_the_computed_depth_costs_no_throughput(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    measured = RtlExecutor(build.rtl, tmp_path, cache).measure(random_and_extreme_codes(MODEL, 10))
    assert measured["cycles_per_image"] == measured["slowest_node_cycles"]


def test_a_fifo_one_word_too_small_costs_throughput_and_no_code(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    """The computed depth has words to spare; with NEEDED words the throughput is whole, with one less it is not."""
    assert shortcut(build.rtl).parameters["depth"] >= NEEDED
    codes, cycles = random_and_extreme_codes(MODEL, 10), []
    for depth in (NEEDED, NEEDED - 1):
        cut = shortened(build.rtl, tmp_path / str(depth), depth)
        executor = RtlExecutor(cut, tmp_path, cache)
        np.testing.assert_array_equal(run(MODEL, codes), executor(codes), strict=True)
        measured = executor.measure(codes)
        cycles.append(float(measured["cycles_per_image"]) - float(measured["slowest_node_cycles"]))
    assert cycles[0] == 0 < cycles[1]


def test_a_short_fifo_locks_up_and_the_message_names_it(build: RtlBuild, cache: Path, tmp_path: Path) -> None:
    node = shortcut(build.rtl)
    broken = shortened(build.rtl, tmp_path / "short", 2)
    with pytest.raises(StageError) as stuck:
        RtlExecutor(broken, tmp_path, cache)(random_and_extreme_codes(MODEL, 10))
    message = str(stuck.value)
    assert "the unit is stuck: 0 of " in message
    assert re.search(
        rf"full FIFOs: .*{node.name} from StreamDuplicate_0 \(input\) to StreamAdd_0 \(sum\), \d words", message
    )
    assert re.search(r"empty FIFOs: .* to StreamAdd_0 \(sum\)", message)
    assert re.search(r"last word of each node: .*MVAU_rtl_0 \(conv0\) in cycle 0", message)
