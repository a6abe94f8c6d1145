"""RTL with other thresholds, written into its memories, equals the integer model with these thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_nets import random_and_extreme_codes, random_network
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.integer import Affine, MatMul, Threshold, run
from bitproof.hw.calibrate import Parameters
from bitproof.hw.finn.reprogram import reprogram_thresholds
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.pipeline import StageError, compare_codes

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("finn_reprogram")]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    return build_rtl(random_network((16, 8, 6, 3), 11), tmp_path_factory.mktemp("rtl") / "run", fps=1_000_000)


def test_other_thresholds_need_no_compilation_and_give_the_codes_of_their_model(
    build: RtlBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = random_and_extreme_codes(build.model, 60)
    cache = simulators()
    parameters = Parameters(build.model, "thresholds")
    generator = np.random.default_rng(0)
    for number in range(3):
        model = parameters.model_of(generator.normal(0, 1.0, parameters.size))
        folder = tmp_path / f"rtl{number}"
        assert reprogram_thresholds(build.rtl.path, folder, build.model, model)
        executor = RtlExecutor(replace(build.rtl, path=folder), tmp_path, cache)
        outputs = executor(codes)
        compare_codes(run(model, codes), outputs, names=("integer", "rtl"), origin="random").require()
        assert (outputs != run(build.model, codes)).any()
        if number == 0:
            monkeypatch.delattr("bitproof.hw.rtl.compile._compile")


def test_other_weights_are_left_to_the_generator_and_an_added_bias_is_refused(build: RtlBuild, tmp_path: Path) -> None:
    first, *rest = build.model.nodes
    assert isinstance(first, MatMul)
    weights = replace(build.model, nodes=(replace(first, weights=-first.weights), *rest))
    biased = replace(build.model, nodes=(*build.model.nodes, Affine.bias("bias0", np.zeros(3, dtype=np.int64))))
    assert not reprogram_thresholds(build.rtl.path, tmp_path / "rtl", build.model, weights)
    with pytest.raises(
        StageError, match=r"layer 'bias0' adds a bias .* no memory of the RTL holds\. Calibrate thresholds"
    ):
        reprogram_thresholds(build.rtl.path, tmp_path / "rtl", build.model, biased)
    assert not (tmp_path / "rtl").exists()


def test_a_threshold_that_does_not_fit_and_a_foreign_memory_are_refused(build: RtlBuild, tmp_path: Path) -> None:
    def with_largest(value: int) -> object:
        nodes = list(build.model.nodes)
        thresholds = build.model.nodes_of(Threshold)[0].thresholds.copy()
        thresholds[1, -1] = value
        nodes[1] = replace(build.model.nodes_of(Threshold)[0], thresholds=thresholds)
        return replace(build.model, nodes=tuple(nodes))

    with pytest.raises(StageError, match=r"threshold \[1, 14\] = 1073741824 does not fit its memory of \d+ bits"):
        reprogram_thresholds(build.rtl.path, tmp_path / "rtl", build.model, with_largest(1 << 30))  # type: ignore[arg-type]
    other = random_network((16, 8, 6, 3), 12)
    same_weights = replace(other, nodes=build.model.nodes[:1] + other.nodes[1:])
    foreign = replace(
        same_weights,
        nodes=tuple(
            mine if isinstance(mine, MatMul) else theirs
            for mine, theirs in zip(build.model.nodes, other.nodes, strict=True)
        ),
    )
    with pytest.raises(StageError, match="of the integer model belongs; build the RTL of this model again"):
        reprogram_thresholds(build.rtl.path, tmp_path / "rtl", foreign, build.model)
