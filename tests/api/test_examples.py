"""The examples of the Python API run as they are written: the page's, and the notebook's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bitproof_command import scheduled_in_this_process

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.tool,
    pytest.mark.end_to_end,
    pytest.mark.filterwarnings("ignore"),  # of torch and brevitas about their own insides
]


def executed(blocks: list[str]) -> dict[str, Any]:
    """Run *blocks* one after the other and return their names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with scheduled_in_this_process():
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number}", "exec"), names)
    return names


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), flags=re.DOTALL)
    assert blocks
    assert executed(blocks)["run"].path == tmp_path / "runs" / "example"


def test_the_notebook_trains_and_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "deploy_a_trained_network.ipynb").read_text())
    names = executed(["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"])
    run = names["run"]
    assert run.equal, run
    assert [check.actual for check in run.checks] == ["torch", "qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m4"]
    assert run.ledger.accuracy["c:cortex-m4"] > 90
    assert "does not fit the memory" in names["model"].lint("c{core=cortex-m4, flash=2k}").why
