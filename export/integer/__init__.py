"""The integer model: intermediate representation, operations, interpreter, ranges, thresholds, requantization."""

from export.integer.activation import (
    Activation,
    Bipolar,
    Chain,
    Quantization,
    Quantizer,
    Rounding,
    Truncation,
    thresholds_of,
)
from export.integer.classes import classify
from export.integer.flip import ChosenWeight, choose_weight, flip_weight_bit
from export.integer.interpret import require_codes, run, trace
from export.integer.ir import INPUT, Coding, Head, IntegerModel
from export.integer.moves import without_moves
from export.integer.operations import operations_of, operations_of_node
from export.integer.ops import (
    Add,
    Affine,
    Concat,
    Conv,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Product,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
)
from export.integer.ranges import accumulator_type, propagate
from export.integer.requantize import MultiplyShift, apply_multiply_shift, solve_multiply_shift
from export.integer.store import DAMAGED, KIND, load, rational, save
from export.integer.supported import require_operations
from export.integer.types import EXACT_FLOAT32, EXACT_FLOAT64, IntegerType, Interval, Ranges, Shape, hull

__all__ = [
    "DAMAGED",
    "EXACT_FLOAT32",
    "EXACT_FLOAT64",
    "INPUT",
    "KIND",
    "Activation",
    "Add",
    "Affine",
    "Bipolar",
    "Chain",
    "ChosenWeight",
    "Coding",
    "Concat",
    "Conv",
    "Head",
    "IntegerModel",
    "IntegerType",
    "Interval",
    "MatMul",
    "MaxPool",
    "MultiplyShift",
    "Node",
    "Pad",
    "Product",
    "Quantization",
    "Quantizer",
    "Ranges",
    "Reshape",
    "Rounding",
    "Shape",
    "SumPool",
    "Threshold",
    "TopK",
    "Transpose",
    "Truncation",
    "Window",
    "accumulator_type",
    "apply_multiply_shift",
    "choose_weight",
    "classify",
    "flip_weight_bit",
    "hull",
    "load",
    "operations_of",
    "operations_of_node",
    "propagate",
    "rational",
    "require_codes",
    "require_operations",
    "run",
    "save",
    "solve_multiply_shift",
    "thresholds_of",
    "trace",
    "without_moves",
]
