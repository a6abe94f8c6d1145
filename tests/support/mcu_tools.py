"""Programs that only the tests of the generated C use; a test that needs a missing one is skipped and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitproof.pipeline.toolchain import APT, Tool

CLANG = Tool("clang", "14.0", f"{APT} clang")
CLANG_FORMAT = Tool("clang-format", "14.0", f"{APT} clang-format")
CMAKE = Tool("cmake", "3.25", f"{APT} cmake")
CPPCHECK = Tool("cppcheck", "2.10", f"{APT} cppcheck")
MISSING = {
    tool.name: pytest.mark.skipif(tool.find() is None, reason=f"{tool.name} is not installed: {tool.install}")
    for tool in (CLANG, CLANG_FORMAT, CMAKE, CPPCHECK)
}


def carried_out(tool: Tool, *arguments: str | Path, cwd: Path) -> str:
    """Run *tool* in the folder *cwd* and return what it prints; it must succeed."""
    return tool.run(arguments, needed_by="a test of the generated C", cwd=cwd, log=cwd / "tool.log", timeout_s=120)
