"""The generated C as a shared library of this machine: its bytes, its process, and what that process may not do."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from integer_networks import random_codes, random_network, saved
from mcu_firmware import built_firmware

from bitproof.export.integer import run
from bitproof.hw.mcu import BuildFirmware, BuildLibrary, GenerateC, HostExecutor, executor, host
from bitproof.hw.mcu.cores import require_board_memory
from bitproof.hw.mcu.target import CTarget
from bitproof.pipeline import Artifact, ConfigError, StageContext, StageError, ToolMissingError, toolchain
from bitproof.pipeline.toolchain import GCC, HOST_COMPILERS, Tool

pytestmark = pytest.mark.tool
MODEL = random_network((5, 4, 3))
ZEROS = np.zeros((1, 5), dtype=np.int64)
ABSENT = Tool("no-such-program", "1.0", "apt-get install no-such-package")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return built_firmware(MODEL, tmp_path_factory.mktemp("library"), "host")


def with_source(library: Artifact, tmp_path: Path, body: str, *, at_load: str = "") -> HostExecutor:
    """Return the executor of a library in the place of *library*: *body* is all that a run does."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "manifest.json").write_bytes((library.path / "manifest.json").read_bytes())
    (tmp_path / "other.c").write_text(f"""
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/socket.h>
        #include <unistd.h>
        __attribute__((constructor)) static void load(void) {{ {at_load} }}
        int mlp_run_until(unsigned steps, const void *input, int *output, void *scratch, unsigned long bytes) {{
            {body}
            return 0;
        }}
    """)
    GCC.run(
        ["-shared", "-fPIC", "-Wno-all", "other.c", "-o", folder / "network.so"],
        needed_by="test",
        cwd=tmp_path,
        log=tmp_path / "gcc.log",
        timeout_s=60,
    )
    return HostExecutor(Artifact("library-host", "c-library", folder, ""), tmp_path / "work")


def test_a_library_depends_on_the_sources_alone(library: Artifact, tmp_path: Path) -> None:
    again = built_firmware(MODEL, tmp_path / "b" / "deeper", "host")
    names = sorted(path.name for path in library.path.iterdir())
    assert names == sorted(path.name for path in again.path.iterdir()) == ["manifest.json", "mlp.h", "network.so"]
    for name in names:
        assert (library.path / name).read_bytes() == (again.path / name).read_bytes()
    assert str(tmp_path).encode() not in (again.path / "network.so").read_bytes()


