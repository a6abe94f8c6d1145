"""The layer that makes one code of each window of each channel, for FINN: it has one in HLS only.

It takes what FINN's window generator gives channel by channel: for each window and each group of PE channels the taps,
one word each. Its RTL is our own, :class:`bitproof.hw.rtl.modules.WindowReducer`. Runs in the child process only.
"""

from __future__ import annotations

from math import prod

import numpy as np
from finn.custom_op.fpgadataflow.pool import Pool
from numpy.typing import NDArray
from onnx import GraphProto
from qonnx.custom_op.registry import add_op_to_domain

DOMAIN = "bitproof.hardware"
"""Of the operations that are ours; QONNX asks its registry for them."""


class WindowReducer(Pool):  # type: ignore[misc]  # finn ships no types
    """FINN's pool, with its streams, cycles and types, executed on the words as they arrive."""

    def execute_node(self, context: dict[str, NDArray[np.float32]], graph: GraphProto) -> None:  # noqa: ARG002
        """Write the largest code, or the sum, of each window into *context*."""
        given, made = context[self.onnx_node.input[0]], self.onnx_node.output[0]
        taps, lanes = prod(self.get_nodeattr("KernelSize")), self.get_nodeattr("PE")
        words = given.reshape(*given.shape[:-1], -1, taps, lanes)
        reduce = np.max if self.get_nodeattr("Function") == "MaxPool" else np.sum
        context[made] = reduce(words, axis=-2).reshape(context[made].shape)

    def lut_estimation(self, fpgapart: str) -> int:  # noqa: ARG002
        """Return a comparator or adder and two registers for each lane, and the count of taps."""
        lanes, bits = self.get_nodeattr("PE"), self.get_output_datatype().bitwidth()
        return int(3 * lanes * bits + 16)


add_op_to_domain(DOMAIN, WindowReducer)
