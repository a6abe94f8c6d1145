"""The generated C, compiled by the host's compiler under sanitizers, as an executor."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu.codegen import write_sources
from bitproof.hw.mcu.executor import WHY_MONOTONE
from bitproof.hw.mcu.firmware import adapter_header
from bitproof.hw.mcu.manifest import ActivationEntry, Manifest, ProductEntry
from bitproof.hw.mcu.package import SOURCES
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import Codes, WeightSign
from bitproof.pipeline.toolchain import GCC, run_program

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class HostExecutor:
    """Runs the generated C of one network on the host."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return "c:host"

    @property
    def weight_sign(self) -> WeightSign:
        return "lowered"

    def __call__(self, codes: Codes) -> Codes:
        value, output = self.manifest.input, self.manifest.output
        stored = value.codes
        assert stored is not None
        given = codes if self.manifest.signed_input else (codes - stored.lowest) // stored.step  # wrong ones, too
        return output.from_c(self._run("r", 0, len(codes), 0, value.in_c(given) & 0xFF, "<i4", self.manifest.outputs))

    def turns(self, node: str) -> int:
        return _numbered(self.manifest.products, node)[1].positions

    def multiply(self, node: str, codes: Codes, turn: int = 0) -> Codes:
        layer, entry = _numbered(self.manifest.products, node)
        calls = entry.placed(entry.in_c(entry.codes.to_bytes(codes)), turn)
        made = self._run("m", layer, len(calls), 0, calls, "<i4", entry.call_outputs)
        return entry.taken(made, turn, len(codes))

    def requantize(self, node: str, first: int, last: int) -> Codes:
        layer, entry = _numbered(self.manifest.activations, node)
        none = np.empty((0, 0), dtype=np.int64)
        return entry.codes.from_bytes(self._run("q", layer, last - first + 1, first, none, "u1", entry.outputs))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        layer, entry = _numbered(self.manifest.activations, node)
        raw = np.frombuffer(accumulators.astype("<i4").tobytes(), dtype=np.uint8).astype(np.int64)
        return entry.codes.from_bytes(self._run("p", layer, len(accumulators), 0, raw, "u1", entry.outputs))

    def trace(self, codes: Codes) -> dict[str, Codes]:
        value, manifest = self.manifest.input, self.manifest
        assert value.codes is not None
        given = codes if manifest.signed_input else value.codes.to_bytes(codes)
        raw = self._run("t", 0, len(codes), 0, value.in_c(given) & 0xFF, "u1", manifest.traced_bytes)
        return manifest.traced(raw.astype(np.uint8))

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        return WHY_MONOTONE[_numbered(self.manifest.activations, node)[1].method]

    def _run(self, mode: str, layer: int, count: int, first: int, codes: Codes, dtype: str, width: int) -> Codes:
        (self.folder / "input.bin").write_bytes(codes.astype(np.uint8).tobytes())
        argv = [str(self.folder / "host"), mode, str(layer), str(count), str(first)]
        run_program(argv, needed_by="host test", cwd=self.folder, log=self.folder / "run.log", timeout_s=120)
        raw = np.frombuffer((self.folder / "output.bin").read_bytes(), dtype=dtype)
        return raw.astype(np.int64).reshape(count, width)


E = TypeVar("E", ProductEntry, ActivationEntry)


def _numbered(entries: tuple[E, ...], node: str) -> tuple[int, E]:
    return next((number, entry) for number, entry in enumerate(entries) if entry.name == node)


def host_executor(model: IntegerModel, folder: Path, *, lanes: int) -> HostExecutor:
    """Generate *model* into the new *folder*, compile it with dual-lane products or single ones, and return it."""
    folder.mkdir(parents=True)
    manifest = write_sources(plan_network(model), folder, model_sha256="0" * 64, core="cortex-m4")
    for name in manifest.sources:
        shutil.copyfile(folder / SOURCES / name, folder / name)
    (folder / "network_under_test.h").write_text(adapter_header(manifest))
    shutil.copyfile(Path(__file__).parent / "host_main.c", folder / "host_main.c")
    compile_host(folder, manifest, lanes=lanes)
    return HostExecutor(folder, manifest)


def compile_host(folder: Path, manifest: Manifest, *, lanes: int) -> None:
    """Compile the sources in *folder* with every warning an error."""
    sources = [name for name in manifest.sources if name.endswith(".c")]
    GCC.run(
        [*WARNINGS, *SANITIZERS, "-O1", f"-DBITPROOF_LANES={lanes}", *sources, "host_main.c", "-o", "host"],
        needed_by="host test",
        cwd=folder,
        log=folder / "gcc.log",
        timeout_s=120,
    )
