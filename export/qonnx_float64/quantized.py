"""A tensor that stays codes and a scale, and the operations that make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Real numbers ``codes * scale``.

    Attributes:
        codes: whole numbers, binary64; sums of them are exact up to 2^53.
        scale: one number, or one per channel, along the axis on which it broadcasts to *codes*.
    """

    codes: Reals
    scale: Reals

    @property
    def reals(self) -> Reals:
        """The real numbers, each rounded once."""
        product: Reals = self.codes * self.scale
        return product

    @property
    def uniform(self) -> bool:
        """All codes have one scale."""
        return self.scale.size == 1


Value = Quantized | NDArray[Any]


def reals_of(value: Value) -> NDArray[Any]:
    """Return the real numbers of *value*, binary64; integers stay as they are."""
    array = value.reals if isinstance(value, Quantized) else value
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _quant(given: Attributes, arguments: list[Value | None], kind: type[Any]) -> Quantized:
    from qonnx.custom_op.general.intquant import int_quant

    values, scale, zero, bits = (np.asarray(reals_of(a), dtype=kind) for a in arguments if a is not None)
    mode = given.get("rounding_mode", b"ROUND").decode()
    made = int_quant(values, scale, zero, bits, bool(given.get("signed", 1)), bool(given.get("narrow", 0)), mode)
    step = scale.astype(np.float64)
    return Quantized(np.rint(np.asarray(made, dtype=np.float64) / step), step)


def _bipolar_quant(_given: Attributes, arguments: list[Value | None], _kind: type[Any]) -> Quantized:
    values, scale = (reals_of(a) for a in arguments if a is not None)
    return Quantized(np.where(values >= 0, 1.0, -1.0), scale)


def _dequantize_linear(given: Attributes, arguments: list[Value | None], _kind: type[Any]) -> Quantized:
    codes, scale, *zero = (reals_of(argument) for argument in arguments if argument is not None)
    shape = _along(given, codes.ndim, scale.size)
    zeros = zero[0].astype(np.float64).reshape(shape) if zero else 0.0
    return Quantized(codes.astype(np.float64) - zeros, scale.reshape(shape))


def quantize_linear(given: Attributes, arguments: list[Value | None], kind: type[Any]) -> NDArray[Any]:
    """Return the integers of QuantizeLinear, in the type of its zero point: half to even, saturated."""
    values, scale, *zero = (reals_of(argument) for argument in arguments if argument is not None)
    shape = _along(given, values.ndim, scale.size)
    zeros = zero[0].reshape(shape) if zero else np.zeros((), dtype=np.uint8)
    limits = np.iinfo(zeros.dtype)
    quotients = values.astype(kind) / scale.astype(kind).reshape(shape)
    integers: NDArray[Any] = np.clip(np.rint(quotients) + zeros, limits.min, limits.max).astype(zeros.dtype)
    return integers


def _along(given: Attributes, axes: int, size: int) -> tuple[int, ...]:
    """Return the shape in which *size* scales follow the axis of a node."""
    axis = int(given.get("axis", 1)) % max(axes, 1)
    return tuple(-1 if index == axis else 1 for index in range(axes)) if size > 1 else ()


QUANTIZERS: Mapping[str, Callable[[Attributes, list[Value | None], type[Any]], Quantized]] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar_quant,
    "DequantizeLinear": _dequantize_linear,
}
