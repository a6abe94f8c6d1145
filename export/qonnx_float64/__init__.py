"""The QONNX file a second time, in binary64 and on codes: an evaluation whose arithmetic is not the lowering's.

binary32 cannot decide networks of free scales, since their sums depend on the order of summation. Here a quantized
tensor stays what it is, codes and a scale, until an operation needs its real numbers: sums of codes are exact whatever
the order, and the few roundings behind them are those of binary64. Weights are quantized in binary32 as in the
training, and an integer bias is added to the codes, as the definition has it (docs/integer-model.md).

Nodes are evaluated one by one, by qonnx's functions for its own operations and by ONNX's reference for the others.
"""

from bitproof.export.qonnx_float64.evaluate import evaluate
from bitproof.export.qonnx_float64.executor import QonnxFloat64Executor

__all__ = ["QonnxFloat64Executor", "evaluate"]
