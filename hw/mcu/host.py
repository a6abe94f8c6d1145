"""The executor that calls the generated C as a shared library of this machine.

Nothing is emulated: no cross compiler and no QEMU are needed, and the C runs as fast as it does in a program of a user.
The library is called from a process of its own (:mod:`bitproof.hw.mcu.host_process`) for every command. A fault in the
C ends that process with a signal, which is the error here; and that process is confined to the library and the folder
of its files, because an artifact that is explained may come from others.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitproof.hw.mcu.cores import HOST
from bitproof.hw.mcu.executor import CExecutor, Command, Mode
from bitproof.hw.mcu.host_process import ACCUMULATOR_BYTES, ModeName, Order
from bitproof.hw.mcu.library import LIBRARY
from bitproof.pipeline import Artifact, Codes, ToolMissingError
from bitproof.pipeline.toolchain import Confinement, run_program

PROCESS = Path(__file__).parent / "host_process.py"
PACKAGES = ("cffi", "_cffi_backend", "pycparser")
"""What the process imports."""
MODES: Mapping[Mode, ModeName] = {
    Mode.RUN: "run",
    Mode.REQUANTIZE: "requantize",
    Mode.MULTIPLY: "multiply",
    Mode.REQUANTIZE_AT: "requantize_at",
    Mode.TRACE: "trace",
}
"""All but the one that counts instructions."""
EXIT_CODES = (
    "its exit codes: a negative one is the signal that ended it: the C read or wrote where it may not; 103 a file "
    "cannot be read or written (is the disk full?), 104 the network refused its arguments"
)


class HostExecutor(CExecutor):
    """Runs a ``c-library`` artifact on this machine."""

    def __init__(self, artifact: Artifact, workdir: Path) -> None:
        """Read the manifest of *artifact*, see :class:`CExecutor`."""
        super().__init__(artifact, workdir, HOST)
        self._library = (artifact.path / LIBRARY).resolve()

    def measure(self, codes: Codes) -> Mapping[str, int | float | str]:
        """Return what the network takes of any machine: nothing of it depends on *codes* or on this one."""
        del codes
        return {
            "macs": self.manifest.macs,
            "weight_bytes": sum(entry.weight_bytes for entry in self.manifest.products),
            "arena_bytes": self.manifest.arena_bytes,
        }

    def _carry_out(self, command: Command, options: Sequence[str]) -> None:
        folders = package_folders()
        run_program(
            [sys.executable, "-I", "-S", str(PROCESS), str(self._library), *map(str, folders), *options],
            needed_by=f"generated C on this machine ({EXIT_CODES})",
            cwd=self.workdir,
            log=self.workdir / "host.log",
            timeout_s=command.timeout_s,
            confined=Confinement(readable=(self._library, PROCESS, *folders), writable=(self.workdir,)),
            given=json.dumps(self._order(command)).encode(),
        )

    def _order(self, command: Command) -> Order:
        """Return *command* as the process takes it, with all sizes that it needs."""
        manifest = self.manifest
        if command.mode == Mode.MULTIPLY:
            product = manifest.products[command.number]
            inputs, outputs = product.call_inputs, product.call_outputs
        elif command.mode in (Mode.REQUANTIZE, Mode.REQUANTIZE_AT):
            outputs = manifest.activations[command.number].outputs
            inputs = ACCUMULATOR_BYTES * outputs
        else:
            inputs, outputs = manifest.inputs, manifest.outputs
        return Order(
            prefix=manifest.prefix,
            mode=MODES[command.mode],
            layer=command.number,
            steps=len(manifest.values),
            count=command.count,
            first=command.first,
            inputs=inputs,
            outputs=outputs,
            arena_bytes=manifest.arena_bytes,
            values=[(value.offset, value.size_bytes) for value in manifest.values],
        )


def package_folders() -> tuple[Path, ...]:
    """Return the folders that hold what the process imports.

    Raises:
        ToolMissingError: cffi is not installed.
    """
    folders = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ToolMissingError("cffi", needed_by="target c{core=host}", install="pip install 'bitproof[mcu]'")
        origin = Path(spec.origin)
        folders.append(origin.parent if spec.submodule_search_locations is None else origin.parent.parent)
    return tuple(dict.fromkeys(folders))
