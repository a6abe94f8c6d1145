"""The arrows between the packages: train, export -> pipeline; hw -> pipeline, export.integer, export.program.

The composition root, ``bitproof`` itself, may import everything; nothing imports it.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "train", "export", "hw")
ALLOWED: dict[str, tuple[str, ...]] = {
    "train": ("pipeline",),
    "export": ("pipeline",),
    "hw": ("pipeline", "export.integer", "export.program"),
    "pipeline": (),
}
KERNEL_THIRD_PARTY = {"numpy", "pydantic"}


def imports_of(path: Path) -> set[str]:
    """Return the modules that *path* imports anywhere in it, those of ours without ``bitproof.`` in front."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            if node.module == "bitproof":  # ``from bitproof import train`` names the package train
                names.update(f"bitproof.{alias.name}" for alias in node.names)
            else:
                names.add(node.module or "")
    return {
        f"ours:{name.removeprefix('bitproof.')}" if name.partition(".")[0] == "bitproof" else name for name in names
    }


def ours(path: Path) -> set[str]:
    return {name.removeprefix("ours:") for name in imports_of(path) if name.startswith("ours:")}


def strings_of(path: Path) -> set[str]:
    """Return the string constants of *path* that are no docstrings."""
    tree = ast.parse(path.read_text())
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in statements]
    return {node.value for node in constants if isinstance(node.value, str)}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def forbidden(path: Path, package: str) -> list[str]:
    """Return what *path* imports of ours that *package* may not import."""
    allowed = (package, *ALLOWED[package])
    return [n for n in ours(path) if not any(n == prefix or n.startswith(prefix + ".") for prefix in allowed)]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_what_its_arrows_allow(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        assert forbidden(path, package) == [], f"{path.relative_to(ROOT)}; allowed: {ALLOWED[package]}"


def test_kernel_uses_the_standard_library_numpy_and_pydantic_only() -> None:
    for path in sources("pipeline"):
        others = {name.partition(".")[0] for name in imports_of(path) if not name.startswith("ours:")}
        third_party = others - set(sys.stdlib_module_names)
        assert third_party <= KERNEL_THIRD_PARTY, f"{path.relative_to(ROOT)} imports {sorted(third_party)}"


def test_rtl_knows_no_finn() -> None:
    assert sources("hw/rtl")
    for path in sources("hw/rtl"):
        assert not any(name.startswith("hw.finn") for name in ours(path)), path.relative_to(ROOT)


NAMED = re.compile(r"^(?:bitproof\.)?(?:train|export|hw)\.\w+(?:\.\w+)*(?::\w+)?$")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_string_stands_for_an_import(package: str) -> None:
    modules = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for other in PACKAGES
        for path in sources(other)
    }
    for path in sources(package):
        named = {text for text in strings_of(path) if NAMED.match(text)}
        named = {text for text in named if text.partition(":")[0].removeprefix("bitproof.") in modules}
        # FINN runs in a process of its own, which is started by its module's name
        assert named <= {"bitproof.hw.finn.child"}, f"{path.relative_to(ROOT)} names {sorted(named)}"


def test_layering_test_sees_what_is_forbidden(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        '"""hw.mcu.cores"""\nimport bitproof.export.qonnx\nfrom bitproof.hw.mcu import qemu\n'
        "def late():\n    from bitproof import train, targets\n    return 'hw.stitch:StitchRtl'\n"
    )
    assert ours(bad) == {"export.qonnx", "hw.mcu", "train", "targets"}
    assert sorted(forbidden(bad, "export")) == ["hw.mcu", "targets", "train"]
    assert {text for text in strings_of(bad) if NAMED.match(text)} == {"hw.stitch:StitchRtl"}
