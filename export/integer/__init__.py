"""The integer model: intermediate representation, operations, interpreter, ranges, thresholds, requantization."""

from export.integer.interpret import require_codes, run, trace
from export.integer.ir import INPUT, Coding, IntegerModel
from export.integer.ops import (
    Add,
    Affine,
    Concat,
    Conv,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
)
from export.integer.ranges import accumulator_type, propagate
from export.integer.requantize import MultiplyShift, apply_multiply_shift, solve_multiply_shift
from export.integer.store import KIND, load, save
from export.integer.supported import require_operations
from export.integer.thresholds import Activation, threshold_of
from export.integer.types import IntegerType, Interval, Ranges, Shape, hull

__all__ = [
    "INPUT",
    "KIND",
    "Activation",
    "Add",
    "Affine",
    "Coding",
    "Concat",
    "Conv",
    "IntegerModel",
    "IntegerType",
    "Interval",
    "MatMul",
    "MaxPool",
    "MultiplyShift",
    "Node",
    "Pad",
    "Ranges",
    "Reshape",
    "Shape",
    "SumPool",
    "Threshold",
    "TopK",
    "Transpose",
    "Window",
    "accumulator_type",
    "apply_multiply_shift",
    "hull",
    "load",
    "propagate",
    "require_codes",
    "require_operations",
    "run",
    "save",
    "solve_multiply_shift",
    "threshold_of",
    "trace",
]
