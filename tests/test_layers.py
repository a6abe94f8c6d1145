"""The arrows between the packages: train -> pipeline; export -> pipeline; hw -> pipeline, export.integer."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "train", "export", "hw")
ALLOWED = {
    "train": ("pipeline",),
    "export": ("pipeline",),
    "hw": ("pipeline", "export.integer"),
    "pipeline": (),
}
KERNEL_THIRD_PARTY = {"numpy", "pydantic"}
COMPOSITION_ROOT = ("cli.py", "yaml_file.py", "commands", "report")
"""Parts of pipeline/ that are not kernel: they may use typer, rich, PyYAML, jinja2 and matplotlib."""


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            # ``from bitproof import train`` names the package train
            names.update(
                [f"bitproof.{alias.name}" for alias in node.names] if node.module == "bitproof" else [node.module or ""]
            )
    return {name.removeprefix("bitproof.") for name in names}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_its_arrows_allow(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        for name in imports_of(path):
            if name.partition(".")[0] not in PACKAGES or name.partition(".")[0] == package:
                continue
            allowed = ALLOWED[package]
            fits = any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)
            assert fits, f"{path.relative_to(ROOT)} imports {name}; allowed: {allowed}"


def test_kernel_uses_the_standard_library_numpy_and_pydantic_only() -> None:
    for path in sources("pipeline"):
        if path.relative_to(ROOT / "pipeline").parts[0] in COMPOSITION_ROOT:
            continue
        third_party = (
            {name.partition(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names) - {"pipeline"}
        )
        assert third_party <= KERNEL_THIRD_PARTY, f"{path.relative_to(ROOT)} imports {sorted(third_party)}"


def test_layering_test_sees_a_forbidden_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import bitproof.export.qonnx\nfrom bitproof.hw.mcu import qemu\ndef late():\n    from bitproof import train\n"
    )
    assert imports_of(bad) == {"export.qonnx", "hw.mcu", "train"}


def test_every_registry_line_names_something_that_exists() -> None:
    from bitproof.pipeline import registry

    tables = (registry.STAGES, registry.EXECUTORS, registry.FAULTS, registry.REPROGRAM, registry.SUPPORT)
    for table in (*tables, registry.MEMORY, registry.OPTION_LIMITS, registry.FUNCTIONS):
        for name in table:
            assert registry.resolve(table, name) is not None