@pytest.mark.parametrize("compiler", HOST_COMPILERS, ids=lambda tool: tool.name)
def test_every_compiler_of_the_host_gives_the_same_integers(
    compiler: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler.find() is None:
        pytest.skip(f"{compiler.name} is not there")
    monkeypatch.setattr(toolchain, "HOST_COMPILERS", (ABSENT, compiler))
    model = random_network((37, 6, 5, 3), act_bits=(2, 8))
    artifact = built_firmware(model, tmp_path, "host")
    codes = random_codes(model, 30)
    np.testing.assert_array_equal(HostExecutor(artifact, tmp_path / "run")(codes), run(model, codes), strict=True)


def test_a_fault_in_the_c_is_an_error_and_no_end_of_this_process(library: Artifact, tmp_path: Path) -> None:
    broken = with_source(library, tmp_path, "*(volatile int *)8 = 1;")
    with pytest.raises(StageError, match=r"ended with code -11(.|\n)*Fatal Python error: Segmentation fault") as told:
        broken(ZEROS)
    assert "a negative one is the signal that ended it: the C read or wrote where it may not" in str(told.value)


def test_c_that_hangs_is_ended(library: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "START_S", 2.0)
    with pytest.raises(StageError, match="did not finish within 2"):
        with_source(library, tmp_path, "for (;;) {}")(ZEROS)


def test_arguments_that_the_network_refuses_have_an_exit_code_of_their_own(library: Artifact, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"ended with code 104(.|\n)*the network returned status 4"):
        with_source(library, tmp_path, "return 4;")(ZEROS)


REACHED = {
    "a command": 'system("touch owned");',
    "another file": 'close(open("owned", O_WRONLY | O_CREAT, 0600));',
    "an emptied file": 'close(open("owned", O_RDONLY | O_CREAT | O_TRUNC, 0600));',
    "a process": 'if (fork() == 0) { close(open("owned", O_WRONLY | O_CREAT, 0600)); _exit(0); }',
    "a socket": 'if (socket(AF_UNIX, SOCK_DGRAM, 0) >= 0) { close(open("owned", O_WRONLY | O_CREAT, 0600)); }',
}
"""What a library tries, in the one folder in which its process may write."""
GIVEN_UP = "if not give_up_all_but_computing()"


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("what", REACHED)
def test_a_library_computes_and_does_nothing_else(
    library: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, *, kept: bool
) -> None:
    """Without the filter it reaches all of it: the attempt is what it is meant to be."""
    if not kept:
        process = tmp_path / "host_process.py"
        text = host.PROCESS.read_text()
        assert GIVEN_UP in text
        process.write_text(text.replace(GIVEN_UP, "if False"))
        monkeypatch.setattr(host, "PROCESS", process)
    hostile = with_source(library, tmp_path, "", at_load=REACHED[what])
    assert (hostile(ZEROS) == 0).all(), "it goes on all the same"
    assert (tmp_path / "work" / "owned").exists() is not kept


def test_what_is_missing_is_named_with_how_to_install_it(
    library: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None if name == "cffi" else find_spec(name))
        with pytest.raises(ToolMissingError) as told:
            HostExecutor(library, tmp_path)(ZEROS)
    assert str(told.value) == (
        "target c{core=host} needs 'cffi', which was not found. Install it: pip install 'bitproof[mcu]'"
    )
    monkeypatch.setattr(toolchain, "HOST_COMPILERS", (ABSENT, ABSENT))
    with pytest.raises(ToolMissingError, match=r"^target c{core=host} needs 'gcc', which was not found. Install it: "):
        built_firmware(MODEL, tmp_path / "built", "host")


@pytest.mark.parametrize(("option", "size"), [("flash", 65536), ("ram", 4096)])
def test_memory_of_the_host_is_refused(option: str, size: int, tmp_path: Path) -> None:
    said = (
        f"{option} = {size} says nothing of core=host, which runs in the memory of this machine; leave {option} out, "
        "or name a core that has a board: cortex-m0, cortex-m3, cortex-m4, cortex-m7, cortex-m33, cortex-m55, rv32imac"
    )
    for refuse in (
        lambda: require_board_memory("host", **{option: size}),
        CTarget.model_validate({"core": "host", option: size}).require_options,
        lambda: built_firmware(MODEL, tmp_path, "host", **{option: size}),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError) as told:
            refuse()
        assert str(told.value) == said
        assert told.value.exit_code == 2
    CTarget(core="host").require_options()


def test_sources_for_another_core_are_refused(tmp_path: Path) -> None:
    model = saved(MODEL, tmp_path / "integer")
    for core, stage, said in (
        ("cortex-m4", BuildLibrary(), "the C sources are for cortex-m4, not host: generate them for host"),
        ("host", BuildFirmware(), "the C sources are for host, not cortex-m4: generate them for cortex-m4"),
    ):
        folder = tmp_path / core
        folder.mkdir()
        GenerateC(core).run(model, StageContext(folder, folder, 0))  # type: ignore[arg-type]
        with pytest.raises(StageError, match=f"^{said}$"):
            stage.run(Artifact("c", "c-sources", folder, ""), StageContext(tmp_path, tmp_path, 0))


def test_firmware_is_no_library(tmp_path: Path) -> None:
    artifact = built_firmware(MODEL, tmp_path, "cortex-m0")
    with pytest.raises(StageError, match=r"^the firmware is for cortex-m0, not host: build it for host$"):
        HostExecutor(artifact, tmp_path)
