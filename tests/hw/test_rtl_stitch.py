"""The Verilog text of top and bench, the library patches, and the layout of memory files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtl_nodes import CHAIN, FIFO, MVAU, THRESHOLDS, described, make_node, relinked, stream

from bitproof.hw.finn.memory import threshold_field, weight_field
from bitproof.hw.finn.patches import PATCHES, Patch, apply_patches
from bitproof.hw.finn.stitch import StitchRtl
from bitproof.hw.rtl.bench import bench_module, bench_units
from bitproof.hw.rtl.description import RtlDescription, RtlNode, RtlPort, read_description
from bitproof.hw.rtl.providers import PROVIDERS
from bitproof.hw.rtl.top import top_module, weight_stream_bits
from bitproof.pipeline import ConfigError, InputError, StageError


def test_top_connects_the_chain_in_order() -> None:
    text = top_module(CHAIN, "host_in", "host_out")
    assert text.startswith("module finn_top (\n  input ap_clk,\n  input ap_rst_n,\n  input [15:0] s_axis_tdata,\n")
    assert "  output [7:0] m_axis_tdata,\n" in text
    assert "  wire [39:0] sums_data;\n" in text  # 3 x 12 bits, padded to whole bytes
    assert text.index("fifo_module fifo (") < text.index("mvau_module mvau (") < text.index("widths_module widths (")
    assert ".in0_V_TDATA(sums_data)" in text
    assert "mvau_module_memstream_wrapper mvau_memory (" in text
    assert text.count(".ap_clk(ap_clk)") == len(CHAIN) + 1
    assert text.endswith("endmodule\n")


def test_the_weight_stream_is_padded_to_bytes() -> None:
    assert weight_stream_bits(MVAU) == 16  # 3 * 2 * 2 = 12


def test_neighbours_of_different_width_are_refused() -> None:
    with pytest.raises(StageError, match=r"^mvau has an output of 40 bits and thresholds an input of 16; no width "):
        top_module((FIFO, MVAU, relinked(THRESHOLDS, "sums", "host_out")), "host_in", "host_out")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((FIFO, relinked(MVAU, "codes", "codes")), "the stream codes is filled twice, by fifo and by mvau"),
        ((FIFO, relinked(MVAU, "host_in", "host_out")), "the stream host_in is emptied twice, by fifo and by mvau"),
        ((relinked(FIFO, "codes", "codes"),), "the host fills host_in and empties host_out; no node does the rest"),
        (
            (relinked(FIFO, "host_in", "host_out"), relinked(MVAU, "lost", "x").model_copy(update={"outputs": ()})),
            "nothing fills the stream lost, which mvau empties",
        ),
        ((FIFO, relinked(MVAU, "codes", "sums")), "nothing empties the stream sums, which mvau fills"),
        ((FIFO, relinked(MVAU, "codes", "host_in")), "the stream host_in is filled twice, by the host and by mvau"),
    ],
)
def test_a_stream_without_two_ends_is_refused(nodes: tuple[RtlNode, ...], message: str) -> None:
    with pytest.raises(StageError, match=f"^{message}$"):
        top_module(nodes, "host_in", "host_out")


def test_a_fork_and_a_join_are_nodes_with_several_streams() -> None:
    """The format holds graphs, not only chains."""
    codes = stream(8, 2, 4)

    def ports(prefix: str, *streams: str) -> tuple[RtlPort, ...]:
        return tuple(RtlPort(port=f"{prefix}{i}_V", stream=name, layout=codes) for i, name in enumerate(streams))

    def node(name: str, inputs: tuple[RtlPort, ...], outputs: tuple[RtlPort, ...]) -> RtlNode:
        return RtlNode(name=name, op="StreamingFIFO_rtl", module=name, inputs=inputs, outputs=outputs, parameters={})

    fork = node("fork", ports("in", "host_in"), ports("out", "left", "right"))
    short = node("short", ports("in", "right"), ports("out", "late"))
    join = node("join", ports("in", "left", "late"), ports("out", "host_out"))
    text = top_module((fork, short, join), "host_in", "host_out")
    assert ".out1_V_TDATA(right_data)" in text
    assert ".in1_V_TVALID(late_valid)" in text
    assert ".in0_V_TREADY(s_axis_tready)" in text
    assert text.count("  wire [15:0] ") == 3


def test_the_bench_gives_every_unit_its_clock() -> None:
    description = described(*CHAIN)
    units = bench_units(description)
    assert [unit.name for unit in units] == ["top", "unit_mvau", "unit_thresholds"]
    text = bench_module(units)
    assert "input [2:0] clock" in text
    for unit in units:
        assert text.count(f".ap_clk(clock[{unit.index}])") == (2 if unit.node == MVAU else 1)
        assert f"      {unit.index}: begin in_ready = {unit.name}_in_ready;" in text


def test_a_patch_replaces_its_text_once() -> None:
    patch = Patch("fifo.sv", "old text", "new text", "of a test")
    assert apply_patches("fifo.sv", "a old text b", [patch]) == "a new text b"
    assert apply_patches("other.sv", "a old text b", [patch]) == "a old text b"


@pytest.mark.parametrize("text", ["nothing here", "old text and old text"])
def test_a_patch_that_does_not_apply_stops_the_build(text: str) -> None:
    patch = Patch("fifo.sv", "old text", "new text", "a test needs it")
    expected = (
        rf"^fifo.sv of FINN's RTL library holds 'old text' {text.count('old text')} times, expected once. It is "
        r"patched because a test needs it. Install finn-plus==1.6.1, or adapt hw/finn/patches.py$"
    )
    with pytest.raises(StageError, match=expected):
        apply_patches("fifo.sv", text, [patch])


def test_every_patch_has_a_reason() -> None:
    assert all(patch.reason and patch.old != patch.new for patch in PATCHES)


def test_every_weight_has_a_place_of_its_own() -> None:
    fields = [weight_field(MVAU, row, column) for row in range(6) for column in range(8)]
    assert len({(field.word, field.bit) for field in fields}) == 48
    assert {field.word for field in fields} == set(range(8))
    assert {field.bit for field in fields} == {0, 2, 4, 6, 8, 10}
    assert (weight_field(MVAU, 4, 5).word, weight_field(MVAU, 4, 5).bit) == (1 * 4 + 2, (1 * 2 + 1) * 2)


def test_thresholds_lie_in_the_order_of_a_binary_search() -> None:
    places = [(field.file[-5], field.word) for field in (threshold_field(THRESHOLDS, 2, i) for i in range(7))]
    assert places == [("2", 8), ("1", 4), ("2", 9), ("0", 2), ("2", 10), ("1", 5), ("2", 11)]


def test_a_weight_or_threshold_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"^mvau has no weight \[6, 0\]; its shape is \(6, 8\)$"):
        weight_field(MVAU, 6, 0)
    with pytest.raises(InputError, match=r"^thresholds has no threshold \[0, 7\]; its shape is \(6, 7\)$"):
        threshold_field(THRESHOLDS, 0, 7)


def test_flipping_a_bit_changes_one_integer(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "mvau_memblock.dat"
    file.write_text("\n".join(["0fff"] * 8) + "\n")
    field = weight_field(MVAU, 4, 5)
    assert field.flip_lowest_bit(tmp_path) == (-1, -2)
    assert file.read_text().split() == ["0fff"] * 6 + ["0fbf"] + ["0fff"]
    assert field.flip_lowest_bit(tmp_path) == (-2, -1)


def test_a_folder_without_rtl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not hold stitched RTL"):
        read_description(tmp_path)
    (tmp_path / "rtl.json").write_text('{"part": 3}')
    with pytest.raises(InputError, match="does not hold stitched RTL"):
        read_description(tmp_path)


@pytest.mark.parametrize("depth", [1, 0, -3, 1 << 16])
def test_a_fifo_depth_out_of_range_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=rf"^fifo_depth = {depth} is not possible; allowed: 2..32768 words$"):
        StitchRtl(fifo_depth=depth)


def test_descriptions_survive_json() -> None:
    description = described(*CHAIN, files=("a",), DSP=1)
    assert RtlDescription.model_validate_json(description.model_dump_json()) == description
    assert (description.input, description.output) == (FIFO.input, THRESHOLDS.output)
    np.testing.assert_equal(description.output.channels, 6)


def test_memories_are_laid_out_as_they_are_drawn() -> None:
    """The two drawings of :mod:`bitproof.hw.finn.memory`."""
    codes = stream(8, 1, 1)
    matrix = make_node("mvau", "MVAU_rtl", codes, codes, MH=4, MW=6, PE=2, SIMD=3, weight_bits=2)
    places = [(row, column) for row in (0, 1) for column in range(3)]
    assert [(weight_field(matrix, *place).word, weight_field(matrix, *place).bit) for place in places] == [
        (0, 0),
        (0, 2),
        (0, 4),
        (0, 6),
        (0, 8),
        (0, 10),
    ]
    assert [weight_field(matrix, row, column).word for row, column in ((0, 3), (1, 5), (2, 0), (3, 5))] == [1, 1, 2, 3]
    search = make_node("search", "Thresholding_rtl", codes, codes, channels=1, levels=7, PE=1, threshold_bits=4)
    fields = [threshold_field(search, 0, index) for index in range(7)]
    assert [field.file[-5] for field in fields] == list("2120212")
    assert [field.word for field in fields] == [0, 0, 1, 0, 2, 1, 3]


def test_the_page_has_the_table_of_modules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "finn.md").read_text()
    rows = [f"| `{op}` | {provider.origin} | {provider.why} |" for op, provider in PROVIDERS.items()]
    assert "\n".join(rows) in page
