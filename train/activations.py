"""The activations of a network, in the order in which it runs them, with the integers that each of them rounds.

The network is run once, on zeros, and its layers are watched: what a layer takes is known by the layer that made it. An
activation whose input comes from anything else than a product of codes, perhaps normalized, the sum of a shortcut, a
mean over height and width, or codes, is left out, so any user's network may be asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitproof.pipeline.float_error import sums_exactly
from bitproof.train.frozen import ACTIVATIONS, NORMS, PASSED_THROUGH, WEIGHTED, Grid
from bitproof.train.models.parts import Residual

Reals = NDArray[np.float64]

WATCHED = (*WEIGHTED, *NORMS, *ACTIVATIONS, *PASSED_THROUGH, Residual)
UNCHANGED = (nn.Dropout, nn.Dropout2d, nn.Identity)
"""Layers that do nothing in evaluation mode."""
CARRIED = (*UNCHANGED, nn.Flatten, nn.MaxPool1d, nn.MaxPool2d, nn.Unflatten, nn.ZeroPad2d)
"""Layers behind which codes are still codes of the same quantizer."""


@dataclass(frozen=True, slots=True)
class QuantizerCodes:
    """The codes of a quantizer: integers from *low* to *high*, each worth *scale*; *bipolar*: -1 and 1 alone."""

    scale: float
    low: int
    high: int
    bipolar: bool

    @classmethod
    def of(cls, quantizer: nn.Module) -> QuantizerCodes | None:
        """Return the codes of an activation *quantizer*, or None if it has a scale per channel or an unknown form."""
        try:
            grid = Grid.of(quantizer.act_quant.fused_activation_quant_proxy.tensor_quant)
        except (TypeError, AttributeError):
            return None
        scale = quantizer.act_quant.scale().detach()
        if scale.numel() != 1:
            return None
        if grid.low is None or grid.high is None:
            return cls(float(scale), -1, 1, bipolar=True)
        return cls(float(scale), int(grid.low), int(grid.high), bipolar=False)

    @property
    def magnitude(self) -> int:
        """Largest magnitude of a code."""
        return max(-self.low, self.high)

    @property
    def boundaries(self) -> Reals:
        """The reals at which the code changes, ascending."""
        if self.bipolar:
            return np.zeros(1)
        codes = np.arange(self.low + 1, self.high + 1, dtype=np.float64)
        boundaries: Reals = (codes - 0.5) * self.scale
        return boundaries


@dataclass(frozen=True, slots=True, eq=False)
class Accumulators:
    """The integers that an activation takes, one entry per channel.

    Attributes:
        scales: real value of one unit; exact, a product of two float32 numbers.
        lows: least accumulator, from the codes' types.
        highs: largest.
        magnitudes: a bound on the sum of the magnitudes of the terms.
        terms: how many terms a sum has.
        sizes: shape of one channel of what comes in front of the activation: (), (1, 1), or (height, width) of a mean.
    """

    scales: list[float]
    lows: list[int]
    highs: list[int]
    magnitudes: list[int]
    terms: int
    sizes: tuple[int, ...]

    @classmethod
    def of_codes(
        cls, coding: QuantizerCodes, channels: int, count: int, terms: int, sizes: tuple[int, ...]
    ) -> Accumulators:
        """Return the sums of *count* codes each."""
        ends = (coding.low * count, coding.high * count, coding.magnitude * count)
        lows, highs, magnitudes = ([end] * channels for end in ends)
        return cls([coding.scale] * channels, lows, highs, magnitudes, terms, sizes)

    @property
    def exact(self) -> list[bool]:
        """Tell for each channel whether float32 sums without rounding, in any order."""
        pairs = zip(self.scales, self.magnitudes, strict=True)
        return [sums_exactly(Fraction(scale), Fraction(0), magnitude) for scale, magnitude in pairs]


@dataclass(frozen=True, slots=True, eq=False)
class ActivationLayer:
    """An activation that can be run alone.

    Attributes:
        quantizer: the activation itself.
        output: its codes.
        accumulators: what it takes.
        norm: batch norm in front of it, or None.
        pool: mean over height and width in front of it, or None.
    """

    quantizer: nn.Module
    output: QuantizerCodes
    accumulators: Accumulators
    norm: nn.Module | None = None
    pool: nn.Module | None = None

    def run(self, accumulators: Tensor) -> Tensor:
        """Return the real values of the codes of *accumulators*, both of shape (N, channels)."""
        scaled = accumulators.float() * torch.tensor(self.accumulators.scales)
        sizes = self.accumulators.sizes
        values = scaled.new_zeros(*scaled.shape, *sizes)
        values[(..., *(0,) * len(sizes))] = scaled  # a mean takes the sum at one place and zeros beside it
        for layer in (self.pool, self.norm, self.quantizer):
            values = values if layer is None else layer(values)
        outputs: Tensor = getattr(values, "value", values)
        return outputs.reshape(scaled.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One run of *module*; what it took and made are kept, so that their identities stay their own."""

    module: nn.Module
    inputs: Any
    outputs: Any


