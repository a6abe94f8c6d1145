"""``docs/targets.md`` says what the targets answer, and where they answer yes they give the integer model's codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mcu_host import host_executor
from target_table import FEATURE_ROWS, OPERATION_ROWS, in_page, table, verdicts

from bitproof.export.integer import IntegerModel, run
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.target import OnnxInt8Target
from bitproof.hw.finn.target import FinnTarget
from bitproof.pipeline import Artifact, Codes, compare_codes
from bitproof.support import ask
from bitproof.targets import require_target

ROWS = {**{f"operation {name}": make for name, make in OPERATION_ROWS.items()}, **FEATURE_ROWS}


def samples(model: IntegerModel) -> Codes:
    codes = list(model.allowed_codes)
    drawn = np.random.default_rng(1).choice(codes, size=(40, model.inputs)).astype(np.int64)
    drawn[0], drawn[1] = codes[0], codes[-1]
    return drawn


def test_the_page_has_the_table_of_the_code() -> None:
    assert in_page() == table(), "write it again: python tests/support/target_table.py"


def test_a_target_that_refuses_more_changes_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxInt8Target, "require_supported", FinnTarget.require_supported)
    assert in_page() != table()


@pytest.mark.parametrize("name", OPERATION_ROWS)
def test_the_model_of_an_operation_holds_it(name: str) -> None:
    assert name in {node.op for node in OPERATION_ROWS[name]().nodes}


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_what_onnx_int8_takes_gives_the_codes_of_the_integer_model(
    make: Callable[[], IntegerModel], tmp_path: Path
) -> None:
    model = make()
    if not verdicts(model)["onnx-int8"].takes:
        return
    proto, layers = build(model)
    onnx.save_model(proto, tmp_path / "model.onnx")
    (tmp_path / "layers.json").write_text(json.dumps(layers))
    executor = OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", tmp_path, ""))
    codes = samples(model)
    report = compare_codes(run(model, codes), executor(codes), names=("integer", "onnx-int8"), origin="random")
    report.require()
    assert report.compared == len(codes) * model.outputs


@pytest.mark.tool
@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_what_c_takes_gives_the_codes_of_the_integer_model(make: Callable[[], IntegerModel], tmp_path: Path) -> None:
    model = make()
    if not verdicts(model)["c"].takes:
        return
    codes = samples(model)
    executor = host_executor(model, tmp_path / "host", lanes=1)
    compare_codes(run(model, codes), executor(codes), names=("integer", "c"), origin="random").require()


def test_a_refusal_names_the_layer() -> None:
    for name, make in ROWS.items():
        model = make()
        for verdict in verdicts(model).values():
            names = {node.name for node in model.nodes}
            about_input = "input codes" in name or "takes" in verdict.why
            assert verdict.takes or about_input or any(node in verdict.why for node in names), (name, verdict)


def test_a_target_is_asked_for_its_memory_too() -> None:
    model = FEATURE_ROWS["input codes of 8 bits, unsigned"]()
    assert ask(require_target("c"), model).takes
    verdict = ask(require_target("c{flash=100}"), model)
    assert (verdict.takes, verdict.too_large) == (False, True)
    assert not ask(require_target("finn"), FEATURE_ROWS["biases at the outputs"]()).too_large
