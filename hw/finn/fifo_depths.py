"""The depths of the FIFOs with which the slowest layer alone decides the throughput: computed from schedules.

Runs in the child process only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from onnx import NodeProto
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp

from bitproof.export.integer import Window
from bitproof.hw.finn.own_layers import OwnLayer
from bitproof.hw.rtl.joint_schedules import AnySchedule, Joint
from bitproof.hw.rtl.providers import MATRIX_UNIT, PADDING, THRESHOLDING, WINDOWS
from bitproof.hw.rtl.schedules import Matrix, Regular, Times, occupancy, padded, shifting, sliding
from bitproof.pipeline import StageError

SAMPLES = 4
"""Sent one after the other: the first ones find an empty design, the last ones a busy one."""
FIFO_CYCLES = 2
"""That a word takes through a FIFO."""
LATENCY_WORDS = 4
"""Words more than the schedules ask for: they know the stages of pipelines by a cycle or two."""
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
    """Let FINN insert FIFOs of *least* words into *graph*, or more where the throughput would fall otherwise.

    Returns:
        What the throughput is then decided by.

    Raises:
        StageError: a FIFO would have more words than FINN's can.
    """
    nodes = list(graph.graph.node)
    schedules = {node.name: schedule_of(node, getCustomOp(node)) for node in nodes}
    periods = {name: schedule.period for name, schedule in schedules.items()}
    slowest = max(periods, key=lambda name: periods[name])
    for node in nodes:
        inst = getCustomOp(node)
        inst.set_nodeattr("outFIFODepths", [least] * len(node.output))
        inst.set_nodeattr("inFIFODepths", [least] * len(node.input))
    for (name, index), depth in depths(graph, schedules, periods[slowest]).items():
        consumer = next(node for node in nodes if node.name == name)
        if depth > MOST_WORDS:
            before = graph.find_producer(consumer.input[index])
            raise StageError(
                f"the FIFO between {before.name} and {name} needs {depth} words for the throughput; {MOST_WORDS} is "
                "the most. Ask for another frame rate, with which the layers fold otherwise"
            )
        inst = getCustomOp(consumer)
        found = list(inst.get_nodeattr("inFIFODepths"))
        found[index] = max(least, depth)
        inst.set_nodeattr("inFIFODepths", found)
    return Slowest(slowest, periods[slowest])


def depths(graph: ModelWrapper, schedules: Mapping[str, AnySchedule], period: int) -> dict[tuple[str, int], int]:
    """Return how many words the FIFO before each input of each node has to hold for a sample in *period*.

    The words of the input come evenly: those that the host sends earlier wait before the first node. In a FIFO that
    ends in a join lie the words of the shorter branch while the longer one works; that the design cannot lock up with
    FIFOs that hold them does not depend on any pauses: which words a module takes and gives never depends on time, so
    pauses only make the words of the computed schedule later (Kahn, *The semantics of a simple language for parallel
    programming*, 1974).
    """
    (source,) = (value.name for value in graph.graph.input)
    given: dict[str, Times] = {}
    found: dict[tuple[str, int], int] = {}
    for node in graph.graph.node:
        schedule, inst = schedules[node.name], getCustomOp(node)
        if source in node.input:
            words = schedule.words
            assert isinstance(words, int), "a join does not take the input itself: a fork is between"
            given[source] = np.arange(SAMPLES * words, dtype=np.int64) * period // words - 1
        streams = [tensor for tensor in node.input if tensor in given]
        there = [given[tensor] + 1 + FIFO_CYCLES for tensor in streams]
        if isinstance(schedule, Joint):
            taken: tuple[Times, ...]
            taken, made = schedule.run(*there)
        else:
            once, made = schedule.run(*there)
            taken = (once,)
        for index, (tensor, times) in enumerate(zip(streams, taken, strict=True)):
            if tensor != source:
                found[node.name, index] = occupancy(given[tensor], times) + LATENCY_WORDS
        for tensor in node.output:
            given[tensor] = made + latency_cycles(node, inst)
    return found


def latency_cycles(node: NodeProto, inst: HWCustomOp) -> int:
    """Return the cycles that a word is in a node beyond what its schedule counts: stages of its pipeline."""
    if isinstance(inst, OwnLayer):
        return inst.latency_cycles
    if node.op_type == MATRIX_UNIT:
        return 5 + int(inst.get_nodeattr("SIMD")).bit_length()
    if node.op_type == THRESHOLDING:
        return 2 + 2 * int(inst.get_output_datatype().bitwidth())
    return 2


def schedule_of(node: NodeProto, inst: HWCustomOp) -> AnySchedule:
    """Return the schedule of an RTL layer."""
    if isinstance(inst, OwnLayer):
        return inst.schedule()
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
