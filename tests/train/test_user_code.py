"""Functions of the user's that fail: an error of theirs, said before training."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitproof.pipeline import InputError
from bitproof.train.models import require_logits
from bitproof.train.user_code import call_user_function


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


def test_error_is_told_by_the_line_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import json\ndef read():\n    return json.loads('no')\n")
    (tmp_path / "mine.py").write_text("from helper import read\ndef function():\n    return read()\n")
    with pytest.raises(InputError) as caught:
        call_user_function("data.name", f"{tmp_path / 'mine.py'}:function")
    assert str(caught.value).startswith(f"data.name = '{tmp_path / 'mine.py'}:function' raised JSONDecodeError: Expect")
    assert str(caught.value).endswith(f"({tmp_path / 'helper.py'}, line 3)")


def test_modules_beside_the_file_are_found_at_once_and_later_and_the_path_stays(tmp_path: Path) -> None:
    before = list(sys.path)
    (tmp_path / "beside_one.py").write_text("from beside_two import number\n")
    (tmp_path / "beside_two.py").write_text("number = 7\n")
    (tmp_path / "beside_late.py").write_text("number = 8\n")
    (tmp_path / "mine.py").write_text(
        "from beside_one import number\n"
        "def function():\n    import beside_late\n    return number, beside_late.number\n"
    )
    assert call_user_function("data.name", f"{tmp_path / 'mine.py'}:function") == (7, 8)
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError):  # negative control: a file of ours does not see them
        importlib.import_module("beside_unseen")


def test_each_folder_has_its_own_modules_of_one_name(tmp_path: Path) -> None:
    for name, number in (("first", 1), ("second", 2), ("first", 1)):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "own_layers.py").write_text(f"number = {number}\n")
        (folder / "mine.py").write_text("from own_layers import number\ndef function():\n    return number\n")
        assert call_user_function("data.name", f"{folder / 'mine.py'}:function") == number


def test_neither_ours_nor_what_is_installed_is_shadowed(tmp_path: Path) -> None:
    for name in ("bitproof", "json", "colorsys", "tabulate"):
        (tmp_path / f"{name}.py").write_text("number = 9\n")
    (tmp_path / "mine.py").write_text(
        "import bitproof, colorsys, json, own_folder.inner, scipy\n"
        "def function():\n"
        "    modules = bitproof, colorsys, json, scipy, own_folder.inner\n"
        "    return [hasattr(module, 'number') for module in modules]\n"
    )
    for name in ("scipy", "own_folder"):  # folders without __init__.py
        (tmp_path / name).mkdir()
        (tmp_path / name / "inner.py").write_text("number = 9\n")
    assert call_user_function("data.name", f"{tmp_path / 'mine.py'}:function") == [*[False] * 4, True]
    assert not hasattr(importlib.import_module("tabulate"), "number"), "an import of ours finds what is installed"


def test_workers_of_a_data_loader_have_the_modules_too(tmp_path: Path) -> None:
    (tmp_path / "loaded.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle, torch.utils.data\n"
        "@dataclass\nclass Numbers(torch.utils.data.Dataset):\n    count: int\n"
        "    def __len__(self):\n        return self.count\n"
        "    def __getitem__(self, i):\n        from loaded import double\n        return double(i)\n"
        "def function():\n    numbers = pickle.loads(pickle.dumps(Numbers(4)))\n"
        "    loader = torch.utils.data.DataLoader(numbers, num_workers=1)\n"
        "    return sorted(int(x) for x in loader)\n"
    )
    assert call_user_function("data.name", f"{tmp_path / 'mine.py'}:function") == [0, 2, 4, 6]


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


def test_whatever_a_function_raises_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("class Odd(BaseException): pass\ndef make(): raise Odd('stop')\n")
    with pytest.raises(InputError, match=r"raised Odd: stop \(.*odd.py, line 2\)"):
        call_user_function("MODEL", f"{tmp_path / 'odd.py'}:make")
