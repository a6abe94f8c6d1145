"""The examples in the docstrings of the packages are true."""

from __future__ import annotations

import doctest
import importlib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bitproof", "pipeline", "train", "export", "hw")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "bitproof" else ("bitproof", *parts))
    return name.removesuffix(".__init__")


MODULES = sorted(
    module_of(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def test_a_wrong_example_fails() -> None:
    module = types.ModuleType("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module, report=False).failed == 1
