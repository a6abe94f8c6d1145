"""The table of hardware modules: which one serves a node, whose it is, and why.

FINN's RTL library is used where it has a module; where it has HLS only, the module is ours and lies in
:mod:`bitproof.hw.rtl.modules`. All have FINN's AXI-Streams, so that each can be replaced alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Op = Literal[
    "MVAU_rtl",
    "Thresholding_rtl",
    "ConvolutionInputGenerator_rtl",
    "FMPadding_rtl",
    "WindowReducer",
    "StreamingDataWidthConverter_rtl",
    "StreamingFIFO_rtl",
]

MATRIX_UNIT: Literal["MVAU_rtl"] = "MVAU_rtl"
THRESHOLDING: Literal["Thresholding_rtl"] = "Thresholding_rtl"
WINDOWS: Literal["ConvolutionInputGenerator_rtl"] = "ConvolutionInputGenerator_rtl"
PADDING: Literal["FMPadding_rtl"] = "FMPadding_rtl"
WINDOW_REDUCER: Literal["WindowReducer"] = "WindowReducer"
WIDTH_CONVERTER: Literal["StreamingDataWidthConverter_rtl"] = "StreamingDataWidthConverter_rtl"
FIFO: Literal["StreamingFIFO_rtl"] = "StreamingFIFO_rtl"

AXI_LITE = ("AWVALID", "AWADDR", "WVALID", "WDATA", "WSTRB", "BREADY", "ARVALID", "ARADDR", "RREADY")
"""Inputs of the configuration bus, which stays unused: weights, thresholds and sizes are fixed."""
_UNUSED_BUS = tuple((f"s_axilite_{port}", "'0") for port in AXI_LITE)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves an operation.

    Attributes:
        origin: whose module it is.
        why: the reason for the choice.
        ties: ports beside clock, reset and streams, with the expression that each is connected to.
    """

    origin: Literal["FINN", "bitproof"]
    why: str
    ties: tuple[tuple[str, str], ...] = ()


PROVIDERS: Mapping[Op, Provider] = {
    MATRIX_UNIT: Provider("FINN", "packs several narrow products into one DSP slice"),
    THRESHOLDING: Provider(
        "FINN",
        "a binary search over thresholds of each channel, one stage of the pipeline for each bit of the code",
        (*_UNUSED_BUS, ("in1_V_TVALID", "'0"), ("in1_V_TDATA", "'0"), ("in1_V_TREADY", "")),
    ),
    WINDOWS: Provider("FINN", "any kernel, stride and dilation, with a buffer of the rows that a window needs"),
    PADDING: Provider("FINN", "puts the code 0 around an image; no other code is asked for", _UNUSED_BUS),
    WINDOW_REDUCER: Provider("bitproof", "FINN has pools in HLS only"),
    WIDTH_CONVERTER: Provider("FINN", "any two widths"),
    FIFO: Provider(
        "FINN", "shift registers, distributed or block memory by its depth", (("count", ""), ("maxcount", ""))
    ),
}
