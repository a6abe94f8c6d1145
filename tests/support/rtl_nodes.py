"""A small chain of RTL nodes, described as those of a design."""

from __future__ import annotations

from bitproof.hw.rtl.description import RtlDescription, RtlNode, RtlPort
from bitproof.hw.rtl.providers import Op
from bitproof.hw.rtl.stream import StreamLayout


def stream(bits: int, elements: int, words: int, *, signed: bool = False) -> StreamLayout:
    return StreamLayout(bits=bits, signed=signed, elements=elements, words=words)


def make_node(
    name: str,
    op: Op,
    source: StreamLayout,
    target: StreamLayout,
    *,
    ends: tuple[str, str] = ("s0", "s1"),
    **parameters: int,
) -> RtlNode:
    inputs = (RtlPort(port="in0_V", stream=ends[0], layout=source),)
    outputs = (RtlPort(port="out0_V", stream=ends[1], layout=target),)
    return RtlNode(name=name, op=op, module=f"{name}_module", inputs=inputs, outputs=outputs, parameters=parameters)


def described(*nodes: RtlNode, files: tuple[str, ...] = (), **estimates: int) -> RtlDescription:
    ends = {"input_stream": nodes[0].inputs[0].stream, "output_stream": nodes[-1].outputs[0].stream}
    shapes = {"input_shape": (8,), "output_shape": (6,), "slowest_node": "mvau", "slowest_cycles": 8}
    return RtlDescription.model_validate(
        {
            "part": "p",
            "clock_ns": 10,
            "fifo_depth": 2,
            "files": files,
            "nodes": nodes,
            "estimates": estimates,
            **ends,
            **shapes,
        }
    )


FIFO = make_node("fifo", "StreamingFIFO_rtl", stream(8, 2, 4), stream(8, 2, 4), ends=("host_in", "codes"), depth=2)
MVAU = make_node(
    "mvau",
    "MVAU_rtl",
    stream(8, 2, 4),
    stream(12, 3, 2, signed=True),
    ends=("codes", "sums"),
    MW=8,
    MH=6,
    PE=3,
    SIMD=2,
    weight_bits=2,
)
WIDTHS = make_node(
    "widths",
    "StreamingDataWidthConverter_rtl",
    stream(12, 3, 2, signed=True),
    stream(12, 1, 6, signed=True),
    ends=("sums", "narrow"),
)
THRESHOLDS = make_node(
    "thresholds",
    "Thresholding_rtl",
    stream(12, 1, 6, signed=True),
    stream(3, 1, 6),
    ends=("narrow", "host_out"),
    channels=6,
    levels=7,
    PE=1,
    threshold_bits=13,
)
CHAIN = (FIFO, MVAU, WIDTHS, THRESHOLDS)


def relinked(node: RtlNode, source: str, target: str) -> RtlNode:
    """Return *node* between two other streams."""
    (taken,), (given,) = node.inputs, node.outputs
    return node.model_copy(
        update={
            "inputs": (taken.model_copy(update={"stream": source}),),
            "outputs": (given.model_copy(update={"stream": target}),),
        }
    )
