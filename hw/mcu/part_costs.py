"""The cost of each part of the firmware: its layers, the code that they share, and the test harness around them.

Flash is counted in the ELF file, symbol by symbol: constants belong to the layer that the manifest names for them, code
to the file that it comes from. Instructions are counted in QEMU up to each step, and subtracted. So the parts add up to
what the firmware and one inference take.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np

from bitproof.hw.mcu.cost import MEASURED_SAMPLES, RunsFirmware, counted
from bitproof.hw.mcu.elf import sized_symbols
from bitproof.hw.mcu.executor import Mode
from bitproof.hw.mcu.firmware import ELF, SIZES
from bitproof.hw.mcu.manifest import Manifest
from bitproof.pipeline import Codes, StageError
from bitproof.pipeline.ledger import CostEntry

NETWORK, KERNELS, HARNESS = "network", "kernels", "test harness"
"""What is no layer: calls and descriptors of the layers, what they share, and all that a product would not hold."""


def part_costs(executor: RunsFirmware, codes: Codes) -> tuple[CostEntry, ...]:
    """Return the cost of each part on that of the first *codes*, shape (N, inputs), which executes most instructions.

    The layers come in execution order, then :data:`NETWORK`, :data:`KERNELS` and :data:`HARNESS`.

    Raises:
        ToolMissingError: QEMU or the host compiler is not installed.
        StageError: there is no sample, or the firmware failed.
    """
    manifest = executor.manifest
    whole, whole_stack = counted(executor, Mode.MEASURE, codes[:MEASURED_SAMPLES])
    most = int(np.argmax(whole))
    reached, stack = counted(executor, Mode.MEASURE_STEPS, codes[most : most + 1])
    if len(reached) != len(manifest.steps) + 1 or reached != sorted(reached):
        raise StageError(f"implausible instruction counts {reached} after each of {len(manifest.steps)} steps")
    flash = flash_of(executor.folder.joinpath(ELF).read_bytes(), manifest)
    sizes = json.loads((executor.folder / SIZES).read_text())
    flash[HARNESS] += int(sizes["flash_bytes"]) - flash.total()  # what no symbol names: texts, gaps
    name = f"c:{manifest.core}"
    parts = [
        CostEntry(
            executor=name,
            kind="layer",
            part=step.name,
            flash_bytes=flash[step.name],
            ram_bytes=step.arena_bytes,
            macs=step.macs,
            instructions=after - before,
            stack_bytes=used,
        )
        for step, (before, after), used in zip(manifest.steps, pairwise(reached), stack[1:], strict=True)
    ]
    code = CostEntry(
        executor=name,
        kind="code",
        part=NETWORK,
        flash_bytes=flash[NETWORK],
        instructions=whole[most] - (reached[-1] - reached[0]),
        stack_bytes=whole_stack[0],
    )
    others = (CostEntry(executor=name, kind="code", part=part, flash_bytes=flash[part]) for part in (KERNELS, HARNESS))
    return (*parts, code, *others)


def flash_of(image: bytes, manifest: Manifest) -> Counter[str]:
    """Return the bytes of flash of each part in the ELF file *image*, as far as a symbol has them."""
    layer_of = {symbol: step.name for step in manifest.steps for symbol in step.symbols}
    found: Counter[str] = Counter()
    for name, file, size in sized_symbols(image):
        own = name.startswith(f"{manifest.prefix}_") or file.startswith(manifest.prefix)
        if own:
            found[layer_of.get(name, NETWORK)] += size
        else:
            found[KERNELS if name.startswith("bitproof_") or file.startswith("bitproof_") else HARNESS] += size
    return found
