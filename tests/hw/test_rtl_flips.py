"""Drawn bits of weights and thresholds in the RTL's memories: each that matters is found, and none that does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from integer_nets import random_and_extreme_codes, random_network
from rtl_builds import build_rtl, simulators

from benchmarks.lab.flips import draw_flips, verdicts
from bitproof.export.integer import run
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.hw.rtl.providers import THRESHOLDING

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_simulation")]

FLIPS = 60


def test_every_flipped_bit_is_found_or_proven_to_change_no_code(tmp_path: Path) -> None:
    model = random_network((16, 8, 6, 3), 11)
    build = build_rtl(model, tmp_path / "run", fps=1_000_000)
    executor = RtlExecutor(build.rtl, tmp_path, simulators())
    flips = draw_flips(build.rtl.path, FLIPS, np.random.default_rng(5))
    found = verdicts(model, build.rtl.path, executor, flips, random_and_extreme_codes(model, 40))
    for flip, verdict in zip(flips, found, strict=True):
        assert verdict.found == verdict.matters, (flip.node, flip.row, flip.column, flip.bit)
    seen = Counter("images" if verdict.by_images else "proof" if verdict.by_proof else "no effect" for verdict in found)
    assert seen.keys() == {"images", "proof", "no effect"}, "else the draw has no case of it"
    assert {flip.unit.op for flip in flips} > {THRESHOLDING}
    codes = random_and_extreme_codes(model, 40)
    np.testing.assert_array_equal(run(model, codes), executor(codes), strict=True)
