"""The flash and RAM that the firmware of a network takes, known before anything is compiled.

Constants are exact, vectors up to alignment: their sizes follow from the plan. Code is an allowance: what the cross
compiler (gcc 12.2) makes of the kernels (:attr:`bitproof.hw.mcu.cores.Core.kernel_bytes`), of the test harness and of
the calls of each layer, rounded up. So a network that is let through fits, and the estimate is at most
:data:`SLACK_BYTES` above what the linker would take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bitproof.export.integer import IntegerModel
from bitproof.hw.mcu.cores import HOST, STACK_BYTES, Core, CoreName, EmulatedCore, core_of, require_board_memory
from bitproof.hw.mcu.plan import NetworkPlan, finish_of, plan_network
from bitproof.hw.mcu.steps import PlannedJoin, PlannedMove, PlannedProduct, PlannedStep, PlannedSum
from bitproof.pipeline import TooLargeError

HARNESS_BYTES = 1664
"""Start-up, semihosting, commands of the test firmware, and the checks of the network's own entry."""
STEP_BYTES = {True: 136, False: 296}
"""Functions, calls and descriptors of a step: of a matrix product, and of any other."""
GROUP_BYTES = 24
"""The descriptor of the matrix of one group."""
STORE_BYTES = 64
"""What stores numbers as they are."""
BYTES_OF_RECODING = 256
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


def least_and_most(plan: NetworkPlan, core: EmulatedCore) -> tuple[Footprint, Footprint]:
    """Return the footprints with the smallest and with the largest form of each requantization."""
    sizes = {planned.node.name: planned.table_bounds for planned in plan.activations}
    kernels = core_of(core).requantize_bytes
    low, high = ({name: pair[end] for name, pair in sizes.items()} for end in (0, 1))
    least = _footprint(plan, core, low, min(kernels.values()) if sizes else 0)
    return least, _footprint(plan, core, high, sum(kernels.values()) if sizes else 0)


def footprint(model: IntegerModel, core: EmulatedCore) -> Footprint:
    """Return what the firmware of *model* for *core* takes.

    Raises:
        StageError: a layer has no form in C; the message names it.
    """
    plan = plan_network(model)
    kernels = core_of(core).requantize_bytes
    used = sum(kernels[method] for method in {planned.method for planned in plan.activations})
    tables = {planned.node.name: planned.table_bytes for planned in plan.activations}
    return _footprint(plan, core, tables, used)


def require_memory(model: IntegerModel, core: CoreName, flash: int | None = None, ram: int | None = None) -> None:
    """Check that the firmware of *model* for *core* fits *flash* and *ram* bytes; None: those of the emulated board.

    Requantizations are solved only if their form decides. The memory of the host is not asked for.

    Raises:
        ConfigError: the emulated board has less than *flash* or *ram*; the host has none.
        StageError: a layer has no form in C; the message names it.
        TooLargeError: it does not fit; the message tells both sizes and the largest layers.
    """
    require_board_memory(core, flash, ram)
    plan = plan_network(model)
    if core == HOST:
        return
    memory = core_of(core).with_memory(flash, ram)
    least, most = least_and_most(plan, core)
    if _fits(most, memory):
        return
    if _fits(least, memory):
        exact = footprint(model, core)
        if _fits(exact, memory):
            return
        raise TooLargeError(_refusal(exact, core, memory, bound=""))
    raise TooLargeError(_refusal(least, core, memory, bound="" if least == most else "at least "))


def _footprint(plan: NetworkPlan, core: EmulatedCore, tables: Mapping[str, int], requantize_bytes: int) -> Footprint:
    layers = []
    for step in plan.steps:
        work = WORD_BYTES * step.sums + step.shown
        layers.append(LayerMemory(step.name, _constants(step), _value_bytes(step) + work))
        finish = finish_of(step)
        if finish is not None and finish.activation is not None:
            name = finish.activation.node.name
            layers.append(LayerMemory(name, tables[name], 0))
    return Footprint(tuple(layers), _code_bytes(plan, core) + requantize_bytes, _ram_bytes(plan))


def _value_bytes(step: PlannedStep) -> int:
    """Return the size of what *step* reads and writes."""
    return sum(value.channels * value.positions * value.number_bytes for value in (*step.takes, step.makes))


def _constants(step: PlannedStep) -> int:
    """Return the bytes of weights and tables of *step*, without its activation."""
    finish = finish_of(step)
    held = 0 if finish is None else finish.constant_bytes
    if isinstance(step, PlannedProduct):
        held += WORD_BYTES * step.layout.words * len(step.matrices)
        held += 0 if step.takes[0].bytes.as_they_are else WORD_BYTES * step.node.outputs
    elif isinstance(step, PlannedSum):
        held += WORD_BYTES * step.offsets.size * (1 + len(step.factors))
    elif isinstance(step, PlannedJoin):
        held += sum(BYTES_OF_RECODING for codes in step.recodes if isinstance(codes, tuple))
    elif isinstance(step, PlannedMove):
        held += WORD_BYTES * step.origins.size
    return held


def _code_bytes(plan: NetworkPlan, core: EmulatedCore) -> int:
    """Return an upper allowance for code and descriptors, without the kernels that requantize."""
    kernels = core_of(core).kernel_bytes
    code = HARNESS_BYTES + sum(STEP_BYTES[type(step) is PlannedProduct and step.window is None] for step in plan.steps)
    code += sum(GROUP_BYTES * product.groups for product in plan.products if product.groups > 1)
    code += sum(kernels[name] for name in {product.kernel_name for product in plan.products})
    forms = {product.form for product in plan.products}
    code += sum(kernels[walk] for form, walk in (("pair", "convolve"), ("depthwise", "depthwise")) if form in forms)
    if any(not (type(step) is PlannedProduct and step.window is None) for step in plan.steps):
        code += kernels["windows"] + kernels["values"]
    else:
        code += STORE_BYTES
    decoded = sum(not product.takes[0].bytes.as_they_are for product in plan.products)
    if decoded:
        code += DECODE_BYTES + DECODED_LAYER_BYTES * decoded
    if plan.signed_input:
        code += SIGNED_INPUT_BYTES
    return code + OUTPUT_CODES_BYTES


def _ram_bytes(plan: NetworkPlan) -> int:
    """Return the vectors of the harness, the arena of the network, and the stack that the linker keeps free."""
    takes = [product.call_inputs for product in plan.products]
    gives = [product.positions * product.node.outputs for product in plan.products]
    channels = [planned.node.channels for planned in plan.activations]
    codes = _whole_words(max(plan.model.inputs, *takes, *channels, 0))
    accumulators = WORD_BYTES * max(plan.model.outputs, *gives, *channels, 0)
    return codes + accumulators + max(WORD_BYTES, plan.arena_bytes) + WORD_BYTES * HARNESS_WORDS + STACK_BYTES


def _whole_words(size_bytes: int) -> int:
    return -(-size_bytes // WORD_BYTES) * WORD_BYTES


def _fits(needed: Footprint, memory: Core) -> bool:
    return needed.flash_bytes <= memory.flash.size_bytes and needed.ram_bytes <= memory.ram.size_bytes


def _refusal(needed: Footprint, core: EmulatedCore, memory: Core, *, bound: str) -> str:
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
