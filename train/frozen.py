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
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import RoundSte
from brevitas.core.quant import BinaryQuant, ClampedBinaryQuant, IntQuant, RescalingIntQuant
from brevitas.core.zero_point import ZeroZeroPoint
from torch import Tensor, nn
from torch.nn import functional

from bitproof.train.models.parts import Residual
from bitproof.train.surrogates import SurrogateRound

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
    """The values that a quantizer can give: its scale times the integers from *low* to *high*; None: -1 and 1 only.

    Attributes:
        scaling: the module that computes the scale, from a sample of what is quantized and *threshold*.
        threshold: the integer that the scale's range is divided by; None for -1 and 1.
        low: lowest integer.
        high: highest integer.
    """

    scaling: nn.Module
    threshold: Tensor | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, tensor_quant: nn.Module) -> Grid:
        """Read what does not change in training.

        Raises:
            TypeError: the quantizer is of a kind that is not known here, or has a zero point.
        """
        if isinstance(tensor_quant, BinaryQuant | ClampedBinaryQuant):
            return cls(tensor_quant.scaling_impl, None)
        if not isinstance(tensor_quant, RescalingIntQuant) or type(tensor_quant.int_quant) is not IntQuant:
            raise TypeError(f"quantizer {type(tensor_quant).__name__}")
        if not isinstance(tensor_quant.int_quant.float_to_int_impl, RoundSte | SurrogateRound):
            raise TypeError(f"rounding {type(tensor_quant.int_quant.float_to_int_impl).__name__}")
        if not isinstance(tensor_quant.zero_point_impl, ZeroZeroPoint):
            raise TypeError(f"zero point {type(tensor_quant.zero_point_impl).__name__}")
        if not isinstance(tensor_quant.msb_clamp_bit_width_impl, BitWidthConst):
            raise TypeError(f"bit width {type(tensor_quant.msb_clamp_bit_width_impl).__name__}")
        with torch.no_grad():
            bits = tensor_quant.msb_clamp_bit_width_impl()
            integers = tensor_quant.int_quant
            low, high = float(integers.min_int(bits)), float(integers.max_int(bits))
            return cls(tensor_quant.scaling_impl, tensor_quant.int_scaling_impl(bits), low, high)

    def scale(self, sample: Tensor) -> Tensor:
        """Return the scale as it is now; *sample* is a tensor of the kind that is quantized. No statistic advances."""
        was_training, self.scaling.training = self.scaling.training, False
        try:
            with torch.no_grad():
                scale: Tensor = self.scaling(sample, *([] if self.threshold is None else [self.threshold]))
                return scale
        finally:
            self.scaling.training = was_training

    def quantize(self, values: Tensor, scale: Tensor) -> Tensor:
        """Return *values* rounded half to even and saturated, as reals; *values* is overwritten."""
        if self.low is None:
            return torch.where(values >= 0, scale, -scale)
        return values.div_(scale).round_().clamp_(self.low, self.high).mul_(scale)

    def step(self, scale: Tensor) -> Tensor:
        """Return the distance of neighbouring values."""
        return 2 * scale if self.low is None else scale


def weight_step(layer: nn.Module) -> Tensor:
    """Return the quantization step of the weights of *layer*, which broadcasts to them."""
    grid = Grid.of(layer.weight_quant.tensor_quant)
    return grid.step(grid.scale(layer.weight))


class FrozenForward:
    """The forward pass of a ``Sequential`` (nested or not) of known layers, sums of two such among them.

    The layers are read once; :meth:`freeze` reads the scales, after every optimizer step.

    Args:
        network: must not change its layers afterwards.
        compiled: let ``torch.compile`` fuse the operations at the first pass, which takes about a minute.

    Raises:
        TypeError: a layer or a quantizer is not known here.
    """

    def __init__(self, network: nn.Module, *, compiled: bool = False) -> None:
        self._network = network
        self._layers = _pooled_first(_flatten(network))
        self._grids = [_grid_of_layer(layer) for layer in self._layers]
        self._ways = {
            position: (FrozenForward(layer.branch), FrozenForward(layer.shortcut))
            for position, layer in enumerate(self._layers)
            if isinstance(layer, Residual)
        }
        self._scales: list[Tensor | None] = []
        self._run = torch.compile(self._run_layers) if compiled else self._run_layers

    def freeze(self) -> None:
        """Read all scales."""
        for ways in self._ways.values():
            for way in ways:
                way.freeze()
        first = next(self._network.parameters(), None)
        nothing = torch.zeros((), device=None if first is None else first.device)
        self._scales = [
            None if grid is None else grid.scale(layer.weight if isinstance(layer, WEIGHTED) else nothing)
            for layer, grid in zip(self._layers, self._grids, strict=True)
        ]

    def weight_steps(self) -> dict[int, Tensor]:
        """Return the quantization steps of all weights as of :meth:`freeze`, by the ``id`` of their layer."""
        known = zip(self._layers, self._grids, self._scales, strict=True)
        steps = {key: step for ways in self._ways.values() for way in ways for key, step in way.weight_steps().items()}
        return steps | {
            id(layer): grid.step(scale)
            for layer, grid, scale in known
            if isinstance(layer, WEIGHTED) and grid is not None and scale is not None
        }

    def __call__(self, values: Tensor) -> Tensor:
        """Return the outputs, shape (N, classes), of *values*, shape (N, inputs), which is not overwritten."""
        return self._run(values.clone(), 0, len(self._layers))

    def for_one_batch(self) -> Forward:
        """Return this pass for one tensor of inputs; what comes before the first layer with weights is run once."""
        first = next((i for i, layer in enumerate(self._layers) if isinstance(layer, (*WEIGHTED, Residual))), 0)
        prefixed: list[tuple[Tensor, Tensor]] = []

        def forward(values: Tensor) -> Tensor:
            if not prefixed or prefixed[0][0] is not values:
                prefixed[:] = [(values, self._run(values.clone(), 0, first))]
            return self._run(prefixed[0][1], first, len(self._layers))

        return forward

    def _run_layers(self, values: Tensor, start: int, stop: int) -> Tensor:
        for position in range(start, stop):
            grid, scale = self._grids[position], self._scales[position]
            if position in self._ways:
                assert grid is not None, "a sum has a quantizer"
                assert scale is not None, "freeze comes first"
                branch, shortcut = self._ways[position]
                values = grid.quantize(branch(values), scale) + grid.quantize(shortcut(values), scale)
            else:
                values = _apply(self._layers[position], grid, scale, values)
        return values


