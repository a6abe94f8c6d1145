"""The generated folder as it is taken over: names, build systems, and what the compiler is asked for."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from integer_networks import random_network
from mcu_tools import CMAKE, MISSING, carried_out

from bitproof.export.integer import IntegerType
from bitproof.hw.mcu.codegen import write_sources
from bitproof.hw.mcu.manifest import Manifest
from bitproof.hw.mcu.naming import require_prefix
from bitproof.hw.mcu.package import LICENSE
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import ConfigError, StageError
from bitproof.pipeline.toolchain import GCC, MAKE
from bitproof.targets import require_target

NETWORK = random_network((37, 6, 5, 3), weight_type=IntegerType(8, signed=True), act_bits=(2, 8))


def package(folder: Path, prefix: str | None = "net_a") -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_network(NETWORK, prefix)
    return write_sources(plan, folder, model_sha256="0" * 64, core="cortex-m4", options=f", prefix={prefix}")


def properties(path: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in path.read_text().splitlines()]
    assert all(equals for _, equals, _ in lines)
    return {key: value for key, _, value in lines}


def test_a_chosen_prefix_starts_every_public_name_and_file(tmp_path: Path) -> None:
    manifest = package(tmp_path, "KeyWords2")
    assert manifest.prefix == "KeyWords2"
    own = [name for name in manifest.sources if not name.startswith("bitproof_")]
    assert own == [f"KeyWords2{end}" for end in (".c", ".h", "_layers.h", "_selftest.c", "_selftest.h", "_weights.c")]
    header = (tmp_path / "src/KeyWords2.h").read_text()
    assert " * target: c{core=cortex-m4, prefix=KeyWords2}\n" in header
    assert re.findall(r"#define (?!KEYWORDS2_)\w+", header) == []
    assert set(re.findall(r"\b(\w+)\(", header.split("typedef enum")[1])) == {
        f"KeyWords2_{name}" for name in ("arena_bytes", "run", "run_until", "multiply", "requantize")
    }


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("2fast", "names in C start with it: letters, digits and single underscores between them"),
        ("a-b", "for example a_b"),
        ("_net", "the first a letter"),
        ("net_", "single underscores between them"),
        ("a__b", "for example a_b"),
        ("ärger", "for example rger"),
        ("while", "it is a keyword of C or C++; for example while_net"),
        ("namespace", "it is a keyword of C or C++"),
        ("bitproof_net", "names that start with 'bitproof' are those of the kernels; choose another"),
        ("BitProof", "names that start with 'bitproof'"),
        ("a" * 41, "it has 41 characters; allowed are 40"),
    ],
)
def test_a_prefix_that_c_does_not_take_is_a_mistake_in_the_configuration(prefix: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"prefix = '{prefix}': .*{re.escape(why)}") as told:
        require_target(f"c{{prefix={prefix}}}")
    assert told.value.exit_code == 2


def test_a_prefix_reaches_the_generator_through_the_target() -> None:
    target = require_target("c{prefix=net_a}")
    assert dict(target.spec.options)["prefix"] == "net_a"
    assert getattr(target.stages()[0].make(), "prefix", None) == "net_a"
    assert require_prefix("a" * 40) == "a" * 40


def test_every_description_has_what_its_tool_requires_and_says_the_same(tmp_path: Path) -> None:
    manifest = package(tmp_path)
    library = json.loads((tmp_path / "library.json").read_text())
    arduino = properties(tmp_path / "library.properties")
    component = yaml.safe_load((tmp_path / "idf_component.yml").read_text())
    module = yaml.safe_load((tmp_path / "zephyr/module.yml").read_text())
    assert set(library) >= {"name", "version", "description", "license", "frameworks", "platforms", "headers"}
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph"} <= set(arduino)
    assert {"category", "url", "architectures"} <= set(arduino)
    assert set(component) == {"version", "description", "license"}
    assert (tmp_path / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (tmp_path / module["build"]["kconfig"]).is_file()
    assert library["name"] == arduino["name"] == module["name"] == manifest.prefix
    versions = {library["version"], arduino["version"], component["version"]}
    assert len(versions) == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions.pop())
    assert library["license"] == component["license"] == LICENSE
    assert library["description"] == arduino["sentence"] == component["description"]
    assert (tmp_path / "src" / library["headers"]).is_file()
    assert (tmp_path / "src" / arduino["includes"]).is_file()


def test_every_list_of_sources_is_that_of_the_manifest(tmp_path: Path) -> None:
    manifest = package(tmp_path)
    expected = sorted(name for name in manifest.sources if name.endswith(".c"))
    assert expected == sorted(path.name for path in (tmp_path / "src").glob("*.c"))
    for name in ("Makefile", "CMakeLists.txt"):
        assert re.findall(r"^\s+src/(\w+\.c)", (tmp_path / name).read_text(), re.MULTILINE) == expected


@pytest.mark.tool
def test_make_builds_the_same_library_anywhere_and_runs_the_self_test(tmp_path: Path) -> None:
    for name in ("a", "b/deeper"):
        package(tmp_path / name)
        assert "net_a: equal to the integer model" in carried_out(MAKE, "check", cwd=tmp_path / name)
    built = [(tmp_path / name / "build/libnet_a.a").read_bytes() for name in ("a", "b/deeper")]
    assert built[0] == built[1]
    carried_out(
        MAKE,
        "all",
        "BUILD=arm",
        "CC=arm-none-eabi-gcc",
        "AR=arm-none-eabi-ar",
        "CFLAGS=-mcpu=cortex-m4 -mthumb -Os",
        cwd=tmp_path / "a",
    )
    assert (tmp_path / "a/arm/libnet_a.a").is_file()


USER = """cmake_minimum_required(VERSION 3.16)
project(user LANGUAGES C)
add_subdirectory(net)
add_executable(user main.c)
target_link_libraries(user PRIVATE net_a)
"""
MAIN = """#include "net_a.h"
int main(void) { return net_a_arena_bytes() == NET_A_ARENA_BYTES ? 0 : 1; }
"""


@pytest.mark.tool
@MISSING["cmake"]
def test_cmake_builds_it_alone_and_within_another_project(tmp_path: Path) -> None:
    package(tmp_path / "user/net")
    strict = "-DCMAKE_C_FLAGS=-Wall -Wextra -Wconversion -Wpedantic -Werror"
    carried_out(CMAKE, "-S", "user/net", "-B", "alone", strict, cwd=tmp_path)
    carried_out(CMAKE, "--build", "alone", "--target", "all", "test", cwd=tmp_path)
    (tmp_path / "user/CMakeLists.txt").write_text(USER)
    (tmp_path / "user/main.c").write_text(MAIN)
    carried_out(CMAKE, "-S", "user", "-B", "with", strict, cwd=tmp_path)
    carried_out(CMAKE, "--build", "with", cwd=tmp_path)
    assert (tmp_path / "with/user").is_file()
    assert not (tmp_path / "with/net/net_a_selftest").exists(), "a project that takes it over builds no test of it"


FRAMEWORK = """cmake_minimum_required(VERSION 3.16)
project(framework LANGUAGES NONE)
function(idf_component_register)
    message(STATUS "idf: ${ARGN}")
