"""The differences of a network's float evaluation from the integers: explained by its rounding errors, or not."""

from bitproof.export.float_reference.codings import output_coding, reference_codings
from bitproof.export.float_reference.judge import judge_reference, walk_reference
from bitproof.export.float_reference.walk import Walk, values_beside, walk

__all__ = [
    "Walk",
    "judge_reference",
    "output_coding",
    "reference_codings",
    "values_beside",
    "walk",
    "walk_reference",
]
