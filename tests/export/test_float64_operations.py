"""Every operation that the lowering takes is evaluated in binary64, too: a file is not refused for its reference."""

from __future__ import annotations

from pathlib import Path

import cases_of_graphs  # noqa: F401  it lists its graphs
import cases_of_nodes  # noqa: F401  it lists its graphs
import pytest
from agreement import random_codes
from small_graphs import CASES

from bitproof.export.importer import ImportQonnx
from bitproof.export.integer import run
from bitproof.export.lower import lower_file
from bitproof.export.lowering import origins_of
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.export.qonnx_float64 import QonnxFloat64Executor
from bitproof.pipeline import StageContext
from bitproof.pipeline.import_config import source_file


@pytest.mark.parametrize("name", list(CASES))
def test_binary64_gives_the_codes_of_the_integer_model(tmp_path: Path, name: str) -> None:
    graph = CASES[name]()
    path = graph.file.save(tmp_path / "net" / "m.onnx", graph.inputs, graph.output, graph.outputs, graph.kind)
    made, scratch = tmp_path / "export", tmp_path / "scratch"
    made.mkdir()
    scratch.mkdir()
    ImportQonnx(source=source_file(path), input=None).run(StageContext(made, scratch, 0))
    lowered = lower_file(made / FILE)
    codes = random_codes(lowered.model, 1)
    executor = QonnxFloat64Executor(load_qonnx(made / FILE), lowered.model, origins_of(lowered))
    assert (run(lowered.model, codes) == executor(codes)).all()
