"""The quantized layers of a network, in execution order, with the scales that turn their reals into codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.scaling import StatsFromParameterScaling
from torch import nn

from bitproof.pipeline import InputError

BEGIN = (
    "begin it with train.models.quantized_input(model), or a QuantIdentity of model.input_bits unsigned bits and the "
    "constant scale 2^-bits, with return_quant_tensor=True"
)
CHAIN = "QuantIdentity; then QuantLinear, BatchNorm1d, QuantReLU any number of times; then QuantLinear"


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedLayer:
    """One linear layer and, but for the last, its batch norm and activation.

    Attributes:
        linear: the layer with quantized weights.
        norm: batch norm behind it, or None.
        activation: quantized activation behind that, or None.
        input_scale: real value of one input code.
        input_levels: number of input codes above 0.
    """

    linear: nn.Module
    norm: nn.Module | None
    activation: nn.Module | None
    input_scale: float
    input_levels: int

    @property
    def weight_codes(self) -> torch.Tensor:
        """Integer weights, shape (outputs, inputs)."""
        codes: torch.Tensor = self.linear.quant_weight().int().detach()
        return codes

    @property
    def accumulator_scales(self) -> list[float]:
        """Real value of one accumulator unit of every output channel: input scale times weight scale."""
        channels = self.linear.weight.shape[0]
        scales: list[float] = self.linear.quant_weight().scale.detach().reshape(-1).expand(channels).tolist()
        return [self.input_scale * scale for scale in scales]

    @property
    def accumulator_scale(self) -> float:
        """Real value of one accumulator unit, if all output channels share it.

        Raises:
            InputError: they do not.
        """
        scales = set(self.accumulator_scales)
        if len(scales) != 1:
            raise InputError(
                f"the output layer has {len(scales)} weight scales; give it one, so that the codes of classes compare"
            )
        return scales.pop()

    @property
    def output_scale(self) -> float:
        """Real value of one output code of the activation."""
        assert self.activation is not None, "the last layer has no activation"
        return float(self.activation.act_quant.scale().detach())

    @property
    def levels(self) -> int:
        """Number of output codes above 0."""
        assert self.activation is not None, "the last layer has no activation"
        return _levels(self.activation)


def _levels(quantizer: nn.Module) -> int:
    return (1 << int(quantizer.act_quant.bit_width())) - 1


@torch.no_grad()
def quantized_layers(network: nn.Module) -> list[QuantizedLayer]:
    """Return the layers of *network*, a chain in the order of ``network.modules()``, in evaluation mode.

    Raises:
        InputError: it is not a chain of an input quantizer, then linear, batch norm and activation, then linear.
    """
    kinds = (qnn.QuantIdentity, qnn.QuantLinear, nn.BatchNorm1d, qnn.QuantReLU, qnn.QuantConv2d, nn.BatchNorm2d)
    chain = [module for module in network.modules() if isinstance(module, kinds)]
    names = ", ".join(type(module).__name__ for module in chain) or "none of these layers"
    refusal = InputError(f"the network has {names}; supported: {CHAIN}")
    if not chain or not isinstance(chain[0], qnn.QuantIdentity):
        raise refusal
    layers: list[QuantizedLayer] = []
    scale, levels = float(chain[0].act_quant.scale().detach()), _levels(chain[0])
    for position in range(1, len(chain), 3):
        linear, rest = chain[position], chain[position + 1 : position + 3]
        if not isinstance(linear, qnn.QuantLinear):
            raise refusal
        if linear.bias is not None:
            raise InputError("a QuantLinear of the network has a bias; use bias=False (the batch norm has one)")
        if not rest:
            return [*layers, QuantizedLayer(linear, None, None, scale, levels)]
        if [type(module) for module in rest] != [nn.BatchNorm1d, qnn.QuantReLU]:
            raise refusal
        layer = QuantizedLayer(linear, rest[0], rest[1], scale, levels)
        layers.append(layer)
        scale, levels = layer.output_scale, layer.levels
    raise refusal


def input_scale_of(network: nn.Module) -> float:
    """Return the real value of one code of the input quantizer of *network*, in evaluation mode.

    Raises:
        InputError: it has none.
    """
    quantizer = next((module for module in network.modules() if isinstance(module, qnn.QuantIdentity)), None)
    if quantizer is None:
        raise InputError(f"the network has no input quantizer; {BEGIN}")
    return float(quantizer.act_quant.scale().detach())


@dataclass(frozen=True, slots=True)
class Ends:
    """What one code is worth at both ends of a network, and the sums that its outputs are.

    Attributes:
        input_scale: real value of one input code.
        output_scale: real value of one output code.
        magnitudes: for each output a bound on the sum of the magnitudes of its terms, in output codes.
        terms: how many terms an output has.
    """

    input_scale: float
    output_scale: float
    magnitudes: tuple[int, ...]
    terms: int

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return len(self.magnitudes)


@torch.no_grad()
def ends_of(network: nn.Module, inputs: int) -> Ends:
    """Run *network*, in evaluation mode, on zeros of shape (1, *inputs*) and return the scales at its ends.

    Raises:
        InputError: it has no input quantizer, or its outputs are not those of a layer with one weight scale, without
            bias, behind a quantizer that tells its scale.
    """
    input_scale = input_scale_of(network)
    calls: list[tuple[nn.Module, Any, object]] = []

    def keep(layer: nn.Module, arguments: tuple[object, ...], outputs: object) -> None:
        calls.append((layer, arguments[0], outputs))

    hooks = [layer.register_forward_hook(keep) for layer in quantized_weights(network)]
    try:
        outputs = network(torch.zeros(1, inputs))
    finally:
        for hook in hooks:
            hook.remove()
    if not calls or calls[-1][2] is not outputs:
        raise InputError(
            "the outputs of the network are not those of its last layer with quantized weights; return what that gives"
        )
    layer, values, _ = calls[-1]
    _require_known_scale(layer, values)
    weight_scale = layer.quant_weight().scale.detach()
    if weight_scale.numel() != 1:
        raise InputError(
            f"the output layer has {weight_scale.numel()} weight scales; give it one, so that codes of outputs compare"
        )
    largest = (1 << int(values.bit_width)) - 1  # of an unsigned input code; a signed one is not larger
    weights = layer.quant_weight().int().long().flatten(1).abs().sum(1)
    return Ends(
        input_scale,
        float(values.scale) * float(weight_scale),
        tuple(int(magnitude) * largest for magnitude in weights),
        layer.weight[0].numel(),
    )


def _require_known_scale(layer: nn.Module, values: Any) -> None:  # noqa: ANN401  a tensor, or a brevitas QuantTensor
    """Refuse the output *layer*, which takes *values*, unless its outputs are whole multiples of one known scale."""
    name = f"the output layer, a {type(layer).__name__},"
    scale = getattr(values, "scale", None)
    if layer.bias is not None:
        raise InputError(f"{name} has a bias, which is no whole number of output codes; give it bias=False")
    if getattr(layer.output_quant, "is_quant_enabled", False):
        raise InputError(f"{name} quantizes its outputs; leave out output_quant: sums are compared as they are")
    if scale is None:
        raise InputError(
            f"{name} takes values that do not tell their scale; give the quantizer before it return_quant_tensor=True, "
            "and put between the two only layers that keep it, such as Flatten, Dropout and MaxPool2d"
        )
    if scale.numel() != 1:
        raise InputError(f"{name} takes values with {scale.numel()} scales; give the quantizer before it one")


def quantized_weights(network: nn.Module) -> list[nn.Module]:
    """Return the modules of *network* whose weights are quantized.

    Raises:
        InputError: there is none.
    """
    found = [module for module in network.modules() if isinstance(module, (qnn.QuantLinear, qnn.QuantConv2d))]
    if not found:
        raise InputError("the network has no quantized weights; build it from brevitas layers such as QuantLinear")
    return found


def require_fixed_steps(network: nn.Module) -> None:
    """Refuse weight scales that follow the weights: a perturbation would move the whole grid.

    Raises:
        InputError: a quantized layer computes its scale from its weights at every pass.
    """
    for name, module in network.named_modules():
        if isinstance(module, StatsFromParameterScaling):
            raise InputError(
                f"an estimator that perturbs weights: {name} computes its scale from the weights at every pass; "
                "give the weight quantizer scaling_impl_type = PARAMETER_FROM_STATS, or use the estimator 'ste'"
            )


@torch.no_grad()
def require_input_codes(network: nn.Module, input_bits: int) -> None:
    """Refuse an input quantizer that would not pass the codes of the data set unchanged.

    Raises:
        InputError: there is none, it is signed, or its bits or its scale are not those of the codes.
    """
    quantizers = (module for module in network.modules() if isinstance(module, qnn.QuantIdentity))
    quantizer = next(quantizers, None)
    if quantizer is None:
        raise InputError(f"the network has no input quantizer; {BEGIN}")
    was_training = quantizer.training
    proxy = quantizer.eval().act_quant  # a pass in training mode would collect statistics
    found = (bool(proxy.is_signed), int(proxy.bit_width()), float(proxy.scale()))
    quantizer.train(was_training)
    if found != (False, input_bits, 2.0**-input_bits):
        raise InputError(
            f"the network's input quantizer is {'signed' if found[0] else 'unsigned'}, has {found[1]} bits and scale "
            f"{found[2]}; the data set has unsigned codes of model.input_bits = {input_bits} bits, worth "
            f"{2.0**-input_bits} each; {BEGIN}"
        )
