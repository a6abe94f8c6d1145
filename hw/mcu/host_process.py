"""The process that calls the generated C of this machine: a fault in it ends this process, and none but this.

``python -I -S host_process.py LIBRARY FOLDER...`` with :class:`Order` as JSON on standard input. It reads ``input.bin``
and writes ``output.bin`` in its working folder, as the test firmware does (``runtime/main.c``). It imports nothing of
this project, so that it starts fast, and cffi from one of the FOLDERs, which calls the library without a compiler.
"""

from __future__ import annotations

import faulthandler
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypedDict

EXIT_FILE, EXIT_NETWORK = 103, 104
"""As of the firmware."""
DECLARATIONS = """
    int {prefix}_run_until(uint32_t steps, const void *input, int32_t *output, void *arena, size_t arena_bytes);
    int {prefix}_multiply(uint32_t layer, const uint8_t *codes, int32_t *accumulators, void *arena,
                          size_t arena_bytes);
    int {prefix}_requantize(uint32_t layer, const int32_t *accumulators, uint8_t *codes);
"""
ACCUMULATOR_BYTES = 4
ModeName = Literal["run", "requantize", "multiply", "requantize_at", "trace"]


class Order(TypedDict):
    """What is to be done.

    Attributes:
        prefix: of the functions of the library.
        layer: number of the product or activation that runs alone.
        steps: of the network.
        count: how many rows.
        first: accumulator of the first row that is requantized.
        inputs: bytes that a row takes.
        outputs: numbers that a row gives.
        arena_bytes: what the network is lent.
        values: for each step where in the arena its value lies, or -1 for the outputs, and how many bytes it has.
    """

    prefix: str
    mode: ModeName
    layer: int
    steps: int
    count: int
    first: int
    inputs: int
    outputs: int
    arena_bytes: int
    values: list[tuple[int, int]]


class _Network:
    """The functions of a library, and the memory that they work in: no more than the header says is enough."""

    def __init__(self, library: str, order: Order, given: bytes) -> None:
        import cffi

        self.order = order
        self.ffi = cffi.FFI()
        self.ffi.cdef(DECLARATIONS.format(prefix=order["prefix"]))
        self.library = self.ffi.dlopen(library)
        self.given = self.ffi.from_buffer("uint8_t[]", given)
        # Words, so that the memory is aligned as the header wants it.
        self.arena = self.ffi.new("uint32_t[]", max(1, -(-order["arena_bytes"] // 4)))
        self.numbers = self.ffi.new("int32_t[]", order["outputs"])

    def function(self, name: str) -> Callable[..., int]:
        """Return the function called *name* behind the prefix."""
        found: Callable[..., int] = getattr(self.library, f"{self.order['prefix']}_{name}")
        return found

    def until(self, steps: int, row: int) -> None:
        """Run the first *steps* steps on sample *row*."""
        at = self.given + row * self.order["inputs"]
        arena_bytes = self.order["arena_bytes"]
        require_ok(self.function("run_until")(steps, at, self.numbers, self.arena, arena_bytes))

    def run(self, row: int) -> bytes:
        """Return the outputs of sample *row*."""
        self.until(self.order["steps"], row)
        return bytes(self.ffi.buffer(self.numbers))

    def trace(self, row: int) -> bytes:
        """Return what each step leaves of sample *row*."""
        left = []
        for step, (offset, size_bytes) in enumerate(self.order["values"], start=1):
            self.until(step, row)
            memory = self.ffi.buffer(self.numbers if offset < 0 else self.arena)
            left.append(memory[max(0, offset) : max(0, offset) + size_bytes])
        return b"".join(left)

    def multiply(self, row: int) -> bytes:
        """Return the accumulators of one product on the codes of *row*."""
        at = self.given + row * self.order["inputs"]
        require_ok(
            self.function("multiply")(self.order["layer"], at, self.numbers, self.arena, self.order["arena_bytes"])
        )
        return bytes(self.ffi.buffer(self.numbers))

    def requantize(self, row: int) -> bytes:
        """Return the codes of one activation on the accumulator that *row* stands for, in every channel."""
        return self._requantized(struct.pack("<i", self.order["first"] + row) * self.order["outputs"])

    def requantize_at(self, row: int) -> bytes:
        """Return the codes of one activation on the accumulators of *row*."""
        start, size_bytes = row * self.order["inputs"], self.order["inputs"]
        return self._requantized(self.ffi.buffer(self.given)[start : start + size_bytes])

    def _requantized(self, accumulators: bytes) -> bytes:
        self.ffi.buffer(self.numbers)[:] = accumulators
        codes = self.ffi.new("uint8_t[]", self.order["outputs"])
        require_ok(self.function("requantize")(self.order["layer"], self.numbers, codes))
        return bytes(self.ffi.buffer(codes))


def require_ok(status: int) -> None:
    """End this process if the network refused its arguments."""
    if status != 0:
        sys.stderr.write(f"the network returned status {status}; its header says which that is\n")
        sys.exit(EXIT_NETWORK)


def main(library: str, folders: list[str]) -> int:
    """Carry out the order on standard input with *library*, import from *folders*, and return the exit code."""
    faulthandler.enable()
    sys.path += folders
    order: Order = json.load(sys.stdin)
    try:
        network = _Network(library, order, Path("input.bin").read_bytes())
        carry_out = {
            "run": network.run,
            "requantize": network.requantize,
            "multiply": network.multiply,
            "requantize_at": network.requantize_at,
            "trace": network.trace,
        }[order["mode"]]
        with Path("output.bin").open("wb") as output:
            for row in range(order["count"]):
                output.write(carry_out(row))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FILE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
