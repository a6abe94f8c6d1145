"""One Verilator bench of many of our SystemVerilog modules, each on a clock of its own, and the cases it holds.

A case is a module with its parameters; its mutants are copies of the module with one changed line, which the same
comparison must find wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rtl_builds import simulators

from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.modules import FOLDER, Module
from bitproof.hw.rtl.simulator import Measurement, run_bench
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import Codes

Draw = Callable[[np.random.Generator], tuple[Codes, ...]]
LARGEST_IDLE_CYCLES = 2000
WITHDRAWN = "a word that was offered has changed before it was taken"


@dataclass(frozen=True)
class Case:
    """A module under test.

    *draw* makes its input streams, by default random codes with samples of the least and of the greatest; *mutants* are
    texts of the module's file and what replaces them, *flipped_bit* the bit of a memory word whose flip must be seen;
    *change* is the replacement in a mutant.
    """

    name: str
    module: Module
    samples: int = 24
    draw: Draw | None = None
    mutants: tuple[tuple[str, str], ...] = ()
    flipped_bit: int = 0
    change: tuple[str, str] | None = field(default=None, repr=False)

    def streams(self, seed: int = 0) -> tuple[Codes, ...]:
        rng = np.random.default_rng(seed)
        if self.draw is not None:
            return self.draw(rng)
        return tuple(random_stream(layout, self.samples, rng) for layout in self.module.inputs)

    def mutated(self) -> list[Case]:
        """The mutants as cases of their own."""
        return [
            replace(self, name=f"{self.name}_mutant{number}", mutants=(), change=change)
            for number, change in enumerate(self.mutants)
        ]


def random_stream(layout: StreamLayout, samples: int, rng: np.random.Generator) -> Codes:
    """Random codes of the whole range; the first two samples are the least and the greatest, a third is both mixed."""
    low, high = layout.minimum, layout.maximum
    codes = rng.integers(low, high, size=(samples, layout.words, layout.elements), endpoint=True)
    codes[0], codes[1] = low, high
    codes[2] = rng.choice([low, high], size=codes[2].shape)
    return codes.reshape(-1, layout.elements).astype(np.int64)


@dataclass(frozen=True)
class ModuleBench:
    """The compiled bench, and a folder for what is exchanged."""

    executable: Path
    cases: tuple[Case, ...]
    folder: Path

    def run(
        self, case: Case, streams: Sequence[Codes], *, stall: int, memories: Mapping[str, str] | None = None
    ) -> tuple[tuple[Codes, ...], Measurement]:
        """Send *streams* through the module of *case*; *memories* are other files than its own."""
        module = case.module
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        for path, text in (module.memory_files(case.name) if memories is None else memories).items():
            (self.folder / path).write_text(text)
        samples = len(streams[0]) // module.inputs[0].words
        arguments: dict[str, int | str | Path] = {
            "unit": self.cases.index(case),
            "stall": stall,
            "seed": stall,
            "idle-limit": LARGEST_IDLE_CYCLES,
        }
        for suffix, index in (("", 0), ("1", 1)):
            arguments |= {f"input-bytes{suffix}": 0, f"output-bytes{suffix}": 0}
            if index < len(module.inputs):
                source = self.folder / f"in{index}"
                layout = module.inputs[index]
                layout.pack(streams[index]).tofile(source)
                arguments |= {f"input{suffix}": source.resolve(), f"input-bytes{suffix}": layout.word_bytes}
                arguments[f"repeat{suffix}"] = 1
            if index < len(module.outputs):
                layout = module.outputs[index]
                arguments |= {f"output{suffix}": (self.folder / f"out{index}").resolve()}
                arguments |= {f"output-bytes{suffix}": layout.word_bytes, f"words-out{suffix}": layout.words}
                arguments[f"outputs{suffix}"] = samples * layout.words
        measured = run_bench(self.executable, arguments, memories=self.folder, workdir=self.folder, seed=stall)
        outputs = tuple(
            layout.unpack(np.fromfile(self.folder / f"out{index}", dtype=np.uint8).reshape(-1, layout.word_bytes))
            for index, layout in enumerate(module.outputs)
        )
        return outputs, measured


def build_bench(cases: Sequence[Case], folder: Path) -> ModuleBench:
    """Compile *cases* and their mutants."""
    every = tuple(case for original in cases for case in (original, *original.mutated()))
    sources = {name: (FOLDER / name).read_text() for case in cases for name in case.module.sources}
    for case in every:
        if case.change is not None:
            sources[f"{case.name}_unit.sv"] = mutant_text(case)
        sources[f"{case.name}.sv"] = wrapper_of(case)
    sources["bench.sv"] = bench_text(every)
    executable = compiled_bench(
        {f"rtl/{name}": text for name, text in sources.items()}, cache=simulators(), workdir=folder
    )
    return ModuleBench(executable, every, folder)


def wrapper_of(case: Case) -> str:
    text = case.module.wrapper(case.name)
    return text if case.change is None else text.replace(f"  {case.module.module} #(", f"  {case.name}_unit #(")


def mutant_text(case: Case) -> str:
    """The module of *case* under another name, with its change."""
    assert case.change is not None
    old, new = case.change
    text = (FOLDER / f"{case.module.module}.sv").read_text()
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {case.module.module}.sv"
    return re.sub(rf"\bmodule {case.module.module}\b", f"module {case.name}_unit", text.replace(old, new), count=1)


def bench_text(cases: Sequence[Case]) -> str:
    """The module ``bench``: every case gets the same inputs; ``unit`` selects whose outputs are seen."""
    widths = {
        "in": [widest([case.module.inputs for case in cases], index) for index in (0, 1)],
        "out": [widest([case.module.outputs for case in cases], index) for index in (0, 1)],
    }
    ports = [f"input [{len(cases) - 1}:0] clock", "input [15:0] unit", "input reset_n"]
    for index, number in enumerate(("", "1")):
        ports += [f"input [{widths['in'][index] - 1}:0] in{number}_data", f"input in{number}_valid"]
        ports += [f"output logic in{number}_ready", f"output logic [{widths['out'][index] - 1}:0] out{number}_data"]
        ports += [f"output logic out{number}_valid", f"input out{number}_ready"]
    lines = ["module bench (\n  " + ",\n  ".join(ports) + "\n);\n"]
    chosen = []
    for position, case in enumerate(cases):
        connected = [f".ap_clk(clock[{position}])", ".ap_rst_n(reset_n)"]
        seen = []
        for index, layout in enumerate(case.module.inputs):
            number, wire = str(index or ""), f"{case.name}_in{index}_ready"
            lines.append(f"  wire {wire};\n")
            connected += [f".in{index}_V_TDATA(in{number}_data[{layout.width_bits - 1}:0])"]
            connected += [f".in{index}_V_TVALID(in{number}_valid)", f".in{index}_V_TREADY({wire})"]
            seen.append(f"in{number}_ready = {wire};")
        for index, layout in enumerate(case.module.outputs):
            number, wire = str(index or ""), f"{case.name}_out{index}"
            lines.append(f"  wire {wire}_valid;\n  wire [{layout.width_bits - 1}:0] {wire}_data;\n")
            connected += [f".out{index}_V_TDATA({wire}_data)", f".out{index}_V_TVALID({wire}_valid)"]
            connected += [f".out{index}_V_TREADY(out{number}_ready)"]
            lines.append(kept_text(wire, f"clock[{position}]", f"out{number}_ready", layout.width_bits))
            seen.append(f"out{number}_valid = {wire}_valid;")
            seen.append(f"out{number}_data = {widths['out'][index]}'({wire}_data);")
        lines.append(f"  {case.name} unit_{case.name} (" + ", ".join(connected) + ");\n")
        chosen.append(f"      {position}: begin {' '.join(seen)} end\n")
    defaults = "in_ready = 0; in1_ready = 0; out_valid = 0; out1_valid = 0; out_data = '0; out1_data = '0;"
    lines.append(f"  always_comb begin\n    {defaults}\n    case (unit)\n{''.join(chosen)}      default: begin end\n")
    return "".join([*lines, "    endcase\n  end\nendmodule\n"])


def kept_text(wire: str, clock: str, ready: str, width_bits: int) -> str:
    """A check of AXI-Stream's rule: a word that was offered stays as it is until it is taken."""
    return (
        f"  logic {wire}_waits;\n  logic [{width_bits - 1}:0] {wire}_last;\n"
        f"  always_ff @(posedge {clock}) begin\n"
        f"    {wire}_waits <= reset_n && {wire}_valid && !{ready};\n    {wire}_last <= {wire}_data;\n"
        f"    if (reset_n && {wire}_waits && !({wire}_valid && {wire}_data == {wire}_last))\n"
        f'      $fatal(1, "{wire}: {WITHDRAWN}");\n  end\n'
    )


def widest(streams: Sequence[tuple[StreamLayout, ...]], index: int) -> int:
    return max([layout.width_bits for each in streams for layout in each[index : index + 1]], default=8)
