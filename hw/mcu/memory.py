"""The flash and RAM that the firmware of a network takes, known before anything is compiled.

Constants are exact, vectors up to alignment: their sizes follow from the plan. Code is an allowance: what
arm-none-eabi-gcc 12.2 makes of the kernels (:attr:`bitproof.hw.mcu.cores.Core.kernel_bytes`), of the test harness and
of the calls of each layer, rounded up. So a network that is let through fits, and the estimate is at most
:data:`SLACK_BYTES` above what the linker would take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bitproof.export.integer import IntegerModel, Threshold
from bitproof.hw.mcu.cores import STACK_BYTES, Core, CoreName, core_of
from bitproof.hw.mcu.plan import (
    BYTES_OF_FORM,
    Draft,
    draft_network,
    most_accumulators,
    most_codes,
    padded_levels,
    plan_network,
    takes_signed,
)
from bitproof.pipeline import TooLargeError

HARNESS_BYTES = 1344
"""Start-up, semihosting, commands of the test firmware, and the checks of the network's own entry: 968 to 1,288."""
LAYER_BYTES = 124
"""Calls, descriptors and dimensions of one matrix product with its activation: 102 to 121."""
DECODE_BYTES = 64
"""The kernel that makes products with codes of products with bytes: 22 to 34."""
DECODED_LAYER_BYTES = 40
"""Its calls and its descriptor in one layer: 24 to 36."""
SIGNED_INPUT_BYTES = 72
"""The loop that makes bytes of a signed input, and its checks."""
OUTPUT_CODES_BYTES = 64
"""The loop that widens the codes of the outputs."""
SLACK_BYTES = 1024
"""By how much the allowance may exceed the code that is really there, in a network of up to 32 layers."""
WORD_BYTES = 4
HARNESS_WORDS = 4
"""Counters of the harness, and the gaps that alignment leaves."""
NAMED = 3


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one node of the integer model takes: constants in flash, input codes and accumulators in RAM."""

    name: str
    flash_bytes: int
    ram_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the firmware takes.

    Attributes:
        layers: its nodes, in execution order.
        code_bytes: an upper allowance for code and test harness.
        ram_bytes: vectors of the network and of the harness, and the stack.
    """

    layers: tuple[LayerMemory, ...]
    code_bytes: int
    ram_bytes: int

    @property
    def constant_bytes(self) -> int:
        """Weights, requantization tables and output biases, exactly."""
        return sum(layer.flash_bytes for layer in self.layers)

    @property
    def flash_bytes(self) -> int:
        """Constants and code."""
        return self.constant_bytes + self.code_bytes


def least_and_most(draft: Draft, core: CoreName) -> tuple[Footprint, Footprint]:
    """Return the footprints with the smallest and with the largest form of each requantization."""
    sizes = {node.name: _table_sizes(node) for node in draft.activations}
    kernels = core_of(core).requantize_bytes
    low, high = ({name: pair[end] for name, pair in sizes.items()} for end in (0, 1))
    least = _footprint(draft, core, low, min(kernels.values()) if sizes else 0)
    return least, _footprint(draft, core, high, sum(kernels.values()) if sizes else 0)


def footprint(model: IntegerModel, core: CoreName) -> Footprint:
    """Return what the firmware of *model* for *core* takes.

    Raises:
        StageError: a layer has no form in C; the message names it.
    """
    plan = plan_network(model)
    kernels = core_of(core).requantize_bytes
    used = sum(kernels[method] for method in {planned.method for planned in plan.activations})
    tables = {planned.node.name: planned.table_bytes for planned in plan.activations}
    return _footprint(draft_network(model), core, tables, used)


def require_memory(model: IntegerModel, core: CoreName, flash: int | None = None, ram: int | None = None) -> None:
    """Check that the firmware of *model* for *core* fits *flash* and *ram* bytes; None: those of the emulated board.

    Requantizations are solved only if their form decides.

    Raises:
        ConfigError: the emulated board has less than *flash* or *ram*.
        StageError: a layer has no form in C; the message names it.
        TooLargeError: it does not fit; the message tells both sizes and the largest layers.
    """
    memory = core_of(core).with_memory(flash, ram)
    least, most = least_and_most(draft_network(model), core)
    if _fits(most, memory):
        return
    if _fits(least, memory):
        exact = footprint(model, core)
        if _fits(exact, memory):
            return
        raise TooLargeError(_refusal(exact, core, memory, bound=""))
    raise TooLargeError(_refusal(least, core, memory, bound="" if least == most else "at least "))


