"""The self-test beside the network: inputs that are drawn where it runs, and what the integer model makes of them.

Only results are stored, so that the test stays small for any input. Whole inferences show that the network is built and
called as it should be; what they leave out, because layers behind a weight hide it, each product shows alone: on bytes
of which none is 0, so that every changed weight changes the sum of its row, and with it the checksum of the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitproof.export.integer import Conv, run
from bitproof.export.program.order import to_stored
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.manifest import ProductEntry
from bitproof.hw.mcu.plan import NetworkPlan, in_model_order
from bitproof.hw.mcu.steps import PlannedProduct
from bitproof.hw.mcu.storage import NUMBER_BYTES
from bitproof.pipeline import Codes

MOST_VECTORS = 8
MOST_OUTPUT_BYTES = 2048
"""Of the stored outputs, if there is more than one vector."""
MOST_OPERATIONS = 1 << 31
"""Of the integer model on all vectors, if there is more than one."""
MULTIPLIER, INCREMENT = 1_664_525, 1_013_904_223
"""Of the generator of numbers (Knuth and Lewis)."""
SPREAD = 2_654_435_761
"""Tells the first states of neighbouring seeds apart."""
FNV_BASIS, FNV_PRIME = 2_166_136_261, 16_777_619
WORD = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class ProductCheck:
    """One product alone.

    Attributes:
        inputs: bytes that it takes, each drawn from *least* to *largest*.
        outputs: its accumulators.
        checksum: of these.
    """

    inputs: int
    least: int
    largest: int
    outputs: int
    checksum: int


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the self-test of a network holds.

    Attributes:
        input_bytes: which byte a number stands for that is drawn for an input.
        outputs: of the integer model on each vector, as they lie in memory, shape (vectors, outputs).
        output_type: the narrowest type in C that holds them.
        products: in execution order.
        memory_bytes: what the caller lends.
    """

    input_bytes: ByteCodes
    outputs: Codes
    output_type: str
    products: tuple[ProductCheck, ...]
    memory_bytes: int


def self_test_of(plan: NetworkPlan, entries: Sequence[ProductEntry]) -> SelfTest:
    """Return the self-test of the network of *plan*, whose products *entries* describe in the same order."""
    allowed = plan.input.bytes.to_bytes(np.array(plan.model.allowed_codes))  # whose bytes may be more than codes
    draws = np.stack([drawn_input(vector, plan.input.size, len(allowed)) for vector in range(_vectors(plan))])
    codes = in_model_order(plan.input.bytes.from_bytes(allowed[draws]), plan.input)
    outputs = to_stored(run(plan.model, codes).reshape(-1, *plan.output.shape), plan.output.order)
    pairs = zip(plan.products, entries, strict=True)
    products = tuple(_check(number, *pair) for number, pair in enumerate(pairs))
    whole = NUMBER_BYTES * plan.model.outputs + plan.arena_bytes + plan.input.size
    each = (NUMBER_BYTES * check.outputs + plan.arena_bytes + check.inputs for check in products)
    memory_bytes = -(-max(whole, *each, 0) // NUMBER_BYTES) * NUMBER_BYTES
    input_bytes = ByteCodes(lowest=int(allowed[0]), step=int(np.diff(allowed).max(initial=1)), count=len(allowed))
    return SelfTest(input_bytes, outputs, f"int{_bits(outputs)}_t", products, memory_bytes)


def draw(seed: int, size: int, count: int) -> Codes:
    """Return *size* numbers from 0 to *count* - 1, as the C of the self-test draws them with *seed*.

    >>> draw(1, 6, 256).tolist()
    [71, 23, 184, 126, 159, 150]
    """
    state, numbers = SPREAD * (seed + 1) & WORD, np.empty(size, dtype=np.int64)
    for place in range(size):
        state = (MULTIPLIER * state + INCREMENT) & WORD
        numbers[place] = (state >> 16) * count >> 16
    return numbers


def drawn_input(vector: int, size: int, count: int) -> Codes:
    """Return the bytes of one input: all drawn; all the least; all the largest; then in turn either end, or drawn."""
    if vector in (1, 2):
        return np.full(size, 0 if vector == 1 else count - 1, dtype=np.int64)
    return draw(vector, size, 2) * (count - 1) if vector % 2 else draw(vector, size, count)


def checksum(accumulators: Codes) -> int:
    """Return the 32-bit FNV-1a of *accumulators*, a word at a time: another accumulator is always another checksum."""
    digest = FNV_BASIS
    for accumulator in accumulators.tolist():
        digest = ((digest ^ (accumulator & WORD)) * FNV_PRIME) & WORD
    return digest


def _vectors(plan: NetworkPlan) -> int:
    model = plan.model
    by_size = MOST_OUTPUT_BYTES // (NUMBER_BYTES * model.outputs)
    by_work = MOST_OPERATIONS // max(1, model.operations)
    return max(1, min(MOST_VECTORS, by_size, by_work))


def _check(number: int, product: PlannedProduct, entry: ProductEntry) -> ProductCheck:
    codes, node = entry.codes, product.node
    least = min(1, codes.count - 1)
    given = codes.from_bytes(least + draw(number, entry.call_inputs, codes.count - least))
    taken = np.empty((entry.positions, entry.inputs), dtype=np.int64)
    taken[:, entry.in_c(np.arange(entry.inputs)[None])[0]] = entry.shown(given[None])[0]  # in the integer model's order
    groups = node.groups if isinstance(node, Conv) else 1
    weights = node.weights.reshape(groups, node.outputs // groups, -1)
    made = (weights @ taken.reshape(entry.positions, groups, -1, 1)).reshape(-1)
    return ProductCheck(given.size, least, codes.count - 1, made.size, checksum(made))


def _bits(outputs: Codes) -> int:
    low, high = int(outputs.min()), int(outputs.max())
    return next(bits for bits in (8, 16, 32) if -(1 << bits - 1) <= low and high < 1 << bits - 1)
