"""The integer model: intermediate representation, interpreter, ranges, thresholds, requantization."""

from export.integer.interpret import apply, run, trace
from export.integer.ir import Bias, IntegerModel, IntegerType, MatMul, Node, Threshold
from export.integer.ranges import (
    Interval,
    accumulator_type,
    hull,
    matmul_ranges,
    propagate,
    threshold_ranges,
)
from export.integer.requantize import MultiplyShift, apply_multiply_shift, solve_multiply_shift
from export.integer.store import KIND, load, save
from export.integer.thresholds import Activation, threshold_of

__all__ = [
    "KIND",
    "Activation",
    "Bias",
    "IntegerModel",
    "IntegerType",
    "Interval",
    "MatMul",
    "MultiplyShift",
    "Node",
    "Threshold",
    "accumulator_type",
    "apply",
    "apply_multiply_shift",
    "hull",
    "load",
    "matmul_ranges",
    "propagate",
    "run",
    "save",
    "solve_multiply_shift",
    "threshold_of",
    "threshold_ranges",
    "trace",
]