def _table_sizes(node: Threshold) -> tuple[int, int]:
    """Return the fewest and the most bytes that the constants of *node* take, in any form."""
    each = (*BYTES_OF_FORM.values(), WORD_BYTES * padded_levels(node.levels))
    return node.channels * min(each), node.channels * max(each)


def _footprint(draft: Draft, core: CoreName, tables: Mapping[str, int], requantize_bytes: int) -> Footprint:
    layers = []
    for drafted in draft.layers:
        node, thresholds, bias = drafted.layer.product, drafted.activation, drafted.layer.bias
        constants = WORD_BYTES * drafted.layout.words
        if not drafted.codes.as_they_are:
            constants += WORD_BYTES * node.outputs
        layers.append(LayerMemory(node.name, constants, node.inputs + WORD_BYTES * node.outputs))
        if thresholds is not None:
            ram = (WORD_BYTES + 1) * thresholds.channels
            layers.append(LayerMemory(thresholds.name, tables[thresholds.name], ram))
        if bias is not None:
            layers.append(LayerMemory(bias.name, WORD_BYTES * bias.offsets.size, WORD_BYTES * bias.offsets.size))
    code = HARNESS_BYTES + LAYER_BYTES * len(tables)
    kernels = core_of(core).kernel_bytes
    code += sum(kernels[kind] for kind in {drafted.layout.kind for drafted in draft.layers})
    decoded = sum(not drafted.codes.as_they_are for drafted in draft.layers)
    if decoded:
        code += DECODE_BYTES + DECODED_LAYER_BYTES * decoded
    if takes_signed(draft.input):
        code += SIGNED_INPUT_BYTES
    if draft.layers[-1].activation is not None:
        code += OUTPUT_CODES_BYTES
    return Footprint(tuple(layers), code + requantize_bytes, _ram_bytes(draft))


def _ram_bytes(draft: Draft) -> int:
    """Return the vectors of the harness, the scratch of the network, and the stack that the linker keeps free."""
    products = draft.products
    codes = _whole_words(max(*(node.inputs for node in products), *(node.channels for node in draft.activations), 0))
    accumulators = WORD_BYTES * max(node.outputs for node in products)
    scratch = WORD_BYTES * most_accumulators(products)
    scratch += _whole_words(most_codes(draft.input, products, draft.activations))
    return codes + accumulators + max(WORD_BYTES, scratch) + WORD_BYTES * HARNESS_WORDS + STACK_BYTES


def _whole_words(size_bytes: int) -> int:
    return -(-size_bytes // WORD_BYTES) * WORD_BYTES


def _fits(needed: Footprint, memory: Core) -> bool:
    return needed.flash_bytes <= memory.flash.size_bytes and needed.ram_bytes <= memory.ram.size_bytes


def _refusal(needed: Footprint, core: CoreName, memory: Core, *, bound: str) -> str:
    board = core_of(core)
    lines = []
    if needed.flash_bytes > memory.flash.size_bytes:
        lines.append(
            f"flash: needed are {bound}{needed.flash_bytes:,} bytes ({needed.constant_bytes:,} of weights and tables, "
            f"{needed.code_bytes:,} allowed for code and test harness), available {memory.flash.size_bytes:,}; "
            f"largest: {_largest(needed, 'flash_bytes')}"
        )
    if needed.ram_bytes > memory.ram.size_bytes:
        lines.append(
            f"ram: needed are {needed.ram_bytes:,} bytes ({STACK_BYTES:,} of them for the stack), available "
            f"{memory.ram.size_bytes:,}; largest: {_largest(needed, 'ram_bytes')}"
        )
    whole = f"the emulated board of {core}, {board.machine}, has"
    more = (
        f"; more than this {whole} not"
        if memory == board
        else f", or more memory: {whole} {board.flash.size_bytes:,} bytes of flash, {board.ram.size_bytes:,} of ram"
    )
    return (
        f"the network does not fit the memory of {core}: {'; '.join(lines)}. Use smaller layers or fewer bits of their "
        f"weights{more}"
    )


def _largest(needed: Footprint, memory: str) -> str:
    def size(layer: LayerMemory) -> int:
        return layer.flash_bytes if memory == "flash_bytes" else layer.ram_bytes

    order = sorted(needed.layers, key=size, reverse=True)
    return ", ".join(f"{layer.name} {size(layer):,} bytes" for layer in order[:NAMED])
