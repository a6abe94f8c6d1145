"""A bench for two descriptions of one circuit: in every cycle it flags what they give differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitproof.hw.rtl.compile import compiled_bench
from bitproof.hw.rtl.simulator import run_bench


def bench_of(body: str, flags: str, input_bytes: int, flags_bytes: int) -> str:
    """Return a bench with *body* that takes a word in each cycle, ``in_data``, and puts out *flags* one cycle later."""
    return f"""\
module bench (
    input [0:0] clock, input [15:0] unit, input reset_n, input [{8 * input_bytes - 1}:0] in_data,
    input in_valid, output in_ready, output [{8 * flags_bytes - 1}:0] out_data, output out_valid, input out_ready
);
{body}
    logic valid = 0;
    always_ff @(posedge clock[0]) valid <= in_valid;
    assign in_ready = 1'b1;
    assign out_valid = valid;
    assign out_data = {flags};
endmodule
"""


def flags_of(
    sources: dict[str, str], words: NDArray[np.uint8], flags_bytes: int, *, memories: Path, cache: Path, place: Path
) -> NDArray[np.uint8]:
    """Run the bench of *sources* on *words*, shape (N, bytes of a word); return the flags, shape (N, 8 * flags_bytes).

    *memories* is the folder of what the sources read.
    """
    program = compiled_bench(sources, cache=cache, workdir=place)
    words.tofile(place / "in")
    arguments: dict[str, int | str | Path] = {
        "unit": 0,
        "input": place / "in",
        "input-bytes": words.shape[1],
        "repeat": 1,
        "output": place / "out",
        "output-bytes": flags_bytes,
        "outputs": len(words),
        "words-out": 1,
        "stall": 0,
        "seed": 0,
        "idle-limit": 100,
    }
    run_bench(program, arguments, memories=memories, workdir=place, seed=0)
    given = np.fromfile(place / "out", dtype=np.uint8).reshape(len(words), flags_bytes)
    return np.unpackbits(given, axis=1, bitorder="little")
