"""The costs of the parts add up to what the firmware and one inference take, and are those of the ELF file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from integer_graphs import every_operation, pooled_groups, residual_network
from integer_networks import random_network
from mcu_firmware import built_firmware

from bitproof.export.integer import IntegerModel, IntegerType, Threshold
from bitproof.hw.mcu import FirmwareExecutor
from bitproof.hw.mcu.firmware import ELF, SIZES
from bitproof.hw.mcu.memory import footprint
from bitproof.hw.mcu.part_costs import HARNESS, KERNELS, NETWORK, flash_of
from bitproof.pipeline import Codes
from bitproof.pipeline.toolchain import Tool

pytestmark = pytest.mark.tool
NM = Tool("arm-none-eabi-nm", "2.39", "apt-get install binutils-arm-none-eabi")
DESCRIPTORS_BYTES = 64
"""Of a layer with one group: what its kernels are given beside the constants."""


def perceptron() -> IntegerModel:
    return random_network((37, 6, 5, 7, 3), weight_type=IntegerType(8, signed=True), act_bits=(2, 4, 8))


def drawn(model: IntegerModel, samples: int) -> Codes:
    codes = np.random.default_rng(0).choice(list(model.allowed_codes), size=(samples, model.inputs))
    return codes.astype(np.int64)


@pytest.mark.parametrize("network", [perceptron, residual_network, pooled_groups, every_operation])
def test_the_parts_add_up(network: Callable[[], IntegerModel], tmp_path: Path) -> None:
    model = network()
    artifact = built_firmware(model, tmp_path)
    executor, codes = FirmwareExecutor(artifact, tmp_path / "run"), drawn(model, 5)
    total, parts = executor.measure(codes), executor.part_costs(codes)
    assert parts == executor.part_costs(codes), "measured again, it is the same"
    layers = [part for part in parts if part.kind == "layer"]
    assert [part.part for part in layers] == [step.name for step in executor.manifest.steps]
    assert [part.part for part in parts[len(layers) :]] == [NETWORK, KERNELS, HARNESS]
    assert {part.executor for part in parts} == {"c:cortex-m4"}
    assert sum(part.flash_bytes for part in parts) == total["flash_bytes"]
    assert sum(part.instructions for part in parts) == total["instructions_per_inference"]
    assert sum(part.macs for part in parts) == total["macs"]
    assert max(part.stack_bytes for part in parts) == total["stack_bytes"]
    assert max(part.ram_bytes for part in parts) <= int(total["arena_bytes"])
    assert all(part.instructions >= max(1, part.macs // 8) for part in layers)


def test_the_flash_of_a_layer_is_its_constants_and_their_descriptors(tmp_path: Path) -> None:
    model = perceptron()
    artifact = built_firmware(model, tmp_path)
    manifest = FirmwareExecutor(artifact, tmp_path / "run").manifest
    image = (artifact.path / ELF).read_bytes()
    found = flash_of(image, manifest)
    constants = {layer.name: layer.flash_bytes for layer in footprint(model, "cortex-m4").layers}
    activations = [node.name for node in model.nodes_of(Threshold)]
    for step, activation in zip(manifest.steps, [*activations, None], strict=True):
        exact = constants[step.name] + (0 if activation is None else constants[activation])
        assert exact <= found[step.name] <= exact + DESCRIPTORS_BYTES, step.name
    listed = NM.run(
        ["-S", "--defined-only", artifact.path / ELF],
        needed_by="test",
        cwd=tmp_path,
        log=tmp_path / "nm.log",
        timeout_s=60,
    )
    sizes = {fields[3]: int(fields[1], 16) for line in listed.splitlines() if len(fields := line.split()) == 4}
    for step in manifest.steps:
        assert found[step.name] == sum(sizes.get(symbol, 0) for symbol in step.symbols)
    assert sum(found.values()) <= json.loads((artifact.path / SIZES).read_text())["flash_bytes"]


def test_constants_that_no_layer_names_are_counted_for_the_network(tmp_path: Path) -> None:
    artifact = built_firmware(perceptron(), tmp_path)
    manifest = FirmwareExecutor(artifact, tmp_path / "run").manifest
    image = (artifact.path / ELF).read_bytes()
    first, *others = manifest.steps
    lost = manifest.model_copy(update={"steps": (first.model_copy(update={"symbols": ()}), *others)})
    before, after = flash_of(image, manifest), flash_of(image, lost)
    assert after[first.name] == 0
    assert after[NETWORK] == before[NETWORK] + before[first.name]
    assert after.total() == before.total()
