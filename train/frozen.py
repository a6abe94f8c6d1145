"""A second forward pass over a Brevitas network: scales read once, plain torch operations, the same bits.

Brevitas reads every scale, builds a tensor object around every value and asks a proxy at every layer, which costs more
than the arithmetic of a small network. Between two optimizer steps the scales do not change, so they are read once; a
perturbed pass then quantizes the weights and runs. That also freezes scales that follow the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import brevitas.nn as qnn
import torch
from brevitas.core.quant import BinaryQuant, ClampedBinaryQuant, RescalingIntQuant
from torch import Tensor, nn
from torch.nn import functional

Forward = Callable[[Tensor], Tensor]
"""Real inputs, shape (N, inputs), to outputs, shape (N, classes)."""

PASSED_THROUGH = (
    nn.AdaptiveAvgPool2d,
    nn.AvgPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.Identity,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.ReLU,
    nn.Unflatten,
    nn.ZeroPad2d,
)
"""Layers of torch that read plain tensors and have no state of their own."""
WEIGHTED = (qnn.QuantLinear, qnn.QuantConv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS = (qnn.QuantIdentity, qnn.QuantReLU)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The values that a quantizer can give: ``scale`` times the integers from *low* to *high*; None: -1 and 1 only."""

    scale: Tensor
    low: float | None
    high: float | None

    def quantize(self, values: Tensor) -> Tensor:
        """Return *values* rounded half to even and saturated, as reals; *values* is overwritten."""
        if self.low is None:
            return torch.where(values >= 0, self.scale, -self.scale)
        return values.div_(self.scale).round_().clamp_(self.low, self.high).mul_(self.scale)


def grid_of(tensor_quant: nn.Module, sample: Tensor) -> Grid:
    """Read the grid of a quantizer; *sample* is a tensor of the kind that it quantizes.

    Raises:
        TypeError: it is of a kind that is not known here, or has a zero point.
    """
    with torch.no_grad():
        if isinstance(tensor_quant, BinaryQuant | ClampedBinaryQuant):
            return Grid(tensor_quant.scaling_impl(sample), None, None)
        if not isinstance(tensor_quant, RescalingIntQuant) or "float_to_int_impl" not in dir(tensor_quant.int_quant):
            raise TypeError(f"quantizer {type(tensor_quant).__name__}")
        bits = tensor_quant.msb_clamp_bit_width_impl()
        scale = tensor_quant.scaling_impl(sample, tensor_quant.int_scaling_impl(bits))
        if bool(tensor_quant.zero_point_impl(sample, scale, bits).any()):
            raise TypeError("a quantizer with a zero point")
        low, high = tensor_quant.int_quant.min_int(bits), tensor_quant.int_quant.max_int(bits)
        return Grid(scale, float(low), float(high))


def weight_scale(layer: nn.Module) -> Tensor:
    """Return the quantization step of the weights of *layer*, detached; broadcasts to the weights.

    For -1 and 1 the step between the two values is twice the scale; the scale, the reach of the surrogate, is returned.
    """
    return grid_of(layer.weight_quant.tensor_quant, layer.weight.detach()).scale.detach()


class FrozenForward:
    """The forward pass of a ``Sequential`` (nested or not) of known layers.

    The layers are read once; :meth:`freeze` reads the scales, after every optimizer step.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = _flatten(network)
        self._grids: list[Grid | None] = []

    def freeze(self) -> None:
        """Read all scales."""
        self._grids = [_grid_of_layer(layer) for layer in self._layers]

    def __call__(self, values: Tensor) -> Tensor:
        """Return the outputs, shape (N, classes), of *values*, shape (N, inputs), which is not overwritten."""
        return self._run(values.clone(), 0, len(self._layers))

    def for_one_batch(self) -> Forward:
        """Return this pass for one tensor of inputs; what comes before the first layer with weights is run once."""
        first = next((i for i, layer in enumerate(self._layers) if isinstance(layer, WEIGHTED)), 0)
        prefixed: list[tuple[Tensor, Tensor]] = []

        def forward(values: Tensor) -> Tensor:
            if not prefixed or prefixed[0][0] is not values:
                prefixed[:] = [(values, self._run(values.clone(), 0, first))]
            return self._run(prefixed[0][1], first, len(self._layers))

        return forward

    def _run(self, values: Tensor, start: int, stop: int) -> Tensor:
        for layer, grid in zip(self._layers[start:stop], self._grids[start:stop], strict=True):
            values = _apply(layer, grid, values)
        return values


def _flatten(network: nn.Module) -> list[nn.Module]:
    """Return the layers of *network* in execution order.

    Raises:
        TypeError: a module is not known here; the message names it.
    """
    if type(network) is nn.Sequential:
        return [layer for child in network for layer in _flatten(child)]
    known = (*WEIGHTED, *NORMS, *ACTIVATIONS, *PASSED_THROUGH)
    hooked = any(getattr(network, name) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
    if type(network) not in known or hooked:
        raise TypeError(f"layer {type(network).__name__}{' with hooks' if hooked else ''}")
    if isinstance(network, WEIGHTED):
        quantizers = (network.input_quant, network.output_quant, network.bias_quant)
        if any(quantizer.is_quant_enabled for quantizer in quantizers):
            raise TypeError(f"layer {type(network).__name__} with a quantizer beside that of its weights")
        if isinstance(network, qnn.QuantConv2d) and network.padding_mode != "zeros":
            raise TypeError(f"layer {type(network).__name__} with padding_mode {network.padding_mode!r}")
    return [network]


def _grid_of_layer(layer: nn.Module) -> Grid | None:
    if isinstance(layer, WEIGHTED):
        weights: nn.Module = layer.weight_quant.tensor_quant
        return grid_of(weights, layer.weight.detach())
    if not isinstance(layer, ACTIVATIONS):
        return None
    quantizer: nn.Module = layer.act_quant.fused_activation_quant_proxy.tensor_quant
    was_training = quantizer.training
    quantizer.eval()  # a training pass would collect statistics
    try:
        return grid_of(quantizer, torch.zeros(()))
    finally:
        quantizer.train(was_training)


def _apply(layer: nn.Module, grid: Grid | None, values: Tensor) -> Tensor:
    if isinstance(layer, qnn.QuantLinear):
        assert grid is not None
        return functional.linear(values, grid.quantize(layer.weight.detach().clone()), layer.bias)
    if isinstance(layer, qnn.QuantConv2d):
        assert grid is not None
        weights = grid.quantize(layer.weight.detach().clone())
        return functional.conv2d(values, weights, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, NORMS):
        return _normalize(layer, values)
    if isinstance(layer, ACTIVATIONS):
        assert grid is not None
        # a QuantReLU's lowest code is 0: saturating there is its rectification
        return grid.quantize(values)
    output: Tensor = layer(values)
    return output


def _normalize(norm: nn.Module, values: Tensor) -> Tensor:
    """Normalize as *norm* would, by the batch in training mode; its running statistics are left alone."""
    if norm.training or norm.running_mean is None:
        return functional.batch_norm(values, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    return functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )
