"""``bitproof doctor``: every tool on one screen."""

from __future__ import annotations

import json
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.table import Table

from bitproof.hw.synth.tools import TOOLS as SYNTHESIS_TOOLS
from bitproof.pipeline.errors import BitproofError
from bitproof.pipeline.toolchain import TOOLS, distribution_version

DISTRIBUTIONS = {
    "brevitas": ("0.13.0", "train"),
    "finn-plus": ("1.6.1", "fpga"),
    "lightning-fabric": ("2.6", "train"),
    "onnx": ("1.21.0", "onnx"),
    "onnxruntime": ("1.25.1", "onnx"),
    "qonnx": ("1.0.0", "onnx"),
    "snakemake": ("9.27", ""),
    "torch": ("2.12.1", "train"),
}
"""Python distributions: the version wanted and the extra that installs it."""
NEEDED_BY = {"": "every run", "fpga": "target finn", "onnx": "every run", "train": "every training"}
"""What needs the distributions of an extra."""


class SomethingMissingError(BitproofError):
    """At least one tool is missing."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ToolState:
    """One tool: *version* is None if it is missing."""

    name: str
    version: str | None
    wanted: str
    needed_by: str
    install: str

    @property
    def ok(self) -> bool:
        """It is there, in the wanted version or a newer one."""
        return self.version is not None and _numbers(self.version) >= _numbers(self.wanted)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def findings() -> list[ToolState]:
    """Return what is known about every tool."""
    found = [
        ToolState(tool.name, tool.version(), tool.wanted, tool.needed_by, tool.install)
        for tool in (*TOOLS, *SYNTHESIS_TOOLS)
    ]
    for name, (wanted, extra) in DISTRIBUTIONS.items():
        install = f"pip install 'bitproof[{extra}]'" if extra else "pip install bitproof"
        found.append(ToolState(name, distribution_version(name), wanted, NEEDED_BY[extra], install))
    return found


def examine(*, as_json: bool) -> None:
    """Print every tool: found or not, its version, the version wanted, how to install it.

    Raises:
        SomethingMissingError: a tool is missing or too old.
    """
    found = findings()
    if as_json:
        rows = [
            {
                "tool": f.name,
                "version": f.version,
                "wanted": f.wanted,
                "ok": f.ok,
                "needed_by": f.needed_by,
                "install": f.install,
            }
            for f in found
        ]
        typer.echo(json.dumps({"ok": all(f.ok for f in found), "tools": rows}))
    else:
        table = Table()
        for heading in ("tool", "", "found", "wanted", "needed by", "how to install"):
            table.add_column(heading, overflow="fold")
        for f in found:
            mark = "ok" if f.ok else ("missing" if f.version is None else "too old")
            table.add_row(f.name, mark, f.version or "-", f.wanted, f.needed_by, "" if f.ok else f.install)
        Console().print(table)
    bad = [f for f in found if not f.ok]
    if bad:
        raise SomethingMissingError(
            "missing or too old: " + "; ".join(f"{f.name}, for {f.needed_by} ({f.install})" for f in bad)
        )