endfunction()
function(zephyr_library_named)
    message(STATUS "zephyr library: ${ARGN}")
endfunction()
function(zephyr_library_sources)
    message(STATUS "zephyr sources: ${ARGN}")
endfunction()
function(zephyr_include_directories)
    message(STATUS "zephyr include: ${ARGN}")
endfunction()
add_subdirectory(net)
"""


@pytest.mark.tool
@MISSING["cmake"]
def test_the_one_cmake_file_calls_what_zephyr_and_esp_idf_offer(tmp_path: Path) -> None:
    """Neither is installed: functions of their names show what the file asks for."""
    manifest = package(tmp_path / "net")
    sources = ";".join(f"src/{name}" for name in sorted(manifest.sources) if name.endswith(".c"))
    (tmp_path / "CMakeLists.txt").write_text(FRAMEWORK)

    def said(*definitions: str) -> list[str]:
        shutil.rmtree(tmp_path / "build", ignore_errors=True)
        output = carried_out(CMAKE, "-S", ".", "-B", "build", *definitions, cwd=tmp_path)
        return re.findall(r"^-- ((?:idf|zephyr).*)", output, re.MULTILINE)

    assert said("-DESP_PLATFORM=1") == [f"idf: SRCS;{sources};INCLUDE_DIRS;src"]
    assert said("-DZEPHYR_BASE=/z") == []
    assert said("-DZEPHYR_BASE=/z", "-DCONFIG_NET_A=y") == [
        "zephyr library: net_a",
        f"zephyr sources: {sources}",
        "zephyr include: src",
    ]
    kconfig = (tmp_path / "net/zephyr/Kconfig").read_text().splitlines()
    assert kconfig[0] == "config NET_A", "the option that the file asks for"


@pytest.mark.tool
@pytest.mark.parametrize("standard", ["c99", "c11", "c++98", "c++17"])
def test_a_header_that_the_compiler_contradicts_does_not_compile(tmp_path: Path, standard: str) -> None:
    package(tmp_path)
    language = "c++" if "++" in standard else "c"

    def compiled() -> str:
        options = [f"-std={standard}", "-x", language, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
        return carried_out(GCC, *options, "-Isrc", "user.c", cwd=tmp_path)

    (tmp_path / "user.c").write_text('#include "net_a_selftest.h"\n')
    compiled()
    for path, was, becomes in (
        ("src/bitproof_platform.h", "CHAR_BIT == 8", "CHAR_BIT == 9"),
        ("src/net_a.h", "#define NET_A_ARENA_BYTES ", "#define NET_A_ARENA_BYTES 1 + "),
    ):
        text = (tmp_path / path).read_text()
        (tmp_path / path).write_text(text.replace(was, becomes))
        with pytest.raises(StageError, match=r"bitproof_needs_bytes_of_8_bits|net_a_arena_is_whole_words"):
            compiled()
        (tmp_path / path).write_text(text)
