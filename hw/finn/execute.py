"""The execution of integer codes by FINN's hardware layers, with FINN's own Python execution, all samples at once.

Runs in the child process only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp

from bitproof.pipeline import StageError

SAMPLES_AT_ONCE = 2500
"""Bounds the memory that the comparisons with all thresholds take."""


def execute_graph(graph: Path, inputs: Path, outputs: Path) -> None:
    """Run the codes in the file *inputs*, shape (N, inputs), through *graph*; write the output codes to *outputs*.

    Raises:
        StageError: an output is not an integer.
    """
    codes = np.load(inputs, allow_pickle=False)
    pieces = []
    for start in range(0, len(codes), SAMPLES_AT_ONCE):
        piece = codes[start : start + SAMPLES_AT_ONCE]
        wrapper = ModelWrapper(str(graph))
        _widen(wrapper, len(piece))
        source, target = wrapper.graph.input[0].name, wrapper.graph.output[0].name
        values = execute_onnx(wrapper, {source: piece.astype(np.float32)})[target]
        integers = values.astype(np.int64)
        if (integers != values).any():
            raise StageError(f"FINN's execution of {graph.name} returned values that are not integers")
        pieces.append(integers)
    np.save(outputs, np.concatenate(pieces), allow_pickle=False)


def _widen(wrapper: ModelWrapper, samples: int) -> None:
    """Let every layer take *samples* input vectors instead of one."""
    for node in wrapper.graph.node:
        getCustomOp(node).set_nodeattr("numInputVectors", [samples])
        for tensor in (node.input[0], node.output[0]):
            wrapper.set_tensor_shape(tensor, [samples, wrapper.get_tensor_shape(tensor)[-1]])
