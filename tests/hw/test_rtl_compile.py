"""Compiled simulators: kept by what goes into them, compiled again if they were changed, on a runtime kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rtl_builds import simulators

from bitproof.hw.rtl import compile as compiler
from bitproof.hw.rtl.compile import EXECUTABLE, RUNTIME, compiled_bench
from bitproof.pipeline import ConfigError, StageError
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import optimization_of_simulators

REGISTER = """
module bench (
  input clock, input [15:0] unit, input reset_n,
  input [7:0] in_data, input in_valid, output in_ready, output [7:0] out_data, output out_valid, input out_ready,
  input [7:0] in1_data, input in1_valid, output in1_ready, output [7:0] out1_data, output out1_valid, input out1_ready
);
  assign in_ready = out_ready, out_valid = in_valid, out_data = in_data + WHAT_IS_ADDED;
  assign in1_ready = out1_ready, out1_valid = in1_valid, out1_data = in1_data;
endmodule
"""


def sources(added: int) -> dict[str, str]:
    return {"rtl/bench.sv": REGISTER.replace("WHAT_IS_ADDED", f"8'd{added}")}


@pytest.mark.tool
def test_what_was_kept_is_used_unless_a_byte_of_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITPROOF_SIMULATOR_OPT")  # with the flags of users
    first = compiled_bench(sources(1), cache=simulators(), workdir=tmp_path)
    assert (tmp_path / "compile.log").is_file()
    goals: list[tuple[str, ...]] = []
    make = compiler._make

    def noted(names: Sequence[str], build: Path, log: Path) -> None:
        goals.append(tuple(names))
        make(names, build, log)

    monkeypatch.setattr("bitproof.hw.rtl.compile._make", noted)
    assert compiled_bench(sources(1), cache=simulators(), workdir=tmp_path) == first
    assert goals == []
    program = first.read_bytes()
    first.write_bytes(program[:-1] + bytes([program[-1] ^ 1]))
    assert compiled_bench(sources(1), cache=simulators(), workdir=tmp_path) == first
    assert goals == [()], "another program of the same flags needs no other runtime"


def test_a_changed_object_of_the_runtime_is_not_used(tmp_path: Path) -> None:
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    for name in RUNTIME:
        (made / name).write_bytes(name.encode())
    assert not compiler._are_whole(kept, RUNTIME)
    compiler._keep(made, RUNTIME, kept)
    assert compiler._are_whole(kept, RUNTIME)
    (kept / RUNTIME[1]).write_bytes(b"another object")
    assert not compiler._are_whole(kept, RUNTIME)


@pytest.mark.tool
def test_a_program_that_was_not_made_is_an_error_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitproof.hw.rtl.compile._make", lambda *_: None)
    monkeypatch.setattr("bitproof.hw.rtl.compile.RUNTIME", ())
    with pytest.raises(StageError, match=f"make ended without an error but left no {EXECUTABLE}"):
        compiled_bench(sources(1), cache=tmp_path / "cache", workdir=tmp_path)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_the_user_may_say_where_compiled_simulators_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path / "runs" / "one")
    monkeypatch.setenv("BITPROOF_CACHE", str(tmp_path / "kept"))
    assert run.cache == tmp_path / "kept"
    monkeypatch.setenv("BITPROOF_CACHE", "")
    assert run.cache == tmp_path / "runs" / ".cache"
    monkeypatch.delenv("BITPROOF_CACHE")
    assert run.cache == tmp_path / "runs" / ".cache"


def test_the_user_may_say_how_simulators_are_optimized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITPROOF_SIMULATOR_OPT")
    assert optimization_of_simulators() == "-O2"
    key = compiler._key({})
    monkeypatch.setenv("BITPROOF_SIMULATOR_OPT", "-O0")
    assert optimization_of_simulators() == "-O0"
    assert compiler._key({}) != key
    monkeypatch.setenv("BITPROOF_SIMULATOR_OPT", "-Ofast; true")
    with pytest.raises(ConfigError, match=r"^BITPROOF_SIMULATOR_OPT=-Ofast; true is not possible; allowed: -O0, -O1"):
        optimization_of_simulators()
