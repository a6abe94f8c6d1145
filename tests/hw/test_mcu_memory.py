"""What firmware takes is known before it is compiled: exact if it must be, never less than the linker takes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integer_networks import network_for, random_codes, random_network, saved
from mcu_firmware import built_firmware

from bitproof.export.integer import Affine, IntegerModel, IntegerType, MultiplyShift, run
from bitproof.hw.mcu import BuildFirmware, EmulatedCore, FirmwareExecutor, GenerateC
from bitproof.hw.mcu.cores import CORES, STACK_BYTES
from bitproof.hw.mcu.elf import sections
from bitproof.hw.mcu.memory import SLACK_BYTES, Footprint, footprint, least_and_most, require_memory
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import Artifact, ConfigError, StageContext, StageError, TooLargeError

EIGHT = IntegerType(8, signed=True)
NETWORKS = {
    "one product": random_network((20, 4), weight_type=EIGHT),
    "ternary, narrow input": random_network((203, 9, 150, 3), weight_range=(-1, 1), input_bits=4),
    "one bit": random_network((70, 20, 9, 3), weight_range=(-1, 1), only_ends=True, act_bits=(8, 4)),
    "one bit, binary": random_network((300, 20, 3), weight_range=(-1, 1), only_ends=True, input_bits=1),
    "two bits": random_network((33, 20, 7)),
    "four bits, multiply-shift": random_network(
        (20, 6, 6, 6, 4), weight_type=IntegerType(4, signed=True), input_bits=4, spacing="even"
    ),
    "eight bits": random_network((37, 6, 5, 7, 3), weight_type=EIGHT, act_bits=(2, 4, 8)),
    "64-bit multiply-shift": network_for("multiply-shift-64"),
    "rounding shift": network_for("rounding-shift"),
    "32 layers": random_network((20, *[6] * 31, 4), weight_type=EIGHT),
}


def with_bias(model: IntegerModel) -> IntegerModel:
    factors = np.ones(model.outputs, dtype=np.int64)
    return replace(model, nodes=(*model.nodes, Affine("output_bias", factors, 5 * factors)))


NETWORKS["output bias"] = with_bias(random_network((40, 8, 6), weight_range=(-1, 1)))


def constants_in(image: bytes, model: IntegerModel) -> int:
    """Return how many bytes of weights, tables and biases of *model* are found, as they are stored, in the ELF file."""
    plan = plan_network(model)
    stored = [planned.words.astype("<u4").tobytes() for planned in plan.products]
    for planned in plan.activations:
        constants = planned.constants
        match constants:
            case None:
                tables = [planned.padded_thresholds.astype("<i4")]
            case MultiplyShift(word_bits=64):
                tables = [constants.multiplier.astype("<i4"), constants.offset.astype("<i8")]
            case MultiplyShift():
                tables = [np.stack([constants.multiplier, constants.offset], axis=1).astype("<i4")]
            case _:
                tables = [constants.offset.astype("<i4")]
        stored += [table.tobytes() for table in tables]
    for _, finish in plan.finishes:
        if finish.rescaling is not None:
            stored += [each.astype("<i4").tobytes() for each in (finish.rescaling.factors, finish.rescaling.offsets)]
    return sum(len(block) for block in stored if block in image)


@pytest.mark.tool
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_is_never_below_the_linked_firmware_and_little_above(
    tmp_path: Path, core: EmulatedCore, name: str
) -> None:
    model = NETWORKS[name]
    folder = built_firmware(model, tmp_path, core).path
    estimate, sizes = footprint(model, core), json.loads((folder / "size.json").read_text())
    image = (folder / "firmware.elf").read_bytes()
    assert constants_in(image, model) == estimate.constant_bytes, "constants are exact"
    assert sizes["flash_bytes"] <= estimate.flash_bytes <= sizes["flash_bytes"] + SLACK_BYTES
    used = sizes["bss_bytes"] + sizes["data_bytes"] + STACK_BYTES
    assert used <= estimate.ram_bytes <= used + 32
    flash = sum(section.size for section in sections(image) if section.allocated and not section.writable)
    assert flash == sizes["flash_bytes"]


@pytest.mark.tool
@pytest.mark.parametrize("memory", ["flash", "ram"])
def test_what_just_fits_is_built_and_one_byte_less_is_refused(tmp_path: Path, memory: str) -> None:
    model = NETWORKS["eight bits"]
    needed = footprint(model, "cortex-m4")
    size = {"flash": needed.flash_bytes, "ram": needed.ram_bytes}[memory]
    folder = built_firmware(
        model,
        tmp_path / "fits",
        "cortex-m4",
        flash=size if memory == "flash" else None,
        ram=size if memory == "ram" else None,
    ).path
    executor, codes = FirmwareExecutor(Artifact("firmware", "firmware", folder, ""), tmp_path), random_codes(model, 20)
    assert (run(model, codes) == executor(codes)).all(), "it runs within that memory"
    with pytest.raises(TooLargeError, match=f"{memory}: needed are (at least )?{size:,} bytes .* {size - 1:,}"):
        built_firmware(
            model,
            tmp_path / "not",
            "cortex-m4",
            flash=size - 1 if memory == "flash" else None,
            ram=size - 1 if memory == "ram" else None,
        )
    assert not (tmp_path / "not" / "firmware").exists(), "nothing was compiled"


def test_the_three_largest_layers_and_both_sizes_are_named() -> None:
    model = random_network((64, 50, 40, 30, 4), weight_type=EIGHT, spacing="even", act_bits=(2,))
    with pytest.raises(TooLargeError) as refused:
        require_memory(model, "cortex-m3", flash=4096, ram=2300)
    needed = footprint(model, "cortex-m3")
    text = str(refused.value)
    assert refused.value.exit_code == 2
    # fc0: 13 blocks of 4 rows, 64 columns; fc1: 10 blocks, 13 words of 4 columns; fc2: 8 blocks, 10 words
    assert "largest: fc0 3,328 bytes, fc1 2,080 bytes, fc2 1,280 bytes" in text
    assert f"ram: needed are {needed.ram_bytes:,} bytes (2,048 of them for the stack), available 2,300" in text
    assert "largest: fc0 314 bytes, fc1 250 bytes, fc2 190 bytes" in text
    assert text.endswith(
        "Use smaller layers or fewer bits of their weights, or more memory: the emulated board of cortex-m3, "
        "mps2-an385, has 4,194,304 bytes of flash, 4,194,304 of ram"
    )


def test_the_exact_need_lies_between_the_bounds_that_no_solver_gives() -> None:
    for model in NETWORKS.values():
        least, most = least_and_most(plan_network(model), "cortex-m4")
        exact = footprint(model, "cortex-m4")
        assert least.flash_bytes <= exact.flash_bytes <= most.flash_bytes
        assert least.ram_bytes == exact.ram_bytes == most.ram_bytes


def test_the_solver_decides_only_where_its_form_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NETWORKS["four bits, multiply-shift"]
    least, most = least_and_most(plan_network(model), "cortex-m4")
    exact = footprint(model, "cortex-m4").flash_bytes
    assert least.flash_bytes < most.flash_bytes
    require_memory(model, "cortex-m4", flash=exact)
    asked = []

    def recorded(model: IntegerModel, core: EmulatedCore) -> Footprint:
        asked.append(core)
        return footprint(model, core)

    monkeypatch.setattr("bitproof.hw.mcu.memory.footprint", recorded)
    require_memory(model, "cortex-m4", flash=most.flash_bytes)
    with pytest.raises(TooLargeError, match="at least"):
        require_memory(model, "cortex-m4", flash=least.flash_bytes - 1)
    assert asked == []
    require_memory(model, "cortex-m4", flash=exact)
    assert asked == ["cortex-m4"]


def test_more_than_the_emulated_board_has_is_refused() -> None:
    model = NETWORKS["two bits"]
    for memory, region in (("flash", CORES["cortex-m0"].flash), ("ram", CORES["cortex-m0"].ram)):
        require_memory(model, "cortex-m0", **{memory: region.size_bytes})
        with pytest.raises(ConfigError, match=f"{memory} = {region.size_bytes + 1} bytes is more than the emulated"):
            require_memory(model, "cortex-m0", **{memory: region.size_bytes + 1})


@pytest.mark.tool
@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ({"flash_bytes": 2000}, r"section \.text exceeds the 2,000 bytes of flash by \d[\d,]* bytes"),
        ({"ram_bytes": 64}, r"section \.bss exceeds the 64 bytes of ram by \d[\d,]* bytes"),
        ({"ram_bytes": 2048}, r"the 2,048 bytes of ram leave less than 2,048 bytes for the stack"),
    ],
)
def test_what_the_linker_refuses_all_the_same_names_section_and_bytes(
    tmp_path: Path, memory: dict[str, int], said: str
) -> None:
    """The sources are generated for the whole board, as if the estimate had been too small."""
    artifact = saved(NETWORKS["eight bits"], tmp_path / "integer")
    for name in ("c", "firmware", "scratch"):
        (tmp_path / name).mkdir()
    GenerateC().run(artifact, StageContext(tmp_path / "c", tmp_path / "scratch", 0))
    sources = Artifact("c", "c-sources", tmp_path / "c", "")
    with pytest.raises(StageError, match=said) as refused:
        BuildFirmware(**memory).run(sources, StageContext(tmp_path / "firmware", tmp_path / "scratch", 0))  # type: ignore[arg-type]
    assert refused.value.exit_code == 4
    assert re.match("the firmware does not fit: ", str(refused.value))
