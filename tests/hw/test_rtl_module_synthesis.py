"""Yosys reads every module of ours and synthesizes it; narrow weights take no multiplier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from module_cases import CASES

from benchmarks.lab.yosys import cell_types_of, cells_of
from bitproof.export.integer import IntegerType
from bitproof.hw.rtl.modules import BIPOLAR, Encoding, MatrixUnit, accumulator_type
from bitproof.hw.synth.tools import YOSYS, read_slang, run_yosys

pytestmark = [
    pytest.mark.tool,
    pytest.mark.slow,
    pytest.mark.skipif(YOSYS.find() is None, reason=f"{YOSYS.name} is missing: {YOSYS.install}"),
]


def test_every_module_is_read_and_has_one_driver_for_each_wire(tmp_path: Path) -> None:
    modules = {case.name: case.module for case in CASES}
    for name, types in cell_types_of(modules, "hierarchy -check; proc; flatten; opt_clean", tmp_path).items():
        latches = [kind for kind in types if "latch" in kind]
        assert not latches, name
        assert any(kind.startswith(("$dff", "$adff", "$sdff")) for kind in types), name


def test_narrow_weights_take_no_multiplier_and_wide_ones_do(tmp_path: Path) -> None:
    codes = Encoding.of(IntegerType(8, signed=False))
    modules = {}
    for encoding in (BIPOLAR, Encoding(2, "signed"), Encoding(8, "signed")):
        weights = np.ones((2, 4), dtype=np.int64)
        accumulator = accumulator_type(codes, encoding, 4)
        modules[f"of_{encoding.bits}_bits"] = MatrixUnit(weights, 1, 2, codes, encoding, accumulator)
    found = cells_of(modules, "ecp5", tmp_path)
    assert [cells.multipliers for cells in found.values()] == [0, 0, 2]


def test_a_folder_called_as_one_at_the_root_is_that_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "a.sv").write_text("module a(input logic x, output logic y); assign y = ~x; endmodule\n")
    run_yosys([read_slang("a", ["usr/a.sv"])], script="s.ys", needed_by="test", cwd=tmp_path, log=tmp_path / "log")
