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
    "DepthwiseUnit",
    "MatrixUnit",
    "MultiplyShift",
    "RoundingShift",
    "ImagePadding",
    "StreamDuplicate",
    "StreamAdd",
    "StreamScaledAdd",
    "StreamAffine",
    "StreamConcat",
    "SelectLargest",
    "StreamingDataWidthConverter_rtl",
    "StreamingFIFO_rtl",
]

MATRIX_UNIT: Literal["MVAU_rtl"] = "MVAU_rtl"
THRESHOLDING: Literal["Thresholding_rtl"] = "Thresholding_rtl"
WINDOWS: Literal["ConvolutionInputGenerator_rtl"] = "ConvolutionInputGenerator_rtl"
PADDING: Literal["FMPadding_rtl"] = "FMPadding_rtl"
WINDOW_REDUCER: Literal["WindowReducer"] = "WindowReducer"
DEPTHWISE_UNIT: Literal["DepthwiseUnit"] = "DepthwiseUnit"
LOGIC_MATRIX_UNIT: Literal["MatrixUnit"] = "MatrixUnit"
MULTIPLY_SHIFT: Literal["MultiplyShift"] = "MultiplyShift"
ROUNDING_SHIFT: Literal["RoundingShift"] = "RoundingShift"
IMAGE_PADDING: Literal["ImagePadding"] = "ImagePadding"
DUPLICATE: Literal["StreamDuplicate"] = "StreamDuplicate"
ADD: Literal["StreamAdd"] = "StreamAdd"
SCALED_ADD: Literal["StreamScaledAdd"] = "StreamScaledAdd"
AFFINE: Literal["StreamAffine"] = "StreamAffine"
CONCAT: Literal["StreamConcat"] = "StreamConcat"
SELECT_LARGEST: Literal["SelectLargest"] = "SelectLargest"
WIDTH_CONVERTER: Literal["StreamingDataWidthConverter_rtl"] = "StreamingDataWidthConverter_rtl"
FIFO: Literal["StreamingFIFO_rtl"] = "StreamingFIFO_rtl"

PRODUCTS: tuple[Op, ...] = (MATRIX_UNIT, LOGIC_MATRIX_UNIT, DEPTHWISE_UNIT)
"""Operations with weights; the benches run each of them alone."""
REQUANTIZERS: tuple[Op, ...] = (THRESHOLDING, MULTIPLY_SHIFT, ROUNDING_SHIFT)
"""Operations that give the codes of an activation; likewise."""

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
    DEPTHWISE_UNIT: Provider("bitproof", "FINN's RTL for depthwise convolutions (VVAU) needs the DSP58 of Versal"),
    LOGIC_MATRIX_UNIT: Provider(
        "bitproof",
        "codes of 1 bit or of more than 8, bipolar codes, weights that use the most negative code: FINN's RTL refuses",
    ),
    MULTIPLY_SHIFT: Provider(
        "bitproof", "two constants of a channel, proven equal, where `Thresholding` would store 255 thresholds"
    ),
    ROUNDING_SHIFT: Provider("bitproof", "the same if the factor is a power of two, ties to the even code included"),
    IMAGE_PADDING: Provider("bitproof", "a frame of another code than 0, as a maximum of signed codes needs it"),
    DUPLICATE: Provider("bitproof", "FINN has HLS only"),
    ADD: Provider("bitproof", "FINN has HLS only"),
    SCALED_ADD: Provider("bitproof", "a sum of branches with factors and offsets; FINN has HLS only"),
    AFFINE: Provider("bitproof", "a factor and an offset for each channel; FINN has HLS only"),
    CONCAT: Provider("bitproof", "FINN has HLS only"),
    SELECT_LARGEST: Provider("bitproof", "the indices of the largest codes; FINN has HLS only"),
    WIDTH_CONVERTER: Provider("FINN", "any two widths"),
    FIFO: Provider(
        "FINN", "shift registers, distributed or block memory by its depth", (("count", ""), ("maxcount", ""))
    ),
}
