"""Every module of ours, simulated, equals its reference under any stalls, at one word per cycle; a fault is seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from module_bench import WITHDRAWN, Case, ModuleBench, build_bench
from module_cases import CASES

from bitproof.hw.rtl.modules import FOLDER
from bitproof.pipeline import StageError
from bitproof.pipeline.toolchain import VERILATOR

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("rtl_modules")]

MUTANTS = [mutant for case in CASES for mutant in case.mutated()]


def by_name(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ModuleBench:
    return build_bench(CASES, tmp_path_factory.mktemp("modules"))


@pytest.mark.parametrize("stall", [0, 25, 75])
@by_name(list(CASES))
def test_a_module_equals_its_reference(bench: ModuleBench, case: Case, stall: int) -> None:
    streams = case.streams(seed=stall)
    actual, _ = bench.run(case, streams, stall=stall)
    expected = case.module.apply(*streams)
    assert len(actual) == len(expected)
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@by_name(list(CASES))
def test_a_module_takes_a_word_per_cycle(bench: ModuleBench, case: Case) -> None:
    _, measured = bench.run(case, case.streams(), stall=0)
    assert measured.initiation_interval == case.module.cycles


def fault_is_seen(bench: ModuleBench, case: Case, memories: Mapping[str, str], *, stall: int) -> bool:
    """Tell whether another integer leaves the module of *case*, or a word is missing or is withdrawn."""
    streams = case.streams()
    try:
        actual, _ = bench.run(case, streams, stall=stall, memories=memories)
    except StageError as error:
        if "the unit is stuck" in str(error) or WITHDRAWN in str(error):
            return True
        raise
    return any((one != other).any() for one, other in zip(case.module.apply(*streams), actual, strict=True))


@by_name(MUTANTS)
def test_a_changed_line_is_found(bench: ModuleBench, case: Case) -> None:
    assert fault_is_seen(bench, case, case.module.memory_files(case.name), stall=25)


def test_a_word_that_is_withdrawn_is_found(bench: ModuleBench) -> None:
    (mutant,) = (case for case in MUTANTS if case.name == "withdrawing_mutant0")
    with pytest.raises(StageError, match=WITHDRAWN):
        bench.run(mutant, mutant.streams(), stall=25)


MEMORIES = [(case, memory) for case in CASES for memory in case.module.memories]


@pytest.mark.parametrize(("case", "memory"), MEMORIES, ids=[f"{case.name}-{name}" for case, name in MEMORIES])
def test_a_flipped_bit_of_a_memory_is_found(bench: ModuleBench, case: Case, memory: str, tmp_path: Path) -> None:
    files = dict(case.module.memory_files(case.name))
    path = case.module.memory_path(case.name, memory)
    lines = files[path].split()
    middle = len(lines) // 2
    lines[middle] = f"{int(lines[middle], 16) ^ 1 << case.flipped_bit:0{len(lines[middle])}x}"
    assert fault_is_seen(bench, case, {**files, path: "\n".join(lines) + "\n"}, stall=0)


def test_modules_are_free_of_lint(tmp_path: Path) -> None:
    files = {name: (FOLDER / name).read_text() for case in CASES for name in case.module.sources}
    files |= {f"{case.name}.sv": case.module.wrapper(case.name) for case in CASES}
    instances = "".join(f"  {case.name} unit_{case.name} ();\n" for case in CASES)
    files["every.sv"] = f"// verilator lint_off PINMISSING\nmodule every;\n{instances}endmodule\n"
    lint(files, "every", tmp_path)


def test_lint_is_found(tmp_path: Path) -> None:
    text = "module unclean (input logic a, output logic b);\n  assign b = 0;\nendmodule\n"
    with pytest.raises(StageError, match=r"(?s)%Warning-UNUSEDSIGNAL: .*'a'"):
        lint({"unclean.sv": text}, "unclean", tmp_path)


def lint(files: Mapping[str, str], top: str, folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    arguments = ["--lint-only", "-Wall", "--top-module", top, *files]
    VERILATOR.run(arguments, needed_by="lint", cwd=folder, log=folder / "lint.log", timeout_s=120)