def _flatten(network: nn.Module) -> list[nn.Module]:
    """Return the layers of *network* in execution order.

    Raises:
        TypeError: a module is not known here; the message names it.
    """
    if type(network) is nn.Sequential:
        return [layer for child in network for layer in _flatten(child)]
    known = (*WEIGHTED, *NORMS, *ACTIVATIONS, *PASSED_THROUGH, Residual)
    hooked = any(getattr(network, name) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
    if type(network) not in known or hooked:
        raise TypeError(f"layer {type(network).__name__}{' with hooks' if hooked else ''}")
    if isinstance(network, Residual):
        _flatten(network.quantizer)
    if isinstance(network, WEIGHTED):
        quantizers = (network.input_quant, network.output_quant, network.bias_quant)
        if any(quantizer.is_quant_enabled for quantizer in quantizers):
            raise TypeError(f"layer {type(network).__name__} with a quantizer beside that of its weights")
        if isinstance(network, qnn.QuantConv2d) and network.padding_mode != "zeros":
            raise TypeError(f"layer {type(network).__name__} with padding_mode {network.padding_mode!r}")
    return [network]


def _pooled_first(layers: list[nn.Module]) -> list[nn.Module]:
    """Move max pooling in front of the activation before it: rounding is monotone, so they commute, on fewer values."""
    ordered: list[nn.Module] = []
    for layer in layers:
        behind = ordered and isinstance(ordered[-1], ACTIVATIONS) and isinstance(layer, nn.MaxPool1d | nn.MaxPool2d)
        ordered.insert(len(ordered) - 1 if behind else len(ordered), layer)
    return ordered


def _grid_of_layer(layer: nn.Module) -> Grid | None:
    if isinstance(layer, WEIGHTED):
        return Grid.of(layer.weight_quant.tensor_quant)
    if isinstance(layer, Residual):
        grid = _grid_of_layer(layer.quantizer)
        if grid is None:
            raise TypeError(f"quantizer without a grid: {type(layer.quantizer).__name__}")
        return grid
    if isinstance(layer, ACTIVATIONS):
        return Grid.of(layer.act_quant.fused_activation_quant_proxy.tensor_quant)
    return None


def _apply(layer: nn.Module, grid: Grid | None, scale: Tensor | None, values: Tensor) -> Tensor:
    """Run *layer*; *values* may be overwritten only by what comes right behind a layer that made them."""
    if grid is not None and scale is not None:
        if not isinstance(layer, WEIGHTED):
            # a QuantReLU's lowest code is 0: saturating there is its rectification
            return grid.quantize(values, scale)
        weights = grid.quantize(layer.weight.detach().clone(), scale)
        if isinstance(layer, qnn.QuantLinear):
            return functional.linear(values, weights, layer.bias)
        return functional.conv2d(values, weights, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, NORMS):
        return _normalize(layer, values)
    output: Tensor = _max_by_halves(values) if _pools_in_twos(layer, values) else layer(values)
    return output


def _pools_in_twos(layer: nn.Module, values: Tensor) -> bool:
    two, one, none = (2, (2, 2)), (1, (1, 1)), (0, (0, 0))
    return (
        isinstance(layer, nn.MaxPool2d)
        and layer.kernel_size in two
        and layer.stride in two
        and layer.padding in none
        and layer.dilation in one
        and (not layer.ceil_mode or (values.shape[-1] % 2 == 0 and values.shape[-2] % 2 == 0))
    )


def _max_by_halves(values: Tensor) -> Tensor:
    """Return the maxima of 2 x 2 fields, shape (N, C, H // 2, W // 2), of *values*, shape (N, C, H, W).

    Two element-wise maxima run several times faster on a CPU than the pooling kernel, which also finds indices.
    """
    height, width = values.shape[-2] // 2 * 2, values.shape[-1] // 2 * 2
    rows = torch.maximum(values[..., 0:height:2, :width], values[..., 1:height:2, :width])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _normalize(norm: nn.Module, values: Tensor) -> Tensor:
    """Normalize as *norm* would, by the batch in training mode; its running statistics are left alone."""
    if norm.training or norm.running_mean is None:
        return functional.batch_norm(values, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    return functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )
