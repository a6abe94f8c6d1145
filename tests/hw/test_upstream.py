"""What ``docs/upstream`` reports of other projects' sources is still so, and our patch is what mends it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_nets import random_and_extreme_codes, random_network
from rtl_builds import RtlBuild, build_rtl, simulators

from bitproof.export.integer import run
from bitproof.hw.finn.patches import PATCHES
from bitproof.hw.rtl.executor import RtlExecutor
from bitproof.pipeline import Artifact, StageError

QUEUE = next(patch for patch in PATCHES if patch.file == "mvu_vvu_axi.sv")


@pytest.fixture(scope="module")
def one_fold(tmp_path_factory: pytest.TempPathFactory) -> RtlBuild:
    """A network whose matrix units take all their inputs in one word, and so give a result in every cycle."""
    return build_rtl(
        random_network((9, 4, 3), 12), tmp_path_factory.mktemp("rtl") / "run", fps=100_000_000, fifo_depth=2
    )


def with_source(artifact: Artifact, folder: Path, name: str, old: str, new: str) -> Artifact:
    """Copy *artifact* to *folder*, with *old*, which is there once, replaced by *new* in the source *name*."""
    shutil.copytree(artifact.path, folder)
    source = folder / "rtl" / name
    text = source.read_text()
    assert text.count(old) == 1
    source.write_text(text.replace(old, new))
    return replace(artifact, path=folder)


@pytest.mark.tool
@pytest.mark.slow
def test_the_output_queue_of_a_matrix_unit_overflows_without_the_patch(one_fold: RtlBuild, tmp_path: Path) -> None:
    """``docs/upstream/finn-mvu-output-queue.md``: the same stalls that are harmless with the patch."""
    codes = random_and_extreme_codes(one_fold.model, 500)
    patched = RtlExecutor(one_fold.rtl, tmp_path, simulators(), stall_percent=80, seed=3)
    np.testing.assert_array_equal(run(one_fold.model, codes), patched(codes))
    unpatched = with_source(one_fold.rtl, tmp_path / "unpatched", QUEUE.file, QUEUE.new, QUEUE.old)
    executor = RtlExecutor(unpatched, tmp_path, simulators(), stall_percent=80, seed=3)
    with pytest.raises(StageError, match="Overflowing output queue"):
        executor(codes)
