"""The interpreter of a program in its arena: each value is written to and read from its bytes, as a target does it.

What a step reads was written by an earlier one, and nothing else is kept, so a value that was overwritten too early, or
that does not fit its type, gives other codes than the integer model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import INPUT
from bitproof.export.program.arena import Arena
from bitproof.export.program.order import from_stored, to_stored
from bitproof.export.program.program import Program, Value
from bitproof.pipeline import Codes

FREE = 0xA5
"""What the arena holds before anything is written: no byte is read before that."""


def run_in_arena(program: Program, arena: Arena, codes: Codes) -> Codes:
    """Return the output codes, shape (N, outputs), of input *codes*, shape (N, inputs)."""
    memory = np.full((len(codes), arena.size_bytes), FREE, dtype=np.uint8)
    source = program.values[INPUT]
    _write(memory, source, arena, codes.reshape(len(codes), *source.shape))
    for step in program.steps:
        given = (_read(memory, program.values[name], arena) for name in step.takes)
        _write(memory, program.values[step.makes], arena, step.run(*given))
    return _read(memory, program.values[program.output], arena).reshape(len(codes), -1)


def _dtype(value: Value) -> np.dtype[np.integer]:
    return np.dtype(f"<{'i' if value.type.signed else 'u'}{value.width_bits // 8}")


def _place(value: Value, arena: Arena) -> slice:
    start = arena.offsets[value.storage]
    return slice(start, start + value.size_bytes)


def _write(memory: NDArray[np.uint8], value: Value, arena: Arena, codes: Codes) -> None:
    stored = to_stored(codes, value.order).astype(_dtype(value))  # wraps, as a store to memory does
    memory[:, _place(value, arena)] = np.ascontiguousarray(stored).view(np.uint8).reshape(len(codes), -1)


def _read(memory: NDArray[np.uint8], value: Value, arena: Arena) -> Codes:
    held = np.ascontiguousarray(memory[:, _place(value, arena)]).view(_dtype(value))
    return from_stored(held.astype(np.int64), value.shape, value.order)
