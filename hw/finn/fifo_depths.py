"""The depths of the FIFOs with which the slowest layer alone decides the throughput: computed from schedules.

Runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitproof.export.integer import Window
from bitproof.hw.rtl.providers import MATRIX_UNIT, PADDING, WINDOWS
from bitproof.hw.rtl.schedules import Matrix, Regular, Schedule, Times, occupancy, padded, shifting, sliding
from bitproof.pipeline import StageError

SAMPLES = 4
"""Sent one after the other: the first ones find an empty design, the last ones a busy one."""
LATENCY_WORDS = 4
"""Words more than the schedules ask for: they leave out the cycles that a word takes through a FIFO."""
MOST_WORDS = 1 << 15
"""Of FINN's FIFOs."""


@dataclass(frozen=True, slots=True)
class Slowest:
    """The layer that decides the throughput.

    Attributes:
        node: its name.
        cycles: from sample to sample.
    """

    node: str
    cycles: int


def set_fifo_depths(graph: ModelWrapper, least: int) -> Slowest:
    """Let FINN insert FIFOs of *least* words into the chain *graph*, or more where the throughput would fall otherwise.

    Returns:
        What the throughput is then decided by.

    Raises:
        StageError: a FIFO would have more words than FINN's can.
    """
    nodes = list(graph.graph.node)
    schedules = [schedule_of(node, getCustomOp(node)) for node in nodes]
    periods = [schedule.period for schedule in schedules]
    slowest = max(periods)
    for node in nodes:
        inst = getCustomOp(node)
        inst.set_nodeattr("outFIFODepths", [least])
        inst.set_nodeattr("inFIFODepths", [least] * len(inst.get_nodeattr("inFIFODepths")))
    for (node, behind), depth in zip(pairwise(nodes), depths(schedules, slowest), strict=True):
        if depth > MOST_WORDS:
            raise StageError(
                f"the FIFO between {node.name} and {behind.name} needs {depth} words for the throughput; {MOST_WORDS} "
                "is the most. Ask for another frame rate, with which the layers fold otherwise"
            )
        getCustomOp(node).set_nodeattr("outFIFODepths", [max(least, depth)])
    return Slowest(nodes[periods.index(slowest)].name, slowest)


def depths(schedules: Sequence[Schedule], period: int) -> list[int]:
    """Return how many words the FIFO behind each node of a chain but the last has to hold for a sample in *period*.

    The words of the input come evenly: those that the host sends earlier wait before the first node.
    """
    words = schedules[0].words
    there: Times = np.arange(SAMPLES * words, dtype=np.int64) * period // words
    found = []
    given = None
    for schedule in schedules:
        taken, made = schedule.run(there)
        if given is not None:
            found.append(occupancy(given, taken) + LATENCY_WORDS)
        given, there = made, made + 1
    return found


def schedule_of(node: NodeProto, inst: HWCustomOp) -> Schedule:
    """Return the schedule of an RTL layer."""
    taken, given = (
        prod(map(int, shape[:-1])) for shape in (inst.get_folded_input_shape(), inst.get_folded_output_shape())
    )
    if node.op_type == MATRIX_UNIT:
        columns, rows, simd, pe = (int(inst.get_nodeattr(name)) for name in ("MW", "MH", "SIMD", "PE"))
        return Matrix(taken * simd // columns, columns // simd, rows // pe)
    if node.op_type == PADDING:
        top, left, bottom, right = inst.get_nodeattr("Padding")
        fold = int(inst.get_nodeattr("NumChannels")) // int(inst.get_nodeattr("SIMD"))
        return padded(tuple(inst.get_nodeattr("ImgDim")), (top, left), (bottom, right), fold)
    if node.op_type == WINDOWS:
        fold = int(inst.get_nodeattr("IFMChannels")) // int(inst.get_nodeattr("SIMD"))
        image = tuple(map(int, inst.get_nodeattr("IFMDim")))
        kernel, strides, dilations = (
            tuple(map(int, inst.get_nodeattr(name))) for name in ("ConvKernelDim", "Stride", "Dilation")
        )
        lie = Window(kernel, strides, (0, 0), (0, 0), dilations)
        if inst.select_impl_style() == "parallel":
            return shifting(image, lie, fold)
        memory = int(inst.get_buffer_depth())
        return sliding(image, lie, fold, by_channel=bool(inst.get_nodeattr("depthwise")), memory=memory)
    return Regular(taken, given)
