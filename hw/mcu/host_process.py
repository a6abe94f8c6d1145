"""The process that calls the generated C of this machine: a fault in it ends this process, and none but this.

``python -I -S host_process.py LIBRARY FOLDER...`` with :class:`Order` as JSON on standard input. It reads ``input.bin``
and writes ``output.bin`` in its working folder, as the test firmware does (``runtime/main.c``). It imports nothing of
this project, so that it starts fast, and cffi from one of the FOLDERs, which calls the library without a compiler.

The library may come from others. Before it is loaded the process gives up all but computing: what is left are memory,
the files that are open, and reading others (seccomp, Linux 3.5). Where that is not to be had, standard error says so.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import json
import os
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
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
"""Arguments of ``prctl``."""
LOAD, AND, JUMP_IF_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
"""Instructions of the filter, a program of the classic Berkeley Packet Filter."""
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EPERM
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 32
"""Where the filter finds what it is asked about."""
CHANGES_FILES = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
"""Flags of ``openat`` that have to be 0."""
CALLS = {
    # read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 mremap
    # madvise exit clock_gettime exit_group newfstatat futex sigaltstack getrandom
    "x86_64": (
        *(0xC000_003E, 257),
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 25, 28, 60, 228, 231, 262, 202, 131, 318),
    ),
    "aarch64": (
        *(0xC000_00B7, 56),
        (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 67, 216, 233, 93, 113, 94, 79, 98, 132, 278),
    ),
}
"""By the machine: its number in a filter, the number of ``openat``, and of the other system calls that are left."""
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
        if not give_up_all_but_computing():
            sys.stderr.write(
                f"{library} is not kept from system calls: this kernel or machine has no filter for them\n"
            )
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


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_so", ctypes.c_uint8),
        ("if_not", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def give_up_all_but_computing() -> bool:
    """Have every system call refused that is not needed from here on; say whether the kernel can do it.

    Raises:
        OSError: it can, and refused.
    """
    calls = CALLS.get(os.uname().machine)
    if calls is None or sys.maxsize < 1 << 32:  # a program of 32 bits numbers its calls differently
        return False
    architecture, openat, others = calls
    refuse, allow = (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)
    program = [
        *((LOAD, 0, 0, ARCHITECTURE), (JUMP_IF_EQUAL, 1, 0, architecture), refuse),
        *((LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 5, openat)),
        *((LOAD, 0, 0, THIRD_ARGUMENT), (AND, 0, 0, CHANGES_FILES), (JUMP_IF_EQUAL, 0, 1, 0), allow, refuse),
        *(step for number in others for step in ((JUMP_IF_EQUAL, 0, 1, number), allow)),
        refuse,
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*step) for step in program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(_Filter(len(program), instructions))) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EINVAL:  # the kernel was built without
        return False
    raise OSError(number, os.strerror(number))


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
        given = Path("input.bin").read_bytes()
        with Path("output.bin").open("wb") as output:
            network = _Network(library, order, given)
            carry_out = {
                "run": network.run,
                "requantize": network.requantize,
                "multiply": network.multiply,
                "requantize_at": network.requantize_at,
                "trace": network.trace,
            }[order["mode"]]
            for row in range(order["count"]):
                output.write(carry_out(row))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FILE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
