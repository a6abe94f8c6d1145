"""The place of every value in one arena of bytes: values that are never alive at once share theirs.

Offsets are found greedily, the largest value first, each at the lowest place that is free during its whole life
(Pisarchyk and Lee, *Efficient Memory Management for Deep Neural Net Inference*, 2020, greedy by size). No arena is
smaller than the bytes that are alive at one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitproof.export.program.program import Program, Value

ALIGNMENT_BYTES = 8
"""Of every offset: the widest code."""


@dataclass(frozen=True, slots=True)
class Arena:
    """The places of all stored values.

    Attributes:
        offsets: first byte of each, by name.
        size_bytes: of the whole, for one sample.
        lower_bound_bytes: what is alive at one step at most: no arena is smaller.
    """

    offsets: Mapping[str, int]
    size_bytes: int
    lower_bound_bytes: int


def plan_arena(program: Program) -> Arena:
    """Return an arena for the values of *program*, in which no two that are alive at once overlap."""
    return places_of(program.stored)


def places_of(stored: Sequence[Value]) -> Arena:
    """Return an arena for the values *stored*, in which no two that are alive at once overlap."""
    values = sorted(stored, key=lambda value: (-value.size_bytes, value.born, value.name))
    offsets: dict[str, int] = {}
    for value in values:
        taken = sorted(
            (offsets[other.name], offsets[other.name] + other.size_bytes)
            for other in values
            if other.name in offsets and alive_at_once(value, other)
        )
        start = 0
        for first, end in taken:
            if start + value.size_bytes <= first:
                break
            start = max(start, _aligned(end))
        offsets[value.name] = start
    bound = (sum(other.size_bytes for other in values if other.born <= at <= other.dies) for at in _moments(values))
    arena = Arena(
        offsets, max((offsets[value.name] + value.size_bytes for value in values), default=0), max(bound, default=0)
    )
    require_disjoint(stored, arena)
    return arena


def _moments(values: Sequence[Value]) -> set[int]:
    """Return the moments at which most can be alive: when one of *values* is born."""
    return {value.born for value in values}


def alive_at_once(one: Value, two: Value) -> bool:
    """Tell whether both hold codes at one step: what it reads and what it writes does."""
    return one.born <= two.dies and two.born <= one.dies


def require_disjoint(values: Sequence[Value], arena: Arena) -> None:
    """Check every pair of *values* that are alive at once.

    Raises:
        ValueError: two overlap, or one lies outside of the arena.
    """
    for number, one in enumerate(values):
        start, end = arena.offsets[one.name], arena.offsets[one.name] + one.size_bytes
        if start < 0 or start % ALIGNMENT_BYTES or end > arena.size_bytes:
            raise ValueError(f"{one.name!r} lies at {start}..{end - 1} of an arena of {arena.size_bytes} bytes")
        for two in values[:number]:
            first, last = arena.offsets[two.name], arena.offsets[two.name] + two.size_bytes
            if alive_at_once(one, two) and start < last and first < end:
                raise ValueError(
                    f"{one.name!r} at {start}..{end - 1} and {two.name!r} at {first}..{last - 1} are alive at once"
                )


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
