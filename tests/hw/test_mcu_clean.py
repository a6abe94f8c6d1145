"""The generated C is clean under two compilers, a linter and a formatter, and asks for no library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from integer_graphs import every_operation, one_bit, pooled_groups, residual_network
from integer_networks import random_network
from mcu_tools import CLANG, CLANG_FORMAT, CPPCHECK, MISSING, carried_out

import bitproof.hw.mcu as back_end
from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu.codegen import write_sources
from bitproof.hw.mcu.cores import core_of
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import StageError
from bitproof.pipeline.toolchain import ARM_GCC, GCC, GXX, Tool, run_program

pytestmark = pytest.mark.tool
ROOT = Path(__file__).parent.parent.parent
NM = Tool("arm-none-eabi-nm", "2.39", "apt-get install binutils-arm-none-eabi")
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
NO_LIBRARY = re.compile(r"mem(cpy|set)|__aeabi_(u?i(div|divmod)|l(mul|asr|lsl|lsr))|__gnu_thumb1_case_\w+")
"""What a compiler may call in C without a library: copies, and integer arithmetic of libgcc."""
FORBIDDEN = re.compile(r"\b(float|double|long double|malloc|calloc|realloc|free|printf|stdio|math)\b")


def perceptron() -> IntegerModel:
    return random_network((203, 9, 150, 3), weight_range=(-1, 1))


NETWORKS: dict[str, tuple[Callable[[], IntegerModel], str]] = {
    "perceptron": (perceptron, "n"),
    "residual": (residual_network, "net"),
    "depthwise": (pooled_groups, "keyword_spotting_net"),
    "long names": (residual_network, "keyword_spotting_with_a_name_of_40_chars"),
    "every": (every_operation, "every_operation"),
    "one bit": (one_bit, "n"),
    "binary": (lambda: random_network((330, 17, 3), weight_range=(-1, 1), only_ends=True, input_bits=1), "binary"),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    make, prefix = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write_sources(plan_network(make(), prefix), folder, model_sha256="0" * 64, core="cortex-m4")
    return folder, prefix


def sources(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "src").glob("*.c"))


def test_gcc_finds_nothing(package: tuple[Path, str]) -> None:
    carried_out(GCC, *WARNINGS, "-O2", "-c", *sources(package[0]), cwd=package[0] / "src")


@MISSING["clang"]
def test_clang_finds_nothing(package: tuple[Path, str]) -> None:
    carried_out(CLANG, *WARNINGS, "-O2", "-c", *sources(package[0]), cwd=package[0] / "src")


@MISSING["cppcheck"]
def test_cppcheck_finds_nothing(package: tuple[Path, str]) -> None:
    options = ["--enable=warning,style,performance,portability", "--std=c99", "--quiet", "--error-exitcode=1"]
    carried_out(CPPCHECK, *options, "--suppress=missingIncludeSystem", "-Isrc", "src", "test", cwd=package[0])


@MISSING["clang-format"]
def test_clang_format_changes_nothing(package: tuple[Path, str]) -> None:
    folder, prefix = package
    own = [path for path in folder.rglob("*.[ch]") if path.name.startswith(prefix) or path.name == "main.c"]
    assert len(own) == 7
    require_formatted(*own, cwd=folder)


def require_formatted(*files: Path, cwd: Path) -> None:
    style = f"--style=file:{ROOT / '.clang-format'}"
    carried_out(CLANG_FORMAT, "--dry-run", "-Werror", style, *files, cwd=cwd)


@MISSING["clang-format"]
def test_the_c_of_this_project_is_formatted_alike(tmp_path: Path) -> None:
    folder = Path(back_end.__file__).parent
    own = [path for kind in ("kernels", "runtime", "plugin") for path in (folder / kind).rglob("*.[ch]")]
    require_formatted(*own, ROOT / "tests/support/host_main.c", cwd=tmp_path)
    (tmp_path / "other.c").write_text("int  f( void ){return 0;}\n")
    with pytest.raises(StageError, match="code should be clang-formatted"):
        require_formatted(tmp_path / "other.c", cwd=tmp_path)


PROGRAM = """#include "{p}_selftest.h"
#include "{p}.h"
static int32_t memory[{P}_SELFTEST_BYTES / sizeof(int32_t)];
int main() {{ return {p}_selftest(memory, sizeof memory) == 0 && {p}_arena_bytes() == {P}_ARENA_BYTES ? 0 : 1; }}
"""


def test_a_cpp_program_is_linked_with_it(package: tuple[Path, str], tmp_path: Path) -> None:
    folder, p = package
    (tmp_path / "main.cpp").write_text(PROGRAM.format(p=p, P=p.upper()))
    carried_out(GCC, "-std=c99", "-c", *(folder / "src" / name for name in sources(folder)), cwd=tmp_path)
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
    objects = sorted(path.name for path in tmp_path.glob("*.o"))
    carried_out(GXX, *strict, f"-I{folder / 'src'}", "main.cpp", *objects, "-o", "main", cwd=tmp_path)
    run_program([str(tmp_path / "main")], needed_by="a test", cwd=tmp_path, log=tmp_path / "run.log", timeout_s=60)


def library_calls(folder: Path, names: list[str]) -> set[str]:
    """Return what the objects of the C files *names* ask for and none of them has, besides what a compiler brings."""
    for name in names:
        flags = [*core_of("cortex-m0").flags, "-std=c99", "-O2", "-ffreestanding"]
        carried_out(ARM_GCC, *flags, "-c", name, cwd=folder)
    objects = [name.replace(".c", ".o") for name in names]
    asked = set(carried_out(NM, "-u", "-j", *objects, cwd=folder).split()) - {f"{name}:" for name in objects}
    held = set(carried_out(NM, "--defined-only", "-g", "-j", *objects, cwd=folder).split())
    return {name for name in asked - held if NO_LIBRARY.fullmatch(name) is None}


def test_no_library_and_no_writable_memory_is_asked_for(package: tuple[Path, str]) -> None:
    folder = package[0] / "src"
    assert library_calls(folder, sources(package[0])) == set()
    listed = carried_out(NM, "--defined-only", *(path.name for path in folder.glob("*.o")), cwd=folder)
    kinds = {fields[1] for line in listed.splitlines() if len(fields := line.split()) == 3}
    assert kinds <= set("TtRrN"), "code and constants alone"
    for path in folder.glob("*.[ch]"):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        assert FORBIDDEN.findall(code) == [], path.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("double f(double x) { return x * x; }", "__aeabi_dmul"),
        ("void *malloc(unsigned); void *f(void) { return malloc(4); }", "malloc"),
        ("float sqrtf(float); float f(float x) { return sqrtf(x); }", "sqrtf"),
    ],
)
def test_a_library_would_be_seen(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "user.c").write_text(text + "\n")
    assert name in library_calls(tmp_path, ["user.c"])
    assert name == "sqrtf" or FORBIDDEN.search(text)
