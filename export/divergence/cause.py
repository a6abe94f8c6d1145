"""The causes that can be told apart, and what is known of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """Why a layer of another executor gives other codes than the integer model."""

    TIE_ROUNDING = "tie rounding"
    """Every accumulator at fault lies exactly on a boundary of the quantizer, and the other side was taken."""
    SATURATION = "saturation"
    """Codes or accumulators beyond the end of a type: clipped, wrapped or kept if the model does otherwise."""
    ACCUMULATOR_WRAP = "accumulator wrap"
    """Accumulators are the model's modulo a power of two."""
    WRONG_WEIGHT = "wrong weight"
    """The same inputs give accumulators that another weight, factor or bias explains."""
    WRONG_THRESHOLD = "wrong threshold"
    """The same accumulators give codes that other thresholds explain."""
    WRONG_LAYOUT = "wrong layout"
    """The codes are the model's, in another place."""
    FLOAT_ORDER = "float order"
    """Every accumulator at fault lies within the float32 error of a boundary."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause.

    Attributes:
        cause: which.
        detail: what exactly, in one sentence.
        facts: the same in numbers, as plain JSON values.
    """

    cause: Cause
    detail: str
    facts: dict[str, object] = field(default_factory=dict)
