"""The patched window generator of FINN: every signal is what it was, in every cycle, whatever stalls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flag_bench import bench_of, flags_of

from bitproof.hw.synth.patches import with_counters_of_one_level
from bitproof.pipeline.toolchain import VERILATOR

pytestmark = [
    pytest.mark.tool,
    pytest.mark.xdist_group("open_fpga"),
    pytest.mark.skipif(VERILATOR.find() is None, reason=f"{VERILATOR.name} is missing: {VERILATOR.install}"),
]

SIZE, KERNEL, CHANNELS = 6, 3, 4
BUFFER = ((KERNEL - 1) * SIZE + KERNEL) * CHANNELS
SETTINGS = {
    "LAST_READ_ELEM": SIZE * SIZE * CHANNELS - 1,
    "LAST_WRITE_ELEM": SIZE * SIZE * CHANNELS - 1,
    "BUF_ELEM_TOTAL": BUFFER,
    "ELEM_PER_WINDOW": KERNEL * KERNEL * CHANNELS,
    "INCR_BITWIDTH": 8,
    "RAM_STYLE": '"auto"',
    "LOOP_H_ITERATIONS": SIZE - KERNEL - 1,
    "LOOP_W_ITERATIONS": SIZE - KERNEL - 1,
    "LOOP_KH_ITERATIONS": KERNEL - 2,
    "LOOP_KW_ITERATIONS": KERNEL - 2,
    "LOOP_SIMD_ITERATIONS": CHANNELS - 3,
    "HEAD_INCR_SIMD": 1,
    "HEAD_INCR_KW": 1,
    "HEAD_INCR_KH": (SIZE - KERNEL) * CHANNELS + 1,
    "HEAD_INCR_W": CHANNELS + 1 - BUFFER,
    "HEAD_INCR_H": KERNEL * CHANNELS + 1 - BUFFER,
    "TAIL_INCR_W": CHANNELS,
    "TAIL_INCR_H": KERNEL * CHANNELS,
    "TAIL_INCR_LAST": BUFFER - 1,
    "IS_DEPTHWISE": 0,
    "INNERMOST_STATE": "STATE_LOOP_SIMD",
}
CYCLES = 20_000


def instance(name: str) -> str:
    return f"""
    wire {name}_ready, {name}_valid;
    wire [7:0] {name}_out;
    {name}_impl #(.BIT_WIDTH(8), .SIMD(1), .MMV_IN(1), .MMV_OUT(1)) {name} (
        .ap_clk(clock[0]), .ap_rst_n(reset_n && in_data[15:10] != 0), .in0_V_V_TVALID(in_data[8]),
        .in0_V_V_TREADY({name}_ready), .in0_V_V_TDATA(in_data[7:0]), .out_V_V_TVALID({name}_valid),
        .out_V_V_TREADY(in_data[9]), .out_V_V_TDATA({name}_out)
    );
    wire [9:0] all_of_{name} = {{{name}_ready, {name}_valid, {name}_valid ? {name}_out : 8'h0}};
"""


def test_the_patched_window_generator_is_the_same_in_every_cycle(tmp_path: Path) -> None:
    finn = pytest.importorskip("finn")
    library = Path(finn.__path__[0]) / "finn-rtllib" / "swg"
    template = (library / "swg_template_default.sv").read_text()
    for name, value in SETTINGS.items():
        assert f"${name}$" in template
        template = template.replace(f"${name}$", str(value))
    patched = with_counters_of_one_level("template.sv", template)
    first, address = "Oldest_buffered_elem <= -BUF_ELEM_TOTAL", "(ra_less >= 0)?"
    texts = {"plain": template, "patched": patched, "early": patched.replace(first, f"{first} - 1")}
    texts["late"] = patched.replace(address, "(ra_less > 0)?")
    differs = ", ".join(f"all_of_plain != all_of_{name}" for name in ("late", "early", "patched"))
    flags = f"{{3'b0, plain_valid && in_data[9], plain_ready && in_data[8], {differs}}}"
    body = (
        "".join(map(instance, texts)) + f"    logic [7:0] flags;\n    always_ff @(posedge clock[0]) flags <= {flags};"
    )
    sources = {f"rtl/{file}": (library / file).read_text() for file in ("swg_pkg.sv", "swg_common.sv")}
    sources |= {f"rtl/{name}.sv": text.replace("$TOP_MODULE_NAME$", name) for name, text in texts.items()}
    sources["rtl/bench.sv"] = bench_of(body, "flags", 2, 1)
    words = np.random.default_rng(2).integers(0, 1 << 16, size=CYCLES, dtype=np.uint16)
    words[: CYCLES // 2] |= 1 << 15  # no reset, so that whole images go through
    given = flags_of(sources, words.view(np.uint8).reshape(-1, 2), 1, memories=tmp_path, cache=tmp_path, place=tmp_path)
    assert not given[:, 0].any()
    for broken in (1, 2):
        assert given[:, broken].any()
    read, written = given[: CYCLES // 2, 3:5].sum(axis=0, dtype=int)
    assert read > 5 * SIZE * SIZE * CHANNELS  # five images
    assert written > 5 * (SIZE - KERNEL + 1) ** 2 * KERNEL * KERNEL * CHANNELS
