"""Functions of the user's that fail: an error of theirs, said before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline import InputError
from train.models import require_logits
from train.user_code import call_user_function


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "raise ValueError('no')", "return 1 / 0"])
def test_function_that_raises_or_exits_is_an_input_error(tmp_path: Path, body: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def function():\n    {body}\n")
    with pytest.raises(InputError, match=r"^data\.name = '.*mine\.py:function' raised \w+"):
        call_user_function("data.name", f"{file}:function")


def test_file_that_exits_on_import_is_an_input_error(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match="cannot be imported: SystemExit"):
        call_user_function("model.name", f"{file}:function")


def fails(values: Tensor) -> Tensor:
    raise RuntimeError("mat1 and mat2")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (fails, "its forward pass raised RuntimeError: mat1 and mat2"),
        (lambda values: 3, r"gave int of shape \(\)"),
        (
            lambda values: values[:, 0],
            r"gave Tensor of shape \(2,\) .* logits of shape \(2, 4",
        ),
        (lambda values: values, r"gave Tensor of shape \(2, 5\)"),
    ],
)
def test_network_without_logits_is_refused(network: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_logits("mine.py:function", network, 5, 4)
    require_logits("mine.py:function", lambda values: torch.zeros(len(values), 4), 5, 4)
