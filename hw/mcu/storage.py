"""The values of a program as C keeps them: one byte for each code, or numbers of 32 bits, at a place in the arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerType,
    MaxPool,
    Node,
    Pad,
    Shape,
    SumPool,
    TopK,
)
from bitproof.export.program.arena import places_of
from bitproof.export.program.order import Order
from bitproof.export.program.program import Program, Value
from bitproof.export.program.step import Step
from bitproof.hw.mcu.byte_codes import MOST_CODES, ByteCodes
from bitproof.pipeline import StageError

BYTE, NUMBER = IntegerType(8, signed=False), IntegerType(32, signed=True)
NUMBER_BYTES = 4
OUTPUT = "(uint8_t *)output"
"""The place of outputs in the memory of the caller."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A value, or a view of one.

    Attributes:
        name: of the value of the program.
        shape: of one sample, channels first.
        order: of its codes in memory.
        codes: what its bytes stand for; None: it holds numbers of 32 bits.
        place: the C expression of its first byte.
    """

    name: str
    shape: Shape
    order: Order
    codes: ByteCodes | None
    place: str

    @property
    def channels(self) -> int:
        """Channels at each position."""
        return self.shape[0]

    @property
    def positions(self) -> int:
        """Positions of the image or sequence; 1 of a vector."""
        return prod(self.shape[1:])

    @property
    def size(self) -> int:
        """Codes of one sample."""
        return prod(self.shape)

    @property
    def number_bytes(self) -> int:
        """Of one code: 1 or 4."""
        return NUMBER_BYTES if self.codes is None else 1

    @property
    def is_last(self) -> bool:
        """Its channels lie side by side at each position, as every kernel takes them."""
        return self.order == "channels-last" or self.channels == 1 or self.positions == 1

    @property
    def bytes(self) -> ByteCodes:
        """What its bytes stand for.

        Raises:
            ValueError: it holds numbers.
        """
        if self.codes is None:
            raise ValueError(f"{self.name!r} holds numbers of 32 bits")
        return self.codes


@dataclass(frozen=True, slots=True)
class Storage:
    """All values of a program in memory.

    Attributes:
        values: by name, views included.
        size_bytes: of the arena that holds them.
        lower_bound_bytes: what is alive at one step at most: no arena is smaller.
    """

    values: Mapping[str, Stored]
    size_bytes: int
    lower_bound_bytes: int


def takes_signed(codes: ByteCodes) -> bool:
    """Tell whether a caller gives the input as signed codes: these are not bytes as they are, but fit int8_t."""
    return not codes.as_they_are and codes.fit_int8


def plan_storage(program: Program) -> Storage:
    """Decide how every value of *program* is kept, and where.

    The caller's input is read where it is, unless bytes have to be made of it; numbers that are the output go to the
    caller, too, if nothing else reads them.

    Raises:
        StageError: a value has more codes than a byte holds, or a network takes what it cannot; the message names it.
    """
    kinds = _kinds(program)
    roots = _roots(program, kinds)
    output = program.values[program.output].storage
    direct = {name for name in (INPUT, output) if _is_callers(program, kinds, roots, name)}
    kept = [value for value in program.stored if roots[value.name] == value.name and value.name not in direct]
    arena = places_of([_timed(program, value, kinds, roots) for value in kept])
    pointers = {output: OUTPUT, INPUT: "input"}  # outputs that are inputs are read from where these are
    held = {}
    for name, value in program.values.items():
        root = roots[value.storage]
        at = pointers[root] if root in direct else f"arena + {arena.offsets[root]}"
        held[name] = Stored(name, value.shape, value.order, kinds[value.storage], at)
    return Storage(held, arena.size_bytes, arena.lower_bound_bytes)


def only_relabels(step: Step, taken: ByteCodes | None) -> bool:
    """Tell whether *step* replaces each code of the bytes *taken* by another, the same for all: the bytes may stay."""
    node = step.main
    if taken is None or not isinstance(node, Affine) or len(step.carried_out) > 1:
        return False
    same = bool((node.factors == node.factors[0]).all() and (node.offsets == node.offsets[0]).all())
    return same and int(node.factors[0]) > 0


def _roots(program: Program, kinds: Mapping[str, ByteCodes | None]) -> dict[str, str]:
    """Return for each stored value the one in whose bytes it lies: its own, or that which it only relabels."""
    roots = {INPUT: INPUT}
    for step in program.steps:
        source = program.values[step.takes[0]].storage
        roots[step.makes] = roots[source] if only_relabels(step, kinds[source]) else step.makes
    return roots


def _is_callers(program: Program, kinds: Mapping[str, ByteCodes | None], roots: Mapping[str, str], name: str) -> bool:
    """Tell whether the stored value *name* lies in the caller's memory."""
    if roots[name] != name:
        return False
    codes = kinds[name]
    if name == INPUT:
        return codes is not None and not takes_signed(codes)
    read = any(program.values[taken].storage == name for step in program.steps for taken in step.takes)
    return codes is None and not read


def _timed(program: Program, value: Value, kinds: Mapping[str, ByteCodes | None], roots: Mapping[str, str]) -> Value:
    """Return *value* with its life in half steps: a matrix product has read all of its input before it stores a code.

    So what it makes may lie where its input was.
    """
    kind = NUMBER if kinds[value.name] is None else BYTE
    born = 2 * value.born
    if value.born >= 0 and value.shape[1:] == () and _sums_first(program.steps[value.born]):
        born += 1
    dies = max(program.values[name].dies for name, root in roots.items() if root == value.name)
    return replace(value, type=kind, born=born, dies=2 * dies)


def _sums_first(step: Step) -> bool:
    return step.kind == "multiply" and not isinstance(step.main, Conv) and step.thresholds is not None


def _kinds(program: Program) -> dict[str, ByteCodes | None]:
    """Return what the bytes of every stored value stand for; None: it holds numbers of 32 bits."""
    padded = _padded(program)
    model = program.model
    allowed = model.allowed_codes
    codes = _byte_codes(allowed, "the network takes", "quantize the network's input to 8 bits or fewer")
    if codes.as_they_are and model.input.maximum < MOST_CODES:  # whatever its type holds is taken
        codes = ByteCodes.of(range(model.input.maximum + 1))
    kinds: dict[str, ByteCodes | None] = {INPUT: _with_zero(codes, INPUT) if INPUT in padded else codes}
    for step in program.steps:
        taken = [kinds[program.values[name].storage] for name in step.takes]
        kinds[step.makes] = made = _kind(program, step, taken)
        kept = only_relabels(step, taken[0]) or (step.thresholds is None and _copies(step))
        if made is not None and step.makes in padded and not kept:
            kinds[step.makes] = _with_zero(made, step.makes)
    return kinds


def _kind(program: Program, step: Step, taken: list[ByteCodes | None]) -> ByteCodes | None:
    """Return what the bytes that *step* makes stand for, if there are bytes."""
    if step.thresholds is not None:
        advice = "quantize its activation to 8 bits or fewer"
        return _byte_codes(program.model.values[step.makes].codes, f"layer {step.makes!r} gives", advice)
    main: Node = step.main
    if isinstance(main, Affine) and only_relabels(step, taken[0]) and taken[0] is not None:
        return taken[0].recoded(int(main.factors[0]), int(main.offsets[0]))
    if isinstance(main, Add | Affine | SumPool | TopK) or step.kind == "multiply":
        return None
    if isinstance(main, Concat):
        ranges = [codes for codes in taken if codes is not None]
        if len(ranges) < len(taken):
            return None
        low, high = min(codes.codes[0] for codes in ranges), max(codes.codes[-1] for codes in ranges)
        if len(set(ranges)) == 1:
            return ranges[0]
        return _byte_codes(range(low, high + 1), f"layer {step.makes!r} joins", "give its branches one scale")
    return taken[0]


def _padded(program: Program) -> set[str]:
    """Return the stored values that need a byte for the code 0, which lies around them at some step.

    A max pool and a move copy bytes: what they make has that byte only if what they take has it.
    """
    padded: set[str] = set()
    for step in reversed(program.steps):
        if _pads(step) or (step.makes in padded and step.thresholds is None and _copies(step)):
            padded.add(program.values[step.takes[0]].storage)
    return padded


def _pads(step: Step) -> bool:
    """Tell whether *step* meets codes of 0 around what it takes."""
    window = step.main.window if isinstance(step.main, Conv | SumPool) else None
    return step.padding is not None or isinstance(step.main, Pad) or (window is not None and window.padded)


def _copies(step: Step) -> bool:
    return isinstance(step.main, MaxPool) or step.kind == "move"


def _byte_codes(codes: range, what: str, advice: str) -> ByteCodes:
    try:
        return ByteCodes.of(codes)
    except ValueError as error:
        raise StageError(f"{what} {error}, in which the C back-end keeps each code: {advice}") from error


def _with_zero(codes: ByteCodes, name: str) -> ByteCodes:
    try:
        return codes.with_zero()
    except ValueError as error:
        raise StageError(f"{name!r} is padded with the code 0, which makes {error}: use fewer bits") from error