@torch.no_grad()
def activations_of(network: nn.Module, inputs: int) -> list[ActivationLayer | None]:
    """Run *network*, in evaluation mode, on zeros of shape (1, *inputs*) and return the activations behind its input's.

    Returns:
        In the order in which they run, which is that of the integer model; None for one that cannot be run alone.
    """
    calls: list[_Call] = []

    def note(module: nn.Module, arguments: tuple[object, ...], outputs: object) -> None:
        calls.append(_Call(module, arguments[0], outputs))

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, WATCHED)]
    try:
        network(torch.zeros(1, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    trace = _Trace(calls)
    return [trace.activation(call) for call in calls if isinstance(call.module, ACTIVATIONS)][1:]


class _Trace:
    """The makers of all values in one run of a network."""

    def __init__(self, calls: list[_Call]) -> None:
        self._makers: dict[int, _Call] = {}
        for call in calls:
            if call.outputs is not call.inputs:
                self._makers.setdefault(id(call.outputs), call)
        self._uses = Counter(id(call.inputs) for call in calls if call.outputs is not call.inputs)

    def activation(self, call: _Call) -> ActivationLayer | None:
        """Return the activation that *call* ran, or None if it is not known what it takes."""
        output, maker = QuantizerCodes.of(call.module), self._maker(call.inputs, UNCHANGED)
        if output is None or maker is None:
            return None
        module, norm, pool = maker.module, None, None
        if isinstance(module, (*NORMS, *WEIGHTED)):
            norm = module if isinstance(module, NORMS) else None
            accumulators = self._product(maker)
        elif isinstance(module, Residual):
            accumulators = _summed(maker)
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            accumulators, pool = self._averaged(maker), module
        else:
            accumulators = self._codes(call.inputs)
        return None if accumulators is None else ActivationLayer(call.module, output, accumulators, norm, pool)

    def _maker(self, value: object, kinds: tuple[type[nn.Module], ...]) -> _Call | None:
        """Return the call that made *value*, in front of all layers of *kinds*."""
        maker = self._makers.get(id(value))
        while maker is not None and isinstance(maker.module, kinds):
            maker = self._makers.get(id(maker.inputs))
        return maker

    def _coding(self, value: object) -> QuantizerCodes | None:
        """Return the codes that *value* holds, or None if it does not hold those of one quantizer."""
        maker = self._maker(value, CARRIED)
        return QuantizerCodes.of(maker.module) if maker is not None and isinstance(maker.module, ACTIVATIONS) else None

    def _codes(self, value: Any) -> Accumulators | None:  # noqa: ANN401  plain or a QuantTensor
        coding = self._coding(value)
        return None if coding is None else Accumulators.of_codes(coding, value.shape[1], 1, 1, _ones(value))

    def _product(self, call: _Call) -> Accumulators | None:
        """Return the sums of the layer with weights that *call* ran or, a batch norm, took.

        One that others use, too, is not negated by the lowering if its channels fall; it is left out.
        """
        if isinstance(call.module, NORMS):
            known = call.module.running_mean is not None and call.module.weight is not None
            maker = self._maker(call.inputs, UNCHANGED)
            if not known or maker is None or self._uses[id(call.outputs)] > 1:
                return None
            call = maker
        coding = self._coding(call.inputs)
        if not isinstance(call.module, WEIGHTED) or coding is None or self._uses[id(call.outputs)] > 1:
            return None
        return None if call.module.bias is not None else _weighted(call, coding)

    def _averaged(self, call: _Call) -> Accumulators | None:
        coding, (channels, *sizes) = self._coding(call.inputs), call.inputs.shape[1:]
        if coding is None or call.module.output_size not in (1, (1, 1)):
            return None
        count = prod(sizes)
        return Accumulators.of_codes(coding, channels, count, count + 2, tuple(sizes))  # height, then width divides


def _weighted(call: _Call, coding: QuantizerCodes) -> Accumulators:
    weights = call.module.quant_weight()
    codes = weights.int().detach().long().flatten(1)
    scales: list[float] = weights.scale.detach().reshape(-1).expand(len(codes)).tolist()
    positive, negative = codes.clamp(min=0).sum(1), codes.clamp(max=0).sum(1)
    return Accumulators(
        scales=[coding.scale * scale for scale in scales],
        lows=(positive * coding.low + negative * coding.high).tolist(),
        highs=(positive * coding.high + negative * coding.low).tolist(),
        magnitudes=(codes.abs().sum(1) * coding.magnitude).tolist(),
        terms=codes.shape[1],
        sizes=_ones(call.outputs),
    )


def _summed(call: _Call) -> Accumulators | None:
    """Return the sums of both ways: their quantizer is one, so that its scale is the unit."""
    coding = QuantizerCodes.of(call.module.quantizer)
    return None if coding is None else Accumulators.of_codes(coding, call.outputs.shape[1], 2, 4, _ones(call.outputs))


def _ones(values: Any) -> tuple[int, ...]:  # noqa: ANN401  plain or a QuantTensor
    return (1,) * (len(values.shape) - 2)
